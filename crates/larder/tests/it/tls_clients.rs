//! TLS towards clients: libpq's modes, direct negotiation, client certificates, and what must be refused.

use std::time::Duration;

use larder_testkit::frame::{self, GSS_REQUEST, PROTOCOL_3_0, SSL_REQUEST, untagged};
use larder_testkit::{Authority, Driver, Login, RawClient, Tls, Wait};

use crate::secure::{Libpq, Papers, before, conninfo, set, until_hit, versions};
use crate::transparency::metric;
use crate::transparency_login::wait_active;

#[tokio::test]
async fn libpq_connects_in_every_mode_and_is_answered_from_memory() {
    let papers = Papers::new();
    let strangers =
        crate::secure::file(papers.folder.path(), "strangers.crt", &Authority::new("Stranger").pem());
    for version in versions() {
        let pg = papers.postgres(version);
        let larder = papers.listen(before(&pg)).start().await.unwrap();
        until_hit(
            &mut RawClient::superuser(larder.addr()).await.unwrap(),
            "select v from fixed where id = 1",
        )
        .await;
        let (ca, sql) = (papers.ca.display(), "select v from fixed where id = 1");
        for libpq in Libpq::ALL {
            let mut modes = vec![
                ("sslmode=disable".to_owned(), false),
                ("sslmode=prefer".to_owned(), true),
                ("sslmode=require".to_owned(), true),
                (format!("sslmode=verify-ca sslrootcert={ca}"), true),
                (format!("sslmode=verify-full sslrootcert={ca}"), true),
            ];
            if libpq == Libpq::V18 {
                modes.push((format!("sslmode=verify-full sslrootcert={ca} sslnegotiation=direct"), true));
                modes.push((
                    "sslmode=require sslnegotiation=direct max_protocol_version=3.2".to_owned(),
                    true,
                ));
            }
            for (mode, encrypted) in modes {
                let info = conninfo(&larder, "postgres", &mode);
                assert_eq!(
                    libpq.run(&info, sql).await.as_deref(),
                    Ok("value 1"),
                    "{libpq:?} {mode} {version}"
                );
                let said = libpq.run(&info, "\\conninfo").await.unwrap();
                // The newer psql's form is a table.
                let tls = said.contains("SSL connection (protocol: TLSv1.3")
                    || said.contains("SSL Connection|true");
                assert_eq!(tls, encrypted, "{libpq:?} {mode} {version}: {said}");
                assert!(
                    libpq.run(&info, "select nonsense").await.unwrap_err().contains("column \"nonsense\"")
                );
            }
            for (mode, expected) in [
                (
                    format!("host=127.0.0.1 sslmode=verify-ca sslrootcert={strangers}"),
                    "certificate verify failed",
                ),
                (format!("host=elsewhere sslmode=verify-full sslrootcert={ca}"), "does not match host name"),
            ] {
                let info = conninfo(&larder, "postgres", "").replace("host=localhost", "") + &mode;
                let said = libpq.run(&info, sql).await.unwrap_err();
                assert!(said.contains(expected), "{libpq:?} {mode}: {said}");
            }
        }
        assert!(metric(&larder, "larder_queries_total{outcome=\"hit\",tier=\"l1\"} ").await >= 12);
    }
}

#[tokio::test]
async fn drivers_work_over_tls_on_both_sides() {
    let papers = Papers::new();
    for version in versions() {
        let pg = papers.postgres(version);
        let larder = papers.listen(set(before(&pg), "origin.tls", "require")).start().await.unwrap();
        for driver in [Driver::Psql, Driver::Psycopg, Driver::Asyncpg] {
            let direct = driver.run(&(pg.url("postgres", "postgres") + "?sslmode=require")).await.unwrap();
            for _ in 0..2 {
                let through = larder.url("postgres", "postgres") + "?sslmode=require";
                assert_eq!(driver.run(&through).await.unwrap(), direct, "{driver:?} {version}");
            }
        }
    }
}

