//! `drain.client_max_age`: sessions end between two transactions, at a pause if there is one.

use std::time::{Duration, Instant};

use larder_proxy::{Mode, ProxyConfig};
use larder_testkit::{Frame, InProcess, Login, Postgres, RawClient, each_version};

/// Long enough to connect in on a loaded machine.
const AGE: Duration = Duration::from_secs(4);

fn plain(origin: &Postgres) -> InProcess {
    let config = ProxyConfig { mode: Mode::Bypass, client_max_age: Some(AGE), ..InProcess::config(origin) };
    InProcess::start_without_feed(&config).unwrap()
}

async fn serving(origin: &Postgres) -> InProcess {
    let config = ProxyConfig { client_max_age: Some(AGE), ..InProcess::config(origin) };
    InProcess::start_with(origin, config).await.unwrap()
}

fn goodbye(frames: &[Frame]) -> bool {
    frames.last().and_then(|frame| frame.field(b'C')).as_deref() == Some("57P01")
}

/// One that is idle, one in a transaction, and one that makes no pause.
async fn try_all(larder: &InProcess) {
    let born = Instant::now();
    let mut idle = RawClient::superuser(larder.addr()).await.unwrap();
    let mut busy = RawClient::superuser(larder.addr()).await.unwrap();
    let mut open = RawClient::superuser(larder.addr()).await.unwrap();
    let idles = async {
        assert!(goodbye(&idle.until_closed().await.unwrap()));
        assert!(born.elapsed() > AGE.mul_f64(0.7));
    };
    let works = async {
        // Every statement is answered, or the session says goodbye instead.
        let mut answered = 0;
        while let Ok(value) = busy.value("select 1").await {
            assert_eq!(value, "1");
            answered += 1;
        }
        assert!(answered > 0 && born.elapsed() > AGE.mul_f64(0.7), "{answered} in {:?}", born.elapsed());
    };
    let transacts = async {
        open.query("begin").await.unwrap();
        tokio::time::sleep_until((born + AGE * 2).into()).await;
        assert_eq!(open.value("select 2").await.unwrap(), "2");
        open.query("commit").await.unwrap();
        assert!(goodbye(&open.until_closed().await.unwrap()));
    };
    tokio::join!(idles, works, transacts);
    // And others may come.
    assert_eq!(RawClient::superuser(larder.addr()).await.unwrap().value("select 3").await.unwrap(), "3");
}

#[tokio::test]
async fn old_sessions_end_between_transactions() {
    each_version(async |origin| try_all(&serving(&origin).await).await).await;
}

#[tokio::test]
async fn old_sessions_of_a_plain_proxy_end_between_transactions() {
    each_version(async |origin| try_all(&plain(&origin)).await).await;
}

#[tokio::test]
async fn a_replication_connection_has_no_age() {
    each_version(async |origin| {
        let larder = serving(&origin).await;
        let login = Login::superuser().parameter("replication", "database");
        let mut client = RawClient::login(larder.addr(), &login).await.unwrap();
        tokio::time::sleep(AGE * 2).await;
        assert!(!client.query("IDENTIFY_SYSTEM").await.unwrap().is_empty());
    })
    .await;
}
