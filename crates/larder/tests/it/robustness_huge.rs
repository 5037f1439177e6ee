//! Values of a gigabyte, close to the largest that PostgreSQL knows, pass both ways in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::frame::{execute, parse, query, sync};
use larder_testkit::{Larder, RawClient, pg18};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::transparency::serve;

/// PostgreSQL's own limit is 1 GiB less one byte for a value with its header, and for a message.
const VALUE: usize = 1_000_000_000;
/// Resident memory that Larder may need, in a build without optimisation, for all of it.
const MOST: usize = 100;

/// Watches the resident memory (MiB) of a process.
struct Watch {
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn start(larder: &Larder) -> Self {
        let (most, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let path = format!("/proc/{}/statm", larder.pid().unwrap());
        let watch = Self { most: Arc::clone(&most), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok(statm) = std::fs::read_to_string(&path) else { return };
                let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
                most.fetch_max((pages * rustix::param::page_size()) >> 20, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        watch
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends a value of [`VALUE`] bytes as the binary parameter of `select length($1)`, piece by piece.
async fn send_value(client: &mut RawClient) -> String {
    let mut head = parse("", "select length($1::bytea)", &[17]).to_vec();
    // Portal and statement, one binary format, one value, no formats of results.
    let body = b"\0\0\0\x01\0\x01\0\x01";
    head.push(b'B');
    head.extend(i32::try_from(4 + body.len() + 4 + VALUE + 2).unwrap().to_be_bytes());
    head.extend(body);
    head.extend(i32::try_from(VALUE).unwrap().to_be_bytes());
    client.send(head).await.unwrap();
    let piece = vec![0x5a; 1 << 20];
    let mut left = VALUE;
    while left > 0 {
        let now = left.min(piece.len());
        client.stream().write_all(&piece[..now]).await.unwrap();
        left -= now;
    }
    client.send([&[0, 0][..], &execute("", 0), &sync()].concat()).await.unwrap();
    let frames = client.until_ready().await.unwrap();
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
    row.values()[0].clone().unwrap()
}

/// Asks for a value of [`VALUE`] bytes and reads it piece by piece; how many bytes of `x` came.
async fn receive_value(client: &mut RawClient) -> usize {
    client.send(query(&format!("select repeat('x', {VALUE})"))).await.unwrap();
    let stream = client.stream();
    let mut buffer = vec![0; 1 << 20];
    let mut count = 0;
    let mut end = Vec::new();
    while !end.ends_with(b"Z\0\0\0\x05I") {
        let got = stream.read(&mut buffer).await.unwrap();
        assert!(got > 0, "closed after {count}");
        count += buffer[..got].iter().filter(|byte| **byte == b'x').count();
        end.extend_from_slice(&buffer[got.saturating_sub(16)..got]);
        end.drain(..end.len().saturating_sub(16));
    }
    count
}

/// Takes minutes on a busy machine and several gigabytes of memory at the origin, so it runs at night: `make gigabyte`.
#[tokio::test]
#[ignore = "needs 4 GB of memory and up to some minutes: make gigabyte"]
async fn a_gigabyte_passes_both_ways_in_bounded_memory() {
    let pg = pg18();
    for mode in ["serve", "bypass"] {
        let larder = serve(&pg.url("postgres", "postgres")).arg("--mode").arg(mode).start().await.unwrap();
        let watch = Watch::start(&larder);
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        client.set_limit(Duration::from_secs(240));
        let began = Instant::now();
        assert_eq!(send_value(&mut client).await, VALUE.to_string(), "{mode}");
        let sent = began.elapsed();
        assert_eq!(receive_value(&mut client).await, VALUE, "{mode}");
        eprintln!(
            "{mode}: {VALUE} bytes there in {sent:.1?} and back in {:.1?}, at most {} MiB in Larder",
            began.elapsed() - sent,
            watch.most()
        );
        assert!(watch.most() < MOST, "{mode}: {} MiB", watch.most());
        // The session goes on.
        assert_eq!(client.value("select 1").await.unwrap(), "1");
    }
}
