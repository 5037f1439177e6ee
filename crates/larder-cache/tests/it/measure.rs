//! What sealing costs. Not a test of anything: run it on a quiet machine, in release mode, and read what it prints.
//!
//!     cargo test --release -p larder-cache --test it -- --ignored --nocapture what_sealing_costs

use std::hint::black_box;
use std::time::{Duration, Instant};

use larder_cache::tier::{SealOptions, Sealer};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(crate) const SIZES: [usize; 5] = [256, 2 << 10, 16 << 10, 128 << 10, 1 << 20];

/// Rows as PostgreSQL sends them: numbers, a name, an address, a time, an amount, a random identifier.
pub(crate) fn answer(size: usize) -> Vec<u8> {
    let (mut out, mut state) = (Vec::with_capacity(size + 256), 88_172_645_463_325_252_u64);
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let first = ["Anna", "Ben", "Carla", "Dmitri", "Elif", "Farid", "Grace", "Hiro"];
    let last = ["Schmidt", "Okafor", "Larsen", "Moreau", "Tanaka", "Silva", "Novak", "Khan"];
    let mut id = 100_000;
    while out.len() < size {
        id += random() % 7 + 1;
        let (a, b) = (first[random() as usize % 8], last[random() as usize % 8]);
        let (day, second) = (random() % 28 + 1, random() % 60);
        let columns = [
            id.to_string(),
            format!("{a} {b}"),
            format!("{}.{}{}@example.com", a.to_lowercase(), b.to_lowercase(), random() % 1000),
            format!(
                "2026-{:02}-{day:02} {:02}:{:02}:{second:02}.{:06}+00",
                random() % 12 + 1,
                random() % 24,
                random() % 60,
                random() % 1_000_000
            ),
            format!("{}.{:02}", random() % 10_000, random() % 100),
            format!("{:016x}{:016x}", random(), random()),
            "t".to_owned(),
        ];
        let body: Vec<u8> = columns
            .iter()
            .flat_map(|text| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat())
            .collect();
        out.push(b'D');
        out.extend((6 + body.len() as u32).to_be_bytes());
        out.extend((columns.len() as u16).to_be_bytes());
        out.extend(body);
    }
    out.truncate(size);
    out
}

/// The median of many, in nanoseconds.
pub(crate) fn time(mut work: impl FnMut()) -> f64 {
    let mut took = Vec::new();
    let until = Instant::now() + Duration::from_millis(200);
    while took.len() < 20 || Instant::now() < until {
        let started = Instant::now();
        work();
        took.push(started.elapsed());
    }
    took.sort();
    took[took.len() / 2].as_nanos() as f64
}

#[test]
#[ignore = "a measurement"]
fn what_sealing_costs() {
    let associated: [&[u8]; 2] = [&[b'k'; 200], &[b'l'; 40]];
    let kind = |secret, encrypt, compress_above| {
        Sealer::new(SealOptions { secret, encrypt, compress_above, max_plain: 1 << 21 }).unwrap()
    };
    println!("{:>8}  {:<24} {:>9} {:>10} {:>10}", "bytes", "", "sealed", "seal us", "open us");
    for size in SIZES {
        let plain = answer(size);
        for (name, sealer) in [
            ("checksum", kind(None, false, usize::MAX)),
            ("HMAC", kind(Some(SECRET), false, usize::MAX)),
            ("AES-GCM", kind(Some(SECRET), true, usize::MAX)),
            ("checksum, compressed", kind(None, false, 0)),
            ("HMAC, compressed", kind(Some(SECRET), false, 0)),
            ("AES-GCM, compressed", kind(Some(SECRET), true, 0)),
        ] {
            let sealed = sealer.seal(&associated, &plain).unwrap();
            let seal = time(|| drop(black_box(sealer.seal(&associated, black_box(&plain)))));
            let open = time(|| drop(black_box(sealer.open(&associated, black_box(sealed.clone())))));
            println!("{size:>8}  {name:<24} {:>9} {:>10.2} {:>10.2}", sealed.len(), seal / 1e3, open / 1e3);
        }
    }
}
