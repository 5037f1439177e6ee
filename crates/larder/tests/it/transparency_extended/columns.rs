//! Statements whose columns change after they were prepared.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_testkit::frame::{bind, close_statement, describe_statement, execute, parse, query, sync};
use larder_testkit::{Frame, RawClient};

use crate::transparency::{Pair, VERSIONS, pair};

const SQL: &str = "select * from shape";

/// What a client hears: the frames' types, an error with its code, message and routine.
fn heard(frames: &[Frame]) -> Vec<String> {
    let error =
        |frame: &Frame| "CMR".chars().filter_map(|field| frame.field(field as u8)).collect::<Vec<_>>();
    let said = |frame: &Frame| match frame.tag {
        b'E' => format!("E {}", error(frame).join("; ")),
        b'Z' => format!("Z {}", char::from(frame.body[0])),
        tag => char::from(tag).to_string(),
    };
    frames.iter().map(said).collect()
}

async fn say(client: &mut RawClient, messages: &[Bytes]) -> Vec<Frame> {
    client.send_all(messages).await.unwrap();
    client.until_ready().await.unwrap()
}

/// Until the statement is prepared, described and answered here, with the columns that it has now.
async fn warm(pair: &Pair) {
    let mut client = RawClient::superuser(pair.larder.addr()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let told = say(&mut client, &[parse("", SQL, &[]), describe_statement(""), sync()]).await;
        say(&mut client, &[bind("", "", &[]), execute("", 0), sync()]).await;
        let hit = client.value("show larder.last").await.unwrap().starts_with("hit");
        if hit && told.iter().any(|frame| frame.tag == b'T' && frame.body[1] == 2) {
            return;
        }
        assert!(Instant::now() < deadline, "no hit");
    }
}

/// A statement that only Larder knows, and other columns of its table: the origin would refuse to run it, and so must
/// Larder. Rows of the new columns would be read as if they were of the old.
#[tokio::test]
async fn columns_that_change_under_a_statement() {
    for version in VERSIONS {
        let pair = pair(version).await;
        pair.pg.sql("drop table if exists shape, journal; create table journal (n int)").unwrap();
        let mut ours = 0;
        for round in 0..5 {
            pair.pg.sql("drop table if exists shape; create table shape as select 1 as a, 2 as b").unwrap();
            warm(&pair).await;
            let prepare = [parse("s", SQL, &[]), describe_statement("s"), sync()];
            let mut direct = RawClient::superuser(pair.pg.addr()).await.unwrap();
            say(&mut direct, &prepare).await;
            let mut through = loop {
                let mut client = RawClient::superuser(pair.larder.addr()).await.unwrap();
                let told = say(&mut client, &prepare).await;
                assert_eq!(heard(&told), ["1", "t", "T", "Z I"]);
                // One thread may not have noticed yet what another has.
                if told[2].body[1] == 2 {
                    break client;
                }
            };
            pair.pg.sql("alter table shape add column c int").unwrap();
            let run = [bind("", "s", &[]), execute("", 0), sync()];
            let deadline = Instant::now() + Duration::from_secs(10);
            let refused = loop {
                let frames = say(&mut through, &run).await;
                if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
                    // The origin's own says where in its source it was raised.
                    ours += usize::from(error.field(b'L').is_none());
                    break heard(&frames);
                }
                let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
                assert_eq!(row.body[1], 2, "rows of other columns than the client was told of");
                assert!(Instant::now() < deadline, "the change is never noticed");
            };
            assert_eq!(refused, heard(&say(&mut direct, &run).await), "round {round}");
            // It fails what it stands in, and stays refused until it is prepared again.
            let insert =
                [parse("", "insert into journal values (1)", &[]), bind("", "", &[]), execute("", 0)];
            let described = [describe_statement("s"), bind("", "s", &[]), sync()];
            let again = [close_statement("s"), parse("s", SQL, &[]), describe_statement("s")];
            let scripts = [
                run.to_vec(),
                [&insert[..], &run].concat(),
                described.to_vec(),
                vec![query("begin")],
                insert.iter().cloned().chain([sync()]).collect(),
                run.to_vec(),
                vec![query("rollback")],
                [&again[..], &run].concat(),
                run.to_vec(),
                vec![query("select * from journal")],
            ];
            for script in scripts {
                let expected = heard(&say(&mut direct, &script).await);
                assert_eq!(heard(&say(&mut through, &script).await), expected, "{script:?}");
            }
        }
        assert!(ours > 0, "no statement was known to Larder alone");
        pair.covered().await;
    }
}
