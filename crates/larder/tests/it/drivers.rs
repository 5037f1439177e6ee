//! Drivers with their default settings, psql and pgbench: the same script directly and through Larder prints the same.

use std::process::Stdio;
use std::time::Duration;

use larder_testkit::{Driver, Larder, PgVersion, Postgres, pg};
use tokio::process::Command;
use tokio::time::timeout;

use crate::transparency::{VERSIONS, metric, pair, serve};

const HIT: &str = "larder_queries_total{outcome=\"hit\",tier=\"l1\"} ";
const ERROR: &str = "larder_queries_total{outcome=\"error\",tier=\"origin\"} ";

/// A cluster of its own: the scripts make and drop tables.
async fn start(version: PgVersion) -> (Postgres, Larder) {
    let pg = pg(version);
    let larder = serve(&pg.url("postgres", "postgres")).start().await.unwrap();
    (pg, larder)
}

#[tokio::test]
async fn drivers_print_the_same() {
    let mut problems = vec![];
    for version in VERSIONS {
        let (pg, larder) = start(version).await;
        for driver in Driver::ALL {
            let direct = driver.run(&pg.url("postgres", "postgres")).await.unwrap();
            let before = metric(&larder, HIT).await;
            // The scripts make their tables anew, and answers come from memory only when that has been understood.
            for run in 0..8 {
                if run >= 3 && (*driver == Driver::Psql || metric(&larder, HIT).await > before) {
                    break;
                }
                let through = driver.run(&larder.url("postgres", "postgres")).await.unwrap();
                let differ = direct.lines().zip(through.lines()).find(|(left, right)| left != right);
                if let Some((left, right)) = differ {
                    problems.push(format!("{driver:?} on {version}, run {run}:\n{left}\n{right}"));
                } else if direct != through {
                    problems.push(format!("{driver:?} on {version}, run {run}: one printed more"));
                }
            }
            let hits = metric(&larder, HIT).await - before;
            eprintln!("{driver:?} on {version}: {hits} hits");
            // psql reads its tables too soon after it has made them.
            if hits == 0 && *driver != Driver::Psql {
                problems.push(format!("{driver:?} on {version}: no hits"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn psql_prints_the_same_from_memory() {
    for version in VERSIONS {
        let pair = pair(version).await;
        let psql = async |port: u16, more: &[&str]| {
            let mut command = Command::new(pair.pg.bin_dir().join("psql"));
            command.args([
                "-X",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &port.to_string(),
                "-c",
                "\\timing off",
            ]);
            for sql in
                ["select * from fixed order by id", "select avg(n), sum(f) from fixed", "table fixed limit 0"]
            {
                command.args(["-c", sql]);
            }
            command.args(more).arg("postgres");
            let output =
                timeout(Duration::from_secs(20), command.kill_on_drop(true).output()).await.unwrap().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let direct = psql(pair.pg.port(), &[]).await;
        assert!(direct.contains("value 20"), "{direct}");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let through = psql(pair.larder.addr().port(), &["-c", "show larder.last"]).await;
            assert_eq!(through[..direct.len()], direct);
            if through[direct.len()..].contains("hit; tier=l1") {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "no hits: {}", &through[direct.len()..]);
        }
    }
}

#[tokio::test]
async fn pgbench_runs_without_errors() {
    let (pg, larder) = start(PgVersion::V18).await;
    let pgbench = async |port: u16, arguments: &[&str]| {
        let mut command = Command::new(pg.bin_dir().join("pgbench"));
        command
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()])
            .args(arguments)
            .arg("postgres");
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(Duration::from_secs(60), output).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "pgbench {arguments:?}: {text}");
        text
    };
    pgbench(pg.port(), &["-i", "-q", "-s", "1"]).await;
    for mode in ["simple", "extended", "prepared"] {
        for script in ["-S", "-N", "-bselect-only"] {
            let before = metric(&larder, HIT).await;
            // Few accounts, so that a second is enough for hits.
            let arguments = ["-n", "-c", "4", "-j", "1", "-t", "150", "-M", mode, script];
            let text = pgbench(larder.addr().port(), &arguments).await;
            assert!(text.contains("number of transactions actually processed: 600/600"), "{text}");
            eprintln!("{mode} {script}: {} hits", metric(&larder, HIT).await - before);
        }
    }
    assert_eq!(metric(&larder, ERROR).await, 0);
}
