//! Each driver's script prints the same whenever it runs, on each version: else it could not be compared.

use larder_testkit::{Driver, Faulty, each_version};

#[tokio::test]
async fn scripts_print_the_same_directly_and_through_a_relay() {
    each_version(async |pg| {
        let relay = Faulty::new(pg.addr()).await.unwrap();
        let relayed = format!("postgres://postgres@{}/postgres", relay.addr());
        for &driver in Driver::ALL {
            let direct = driver.run(&pg.url("postgres", "postgres")).await.unwrap();
            assert!(direct.lines().count() > 100, "{driver:?} printed only {direct}");
            let through = driver.run(&relayed).await.unwrap();
            let difference = direct.lines().zip(through.lines()).find(|(d, t)| d != t);
            assert_eq!(difference, None, "{driver:?}");
            assert_eq!(direct.len(), through.len(), "{driver:?}");
        }
    })
    .await;
}
