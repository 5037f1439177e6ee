//! The promise under load: who waits until the log has caught up is given nothing older than what had been committed
//! before, and most answers come from memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};

use larder_cache::Source;
use larder_sandbox::PgVersion;
use tokio::task::JoinSet;

use crate::rig::{LIMIT, Rig, connect};

const READERS: usize = 8;
const WRITES: i64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_has_waited_is_given_the_past() {
    let rig = Rig::start(
        PgVersion::V18,
        "create table t (id int primary key, n bigint); insert into t values (1, 0)",
    )
    .await;
    let (committed, done, hits) =
        (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        let client = Arc::new(connect(&rig.pg).await);
        let (cache, committed, done, hits) =
            (rig.cache.clone(), committed.clone(), done.clone(), hits.clone());
        tasks.spawn(async move {
            while !done.load(SeqCst) {
                let known = committed.load(SeqCst);
                assert!(cache.caught_up(LIMIT).await);
                for _ in 0..20 {
                    let client = Arc::clone(&client);
                    let load = move |_| async move {
                        let row = client.query_one("select n from t where id = 1", &[]).await?;
                        Ok::<i64, tokio_postgres::Error>(row.get(0))
                    };
                    let loaded = cache.entry("n").tags(["row:public.t:id=1"]).or_load(load).await.unwrap();
                    assert!(*loaded >= known, "{known} was committed, and {} was given", *loaded);
                    hits.fetch_add(u64::from(loaded.source() == Source::L1), SeqCst);
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    for n in 1..=WRITES {
        rig.client.execute("update t set n = $1 where id = 1", &[&n]).await.unwrap();
        committed.store(n, SeqCst);
        if n % 10 == 0 {
            // Time to be warm in.
            assert!(rig.cache.caught_up(LIMIT).await);
        }
    }
    done.store(true, SeqCst);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(hits.load(SeqCst) > 0, "nothing came from memory: {:?}", rig.cache.metrics());
}