#[tokio::test]
async fn large_messages_and_copy_pass_through_tls_on_both_sides() {
    let papers = Papers::new();
    for version in versions() {
        let pg = papers.postgres(version);
        for mode in ["serve", "bypass"] {
            let builder = set(papers.listen(before(&pg)), "origin.tls", "require").arg("--mode").arg(mode);
            let larder = builder.start().await.unwrap();
            let mut client =
                RawClient::login_tls(larder.addr(), &papers.client(), &Login::superuser()).await.unwrap();
            client.set_limit(Duration::from_secs(60));
            assert_eq!(
                client.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()").await.unwrap(),
                "t"
            );
            // One row, one text and one parameter of 20 MB.
            let large = "x".repeat(20 << 20);
            assert_eq!(client.value("select repeat('x', 20 << 20)").await.unwrap(), large);
            assert_eq!(
                client.value(&format!("select length('{large}')")).await.unwrap(),
                large.len().to_string()
            );
            let frames = client.extended("select length($1::text)", &[Some(&large)]).await.unwrap();
            let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
            assert_eq!(row.values(), [Some(large.len().to_string())]);
            // A million rows in, and out again.
            client.rows("drop table if exists copied; create table copied (n int, v text)").await.unwrap();
            client.send(frame::query("copy copied from stdin")).await.unwrap();
            client.until(b'G').await.unwrap();
            for chunk in 0..100 {
                let rows: String =
                    (0..10_000).map(|row| format!("{}\tabc\n", chunk * 10_000 + row)).collect();
                client.send(frame::message(b'd', rows.as_bytes())).await.unwrap();
            }
            client.send(frame::message(b'c', b"")).await.unwrap();
            client.until_ready().await.unwrap();
            let frames = client.query("copy copied to stdout").await.unwrap();
            assert_eq!(
                frames.iter().filter(|frame| frame.tag == b'd').count(),
                1_000_000,
                "{mode} {version}"
            );
            // Both directions at once, with more under way than any buffer holds.
            for n in 0..2_000 {
                client.send(frame::query(&format!("select repeat('y', 10000), {n}"))).await.unwrap();
                if n >= 50 {
                    client.until_ready().await.unwrap();
                }
            }
            for _ in 0..50 {
                client.until_ready().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn cancel_requests_pass_over_tls_and_in_the_clear() {
    let papers = Papers::new();
    for version in versions() {
        let pg = papers.postgres(version);
        let builder = set(papers.listen(before(&pg)), "origin.tls", "verify-full");
        let larder = set(set(builder, "origin.tls_ca", papers.ca.display()), "listen.tls", "require");
        let larder = larder.start().await.unwrap();
        let tls = papers.client();
        for protocol in [PROTOCOL_3_0, 3 << 16 | 2] {
            let login = Login::superuser().version(protocol);
            let mut client = RawClient::login_tls(larder.addr(), &tls, &login).await.unwrap();
            let key = client.cancel_key().unwrap();
            let long = protocol != PROTOCOL_3_0 && pg.major() >= 18;
            assert_eq!(key.secret.len() > 4, long, "{version}: {key:?}");
            for encrypted in [true, false] {
                client.send(frame::query("select pg_sleep(60)")).await.unwrap();
                wait_active(&pg, "select pg_sleep(60)").await;
                if encrypted {
                    let mut other = RawClient::open_tls(larder.addr(), &tls).await.unwrap();
                    other.send(frame::cancel(key.pid, &key.secret)).await.unwrap();
                    assert!(other.until_closed().await.unwrap().is_empty());
                } else {
                    RawClient::cancel(larder.addr(), &key).await.unwrap();
                }
                let frames = client.until_ready().await.unwrap();
                let error = frames.iter().find(|frame| frame.tag == b'E').expect("no error");
                assert_eq!(error.field(b'C').as_deref(), Some("57014"), "{version}");
            }
        }
    }
}

/// Sends bytes on a new connection, and says how that ends.
async fn ends(addr: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut client = RawClient::open(addr).await.unwrap();
    client.send(bytes).await.unwrap();
    match client.until_closed().await {
        Ok(frames) => format!("{frames:?}"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn what_postgres_refuses_is_refused() {
    let papers = Papers::new();
    let pg = papers.postgres(larder_testkit::PgVersion::V18);
    let larder = papers.listen(before(&pg)).start().await.unwrap();
    let (tls, addr) = (papers.client(), larder.addr());
    let ssl = untagged(SSL_REQUEST, b"");
    let startup = frame::startup(PROTOCOL_3_0, &Login::superuser().parameters);
    // Sent in the clear together with the request, as somebody in between would (CVE-2021-23214).
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let stuffed = [&untagged(request, b"")[..], &startup].concat();
        let said = ends(addr, &stuffed).await;
        assert!(said.contains("08P01") && said.contains("received unencrypted data after"), "{said}");
    }
    // Asked twice; asked for once it is there.
    let mut client = RawClient::open(addr).await.unwrap();
    for _ in 0..1 {
        client.send(untagged(GSS_REQUEST, b"")).await.unwrap();
        assert_eq!(client.byte().await.unwrap(), b'N');
    }
    client.send(untagged(GSS_REQUEST, b"")).await.unwrap();
    assert!(format!("{:?}", client.until_closed().await).contains("unsupported frontend protocol"));
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let mut client = RawClient::open_tls(addr, &tls).await.unwrap();
        client.send(untagged(request, b"")).await.unwrap();
        assert!(format!("{:?}", client.until_closed().await).contains("unsupported frontend protocol"));
    }
    // GSSAPI first, TLS then.
    let mut client = RawClient::open(addr).await.unwrap();
    client.send(untagged(GSS_REQUEST, b"")).await.unwrap();
    assert_eq!(client.byte().await.unwrap(), b'N');
    client.send(&ssl).await.unwrap();
    assert_eq!(client.byte().await.unwrap(), b'S');
    client.secure(&tls).await.unwrap().log_in(&Login::superuser()).await.unwrap();
    // Direct negotiation: only with PostgreSQL's name in ALPN.
    let login = Login::superuser();
    RawClient::login_tls(addr, &tls.clone().direct(), &login).await.unwrap();
    for protocols in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
        let refused = RawClient::login_tls(addr, &tls.clone().direct().alpn(protocols), &login).await;
        assert!(refused.is_err(), "{protocols:?}");
    }
    // With the request, clients need not name a protocol: older ones do not.
    RawClient::login_tls(addr, &tls.clone().alpn(&[]), &login).await.unwrap();
    // Garbage in place of a handshake, and a handshake where there is no TLS.
    let mut client = RawClient::open(addr).await.unwrap();
    client.send(&ssl).await.unwrap();
    assert_eq!(client.byte().await.unwrap(), b'S');
    client.send(&startup).await.unwrap();
    assert!(client.until_closed().await.is_err() || client.until_closed().await.unwrap().is_empty());
    let plain = before(&pg).start().await.unwrap();
    assert!(RawClient::open_tls(plain.addr(), &tls.clone().direct()).await.is_err());
    assert!(
        RawClient::open_tls(plain.addr(), &tls).await.unwrap_err().to_string().contains("refused with 'N'")
    );
    // All the while others are served.
    RawClient::login_tls(addr, &tls, &login).await.unwrap();
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_judged() {
    let papers = Papers::new();
    let pg = papers.postgres(larder_testkit::PgVersion::V18);
    let builder = set(papers.listen(before(&pg)), "listen.tls_client_ca", papers.ca.display());
    let larder = builder.start().await.unwrap();
    let (ours, login) = (papers.authority.pem(), Login::superuser());
    let good = papers.authority.client("anybody");
    for tls in [Tls::trusting(&ours, Some(&good)), Tls::trusting(&ours, Some(&good)).direct()] {
        RawClient::login_tls(larder.addr(), &tls, &login).await.unwrap();
    }
    let strangers = Authority::new("Test Authority").client("anybody");
    let for_servers = papers.authority.server(&["anybody"]);
    for identity in [None, Some(&strangers), Some(&for_servers)] {
        let tls = Tls::trusting(&ours, identity);
        assert!(RawClient::login_tls(larder.addr(), &tls, &login).await.is_err(), "{identity:?}");
    }
    // Without TLS nobody can show a certificate.
    let refused = RawClient::login(larder.addr(), &login).await.unwrap_err().to_string();
    assert!(refused.contains("28000") && refused.contains("only encrypted (TLS) connections"), "{refused}");
    let (certificate, key) = good.write(papers.folder.path(), "client").unwrap();
    for libpq in Libpq::ALL {
        let with = format!("sslmode=require sslcert={} sslkey={}", certificate.display(), key.display());
        let said = libpq.run(&conninfo(&larder, "postgres", &with), "select 1").await;
        assert_eq!(said.as_deref(), Ok("1"), "{libpq:?}");
        let said =
            libpq.run(&conninfo(&larder, "postgres", "sslmode=require"), "select 1").await.unwrap_err();
        assert!(
            said.contains("certificate required") || said.contains("handshake failure"),
            "{libpq:?}: {said}"
        );
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let papers = Papers::new();
    let pg = papers.postgres(larder_testkit::PgVersion::V18);
    let (ours, login) = (papers.authority.pem(), Login::superuser());
    let [good, revoked] =
        [1, 2].map(|serial| Tls::trusting(&ours, Some(&papers.authority.numbered_client("anybody", serial))));
    let with = |list: &str| {
        let crl = crate::secure::file(papers.folder.path(), "ca.crl", list);
        let builder = set(papers.listen(before(&pg)), "listen.tls_client_ca", papers.ca.display());
        set(builder, "listen.tls_client_crl", crl)
    };
    let larder = with(&papers.authority.revoked(&[2, 3], 2999)).start().await.unwrap();
    RawClient::login_tls(larder.addr(), &good, &login).await.unwrap();
    assert!(RawClient::login_tls(larder.addr(), &revoked, &login).await.is_err());
    // It tells nothing of another authority's certificates, and nothing of the present when it is out of date.
    let strangers = Authority::new("Another Authority").revoked(&[2], 2999);
    for list in [strangers, papers.authority.revoked(&[2], 2025)] {
        let larder = with(&list).start().await.unwrap();
        assert!(RawClient::login_tls(larder.addr(), &good, &login).await.is_err());
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let papers = Papers::new();
    let folder = papers.folder.path();
    let (certificate, key) = (papers.larder.0.display().to_string(), papers.larder.1.display().to_string());
    let (_, other_key) = papers.authority.server(&["other"]).write(folder, "other").unwrap();
    let empty = crate::secure::file(folder, "empty.pem", "no certificate");
    let missing = folder.join("missing.pem").display().to_string();
    for (settings, expected) in [
        (vec![("listen.tls_cert", &missing), ("listen.tls_key", &key)], "missing.pem: No such file"),
        (vec![("listen.tls_cert", &empty), ("listen.tls_key", &key)], "empty.pem: holds no certificate"),
        (
            vec![("listen.tls_cert", &certificate), ("listen.tls_key", &empty)],
            "empty.pem: holds no private key",
        ),
        (
            vec![("listen.tls_cert", &certificate), ("listen.tls_key", &other_key.display().to_string())],
            "other.key: does not go with",
        ),
        (
            vec![
                ("listen.tls_cert", &certificate),
                ("listen.tls_key", &key),
                ("listen.tls_client_ca", &empty),
            ],
            "empty.pem: holds no certificate",
        ),
        (
            vec![
                ("listen.tls_cert", &certificate),
                ("listen.tls_key", &key),
                ("listen.tls_client_ca", &certificate),
                ("listen.tls_client_crl", &empty),
            ],
            "empty.pem: holds no list of revoked certificates",
        ),
        (
            vec![("origin.tls", &"verify-full".to_owned()), ("origin.tls_ca", &missing)],
            "missing.pem: No such file",
        ),
    ] {
        let mut builder = crate::transparency::serve("postgres://postgres@127.0.0.1:1").wait(Wait::Nothing);
        for (key, value) in settings {
            builder = set(builder, key, value);
        }
        let mut larder = builder.start().await.unwrap();
        let status = larder.ended(Duration::from_secs(20)).await.unwrap();
        assert_eq!(status.code(), Some(2), "{}", larder.log());
        assert!(larder.log().contains(expected), "{expected}: {}", larder.log());
    }
}
