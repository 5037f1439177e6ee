//! Materialised views: they change when they are refreshed, and not when their tables do.

use std::time::Instant;

use larder_testkit::{Login, each_version};

use crate::freshness::{MAX_LAG, Protocol, SLACK, rows};
use crate::twins::{Twins, rig};

const SCHEMA: &str =
    "CREATE TABLE source (id int PRIMARY KEY, v int); INSERT INTO source VALUES (1, 0), (2, 0);
    CREATE TABLE other (v int); INSERT INTO other VALUES (0);
    CREATE MATERIALIZED VIEW report AS SELECT id, v FROM source; CREATE UNIQUE INDEX ON report (id);
    CREATE VIEW over_report AS SELECT sum(v) AS v FROM report;";

/// Each is one transaction.
const REFRESHES: &[&[&str]] = &[
    &["REFRESH MATERIALIZED VIEW report"],
    &["REFRESH MATERIALIZED VIEW CONCURRENTLY report"],
    &["BEGIN", "UPDATE other SET v = v + 1", "REFRESH MATERIALIZED VIEW report", "COMMIT"],
    &["BEGIN", "UPDATE other SET v = v + 1", "REFRESH MATERIALIZED VIEW CONCURRENTLY report", "COMMIT"],
    &[
        "BEGIN",
        "UPDATE source SET v = v + 1",
        "REFRESH MATERIALIZED VIEW report",
        "UPDATE other SET v = 0",
        "COMMIT",
    ],
    &["REFRESH MATERIALIZED VIEW report WITH NO DATA"],
    &["REFRESH MATERIALIZED VIEW report"],
];

#[tokio::test]
async fn materialised_views_are_refreshed() {
    each_version(async |pg| {
        let rig = rig(pg, SCHEMA).await;
        let mut through = rig.client().await;
        let mut around = rig.direct().await;
        let mut twins = Twins::new(&rig, &Login::superuser()).await;
        for read in ["SELECT * FROM report ORDER BY id", "SELECT v FROM over_report"] {
            for (number, steps) in REFRESHES.iter().chain(REFRESHES).enumerate() {
                let passes = number < REFRESHES.len();
                let writer = if passes { &mut through } else { &mut around };
                // Written, not refreshed: the old answer is right.
                writer.run("UPDATE source SET v = v + 1").await;
                for how in Protocol::ALL {
                    if twins.ask(how, read).await.rows().is_ok() {
                        twins.hit(how, read).await;
                    }
                }
                for step in *steps {
                    writer.run(step).await;
                }
                let expected = rows(&twins.direct.try_ask(Protocol::Simple, read, None).await.unwrap());
                let start = Instant::now();
                for how in Protocol::ALL {
                    while !passes && twins.larder.ask_with(how, read, None).await.rows() != expected {
                        assert!(start.elapsed() < MAX_LAG + SLACK, "{steps:?}: not {expected:?}");
                    }
                }
                for how in Protocol::ALL {
                    twins.ask(how, read).await;
                }
            }
        }
    })
    .await;
}
