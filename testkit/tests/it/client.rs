//! The raw client against real servers.

use std::time::Duration;

use larder_testkit::{Auth, Login, RawClient, each_version, frame, pg15, pg18};

#[tokio::test]
async fn logs_in_with_every_method() {
    each_version(async |mut pg| {
        for auth in [Auth::Trust, Auth::Password, Auth::Md5, Auth::Scram] {
            let user = format!("user_{}", auth.hba_name());
            pg.create_user(&user, "it's \"secret\"", auth).unwrap();
            let login = Login::new(&user, "postgres").password("it's \"secret\"");
            let mut client = RawClient::login(pg.addr(), &login).await.unwrap();
            assert_eq!(client.value("select current_user").await.unwrap(), user);
            let demand = client.greeting()[0].body.to_vec();
            let expected = match auth {
                Auth::Trust => 0,
                Auth::Password => 3,
                Auth::Md5 => 5,
                Auth::Scram => 10,
            };
            assert_eq!(demand[..4], [0, 0, 0, expected]);
            if auth != Auth::Trust {
                let wrong = RawClient::login(pg.addr(), &login.password("wrong")).await.unwrap_err();
                assert!(wrong.to_string().contains("C28P01"), "{wrong:#}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn simple_and_extended_answers_come_frame_by_frame() {
    let pg = pg15();
    let mut client = RawClient::superuser(pg.addr()).await.unwrap();
    let tags =
        |frames: &[larder_testkit::Frame]| frames.iter().map(|f| char::from(f.tag)).collect::<String>();
    let frames = client.query("select 1, null; select 'x' where false").await.unwrap();
    assert_eq!(tags(&frames), "TDCTCZ");
    assert_eq!(frames[1].values(), [Some("1".to_owned()), None]);
    let frames = client.extended("select $1::int + 1", &[Some("41")]).await.unwrap();
    assert_eq!(tags(&frames), "12TDCZ");
    assert_eq!(frames[3].values(), [Some("42".to_owned())]);
    let frames = client.query("select 1/0").await.unwrap();
    assert_eq!(tags(&frames), "EZ");
    assert_eq!(frames[0].field(b'C').unwrap(), "22012");
    assert_eq!(client.parameters()["server_encoding"], "UTF8");
}

#[tokio::test]
async fn every_kind_of_message_can_be_sent() {
    let pg = pg18();
    let mut client = RawClient::superuser(pg.addr()).await.unwrap();
    client.query("create table t (i int)").await.unwrap();
    client.send(frame::query("copy t from stdin")).await.unwrap();
    client.until(b'G').await.unwrap();
    client
        .send_all(&[frame::copy_data(b"1\n2\n"), frame::copy_data(b"3\n"), frame::copy_done()])
        .await
        .unwrap();
    client.until_ready().await.unwrap();
    assert_eq!(client.value("select sum(i) from t").await.unwrap(), "6");
    client.send(frame::query("copy t from stdin")).await.unwrap();
    client.until(b'G').await.unwrap();
    client.send(frame::copy_fail("no more")).await.unwrap();
    assert!(client.until_ready().await.unwrap()[0].field(b'M').unwrap().contains("no more"));
    let oid = client.value("select 'pg_catalog.int4abs'::regproc::oid").await.unwrap().parse().unwrap();
    client.send(frame::function_call(oid, &[Some("-5")])).await.unwrap();
    assert_eq!(client.until_ready().await.unwrap()[0].body, &b"\0\0\0\x015"[..]);
    client
        .send_all(&[frame::parse("s", "select 7", &[]), frame::describe_statement("s"), frame::flush()])
        .await
        .unwrap();
    client.until(b'T').await.unwrap();
    client
        .send_all(&[frame::bind("p", "s", &[]), frame::execute("p", 0), frame::close_portal("p")])
        .await
        .unwrap();
    client.send_all(&[frame::close_statement("s"), frame::sync(), frame::terminate()]).await.unwrap();
    let rest = client.until_closed().await.unwrap();
    assert_eq!(rest.iter().map(|f| char::from(f.tag)).collect::<String>(), "2DC33Z");
}

#[tokio::test]
async fn cancels_by_key_also_with_the_long_keys_of_protocol_3_2() {
    let pg = pg18();
    for version in [3 << 16, 3 << 16 | 2] {
        let mut client = RawClient::login(pg.addr(), &Login::superuser().version(version)).await.unwrap();
        let key = client.cancel_key().unwrap();
        assert_eq!(key.secret.len(), if version == 3 << 16 { 4 } else { 32 });
        client.send(frame::query("select pg_sleep(60)")).await.unwrap();
        let mut watcher = RawClient::superuser(pg.addr()).await.unwrap();
        let asleep = format!("select wait_event = 'PgSleep' from pg_stat_activity where pid = {}", key.pid);
        while watcher.value(&asleep).await.ok().as_deref() != Some("t") {}
        RawClient::cancel(pg.addr(), &key).await.unwrap();
        let frames = client.until(b'E').await.unwrap();
        assert_eq!(frames.last().unwrap().field(b'C').unwrap(), "57014");
    }
}

#[tokio::test]
async fn a_silent_server_is_an_error_after_the_limit() {
    let pg = pg15();
    let mut client = RawClient::superuser(pg.addr()).await.unwrap();
    client.set_limit(Duration::from_millis(50));
    let error = client.query("select pg_sleep(60)").await.unwrap_err();
    assert!(format!("{error:#}").contains("nothing comes for 50ms"), "{error:#}");
}
