//! Statements whose columns change after they were prepared.

use std::time::{Duration, Instant};

use larder_testkit::frame::{bind, describe_statement, execute, parse, sync};
use larder_testkit::{Frame, RawClient};

use crate::transparency::{VERSIONS, pair};

/// A statement that only Larder knows, and other columns of its table: the origin would refuse to run it, and so must
/// Larder. Rows of the new columns would be read as if they were of the old.
#[tokio::test]
async fn columns_that_change_under_a_statement() {
    for version in VERSIONS {
        let pair = pair(version).await;
        pair.pg.sql("drop table if exists shape; create table shape as select 1 as a, 2 as b").unwrap();
        for round in 0..3 {
            let mut client = RawClient::superuser(pair.larder.addr()).await.unwrap();
            let named = [bind("", "s", &[]), execute("", 0), sync()];
            client
                .send_all(&[parse("s", "select * from shape", &[]), describe_statement("s"), sync()])
                .await
                .unwrap();
            let told = client.until_ready().await.unwrap();
            let columns = told.iter().find(|frame| frame.tag == b'T').unwrap().body[1];
            pair.pg.sql(&format!("alter table shape add column c{round} int")).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                client.send_all(&named).await.unwrap();
                let frames = client.until_ready_or_closed().await;
                if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
                    assert_eq!(error.field(b'C').as_deref(), Some("0A000"), "{error:?}");
                    break;
                }
                let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
                assert_eq!(row.body[1], columns, "rows of other columns than the client was told of");
                assert!(Instant::now() < deadline, "the change is never noticed");
            }
        }
        pair.covered().await;
    }
}

/// Also ends where the session does.
trait UntilReadyOrClosed {
    async fn until_ready_or_closed(&mut self) -> Vec<Frame>;
}

impl UntilReadyOrClosed for RawClient {
    async fn until_ready_or_closed(&mut self) -> Vec<Frame> {
        let mut frames = vec![];
        while let Some(frame) = self.next().await.unwrap() {
            let ready = frame.tag == b'Z';
            frames.push(frame);
            if ready {
                break;
            }
        }
        frames
    }
}
