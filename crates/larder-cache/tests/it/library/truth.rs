//! The one promise, at random: a value that is given had been the truth at some moment after the last invalidation
//! that the caller knew of when it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use larder_cache::{Cache, CacheBuilder};
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::Broken;

const ROWS: usize = 4;

/// What the cache is in front of: rows that only count upwards.
#[derive(Debug, Default)]
struct Database {
    rows: [AtomicU64; ROWS],
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Reads a row, with a loader that takes so long before and after it looks.
    Read { row: usize, before: u64, after: u64 },
    /// Reads all rows at once.
    ReadAll { before: u64, after: u64 },
    /// Writes a row and invalidates it by its tag, its key, or with everything.
    Write { row: usize, how: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (row, span) = (0..ROWS, 0..5_u64);
    prop_oneof![
        6 => (row.clone(), span.clone(), span.clone()).prop_map(|(row, before, after)| Step::Read { row, before, after }),
        1 => (span.clone(), span).prop_map(|(before, after)| Step::ReadAll { before, after }),
        2 => (row, 0..6_u8).prop_map(|(row, how)| Step::Write { row, how }),
    ]
}

async fn pause(ticks: u64) {
    tokio::time::sleep(Duration::from_millis(ticks)).await;
}

async fn read(cache: &Cache<usize, u64>, database: &Arc<Database>, step: Step) {
    match step {
        Step::Read { row, before, after } => {
            let known = database.rows[row].load(SeqCst);
            let source = Arc::clone(database);
            let entry = cache.entry(&row).tags([format!("row:{row}")]);
            let value = entry.or_load(move |_| async move {
                pause(before).await;
                let value = source.rows[row].load(SeqCst);
                pause(after).await;
                Ok::<_, Broken>(value)
            });
            let value = *value.await.unwrap();
            assert!(value >= known, "row {row} was {known} when it was asked for, and {value} was given");
        }
        Step::ReadAll { before, after } => {
            let known: Vec<_> = database.rows.iter().map(|row| row.load(SeqCst)).collect();
            let source = Arc::clone(database);
            let load = move |rows: Vec<usize>| {
                let source = Arc::clone(&source);
                async move {
                    pause(before).await;
                    let found: Vec<_> =
                        rows.into_iter().map(|row| (row, source.rows[row].load(SeqCst))).collect();
                    pause(after).await;
                    Ok::<_, Broken>(found)
                }
            };
            let found = cache.many(0..ROWS).tags(|row| [format!("row:{row}")]).or_load(load).await.unwrap();
            for (row, (value, known)) in found.iter().zip(known).enumerate() {
                let value = **value.as_ref().unwrap();
                assert!(value >= known, "row {row} was {known} when it was asked for, and {value} was given");
            }
        }
        Step::Write { row, how } => {
            // One step for all who read: a write is what the database says after the invalidation.
            let next = database.rows[row].load(SeqCst) + 1;
            database.rows[row].store(next, SeqCst);
            match how {
                0 => drop(cache.invalidate_all()),
                1 | 2 => drop(cache.invalidate(&row)),
                _ => drop(cache.invalidate_tags([format!("row:{row}")])),
            }
        }
    }
}

fn run(builder: CacheBuilder<usize, u64>, steps: Vec<(u64, Step)>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (cache, database) = (builder.build(), Arc::new(Database::default()));
        let mut tasks = JoinSet::new();
        for (wait, step) in steps {
            pause(wait).await;
            let (cache, database) = (cache.clone(), Arc::clone(&database));
            tasks.spawn(async move { read(&cache, &database, step).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
}

proptest! {
    #[test]
    fn nobody_is_given_what_was_over_when_they_asked(
        steps in prop::collection::vec((0..3_u64, step()), 1..60),
        refresh in any::<bool>(),
        grace in any::<bool>(),
        cancel in any::<bool>(),
    ) {
        let mut builder = Cache::builder().default_ttl(Duration::from_millis(20)).cancel_abandoned(cancel);
        if refresh {
            builder = builder.refresh_ahead(Duration::from_millis(15));
        }
        if grace {
            builder = builder
                .stale_if_error(Duration::from_millis(50))
                .soft_timeout(Duration::from_millis(2))
                .hard_timeout(Duration::from_millis(30));
        }
        run(builder, steps);
    }
}
