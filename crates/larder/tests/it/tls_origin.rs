//! TLS towards the origin: what each mode accepts, for clients' sessions and for Larder's own connections; and which
//! combinations of encryption and authentication work.

use std::time::Duration;

use larder_testkit::{Authority, Identity, Login, PgVersion, Postgres, RawClient, Wait};

use crate::secure::{Libpq, Papers, USERS, before, conninfo, set, until_hit, versions};
use crate::transparency::serve;

/// Whether a client gets a session, and whether that is encrypted; else the sentence that it is told.
async fn session(larder: &larder_testkit::Larder) -> Result<String, String> {
    let mut client = RawClient::superuser(larder.addr()).await.map_err(|error| format!("{error:#}"))?;
    Ok(client.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()").await.unwrap())
}

#[tokio::test]
async fn certificates_of_the_origin_are_judged_as_libpq_does() {
    let papers = Papers::new();
    let itself = Identity::self_signed("localhost");
    let wrong_name = papers.authority.server(&["db.example"]);
    let old_style = papers.authority.old_style_server("localhost");
    let expired = papers.authority.expired_server(&["localhost"]);
    let stranger = Authority::new("Stranger").server(&["localhost"]);
    let both = crate::secure::file(
        papers.folder.path(),
        "both.crt",
        &(papers.authority.pem() + &itself.certificate),
    );
    let (yes, wrong) = (|| Ok("t".to_owned()), |why: &str| Err(why.to_owned()));
    for version in versions() {
        for (identity, require, verify_ca, verify_full) in [
            (&papers.origin, yes(), yes(), yes()),
            (&old_style, yes(), yes(), yes()),
            (&itself, yes(), yes(), yes()),
            (&wrong_name, yes(), yes(), wrong("not valid for name \"localhost\"")),
            (&expired, yes(), wrong("expired"), wrong("expired")),
            (&stranger, yes(), wrong("UnknownIssuer"), wrong("UnknownIssuer")),
        ] {
            let pg = papers.postgres_as(version, identity);
            let modes = [("require", require), ("verify-ca", verify_ca), ("verify-full", verify_full)];
            for (mode, expected) in
                [("disable", Ok("f".to_owned())), ("prefer", yes())].into_iter().chain(modes)
            {
                let mut builder = set(before(&pg), "origin.tls", mode).wait(Wait::Port);
                if mode.starts_with("verify") {
                    builder = set(builder, "origin.tls_ca", &both);
                }
                let larder = builder.start().await.unwrap();
                match (session(&larder).await, expected) {
                    (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{mode} {version}"),
                    (Err(said), Err(why)) => {
                        assert!(said.contains("08001") && said.contains(&why), "{mode} {version}: {said}");
                        let (status, body) = larder.get("/readyz").await.unwrap();
                        assert_eq!(status, 503, "{body}");
                    }
                    (got, wanted) => panic!("{mode} {version}: {got:?}, not {wanted:?}\n{}", larder.log()),
                }
            }
        }
    }
}

#[tokio::test]
async fn an_origin_without_tls_is_refused_where_tls_is_required() {
    let pg = larder_testkit::pg18();
    for (mode, expected) in
        [("prefer", None), ("require", Some("does not support TLS")), ("verify-full", Some("TLS"))]
    {
        let larder = set(before(&pg), "origin.tls", mode).wait(Wait::Port).start().await.unwrap();
        match (RawClient::superuser(larder.addr()).await, expected) {
            (Ok(_), None) => {
                let again = RawClient::superuser(larder.addr()).await;
                let said = larder.log().matches("are not encrypted").count();
                assert!(again.is_ok() && said == 1, "{}", larder.log());
            }
            (Err(error), Some(why)) => {
                let said = format!("{error:#}");
                assert!(said.contains("08001") && said.contains(why), "{said}");
            }
            (got, _) => panic!("{mode}: {got:?}"),
        }
    }
}

/// Nobody gets in without TLS, and Larder's account not without SCRAM either.
#[tokio::test]
async fn the_feed_and_its_account_go_over_tls() {
    let papers = Papers::new();
    for version in versions() {
        let mut pg = papers.postgres(version);
        pg.create_user("larder", "own secret", larder_testkit::Auth::Scram).unwrap();
        pg.sql("alter role larder replication").unwrap();
        pg.add_hba("hostnossl all all all reject").unwrap();
        pg.add_hba("hostnossl replication all all reject").unwrap();
        pg.add_hba("hostssl replication larder all scram-sha-256").unwrap();
        // The lines for single users came first.
        pg.sql("alter role trusting rename to gone").unwrap();
        let control = format!("postgres://larder:own%20secret@localhost:{}/postgres", pg.port());
        let builder = set(before(&pg), "origin.control_url", control);
        let builder = set(builder, "origin.tls", "verify-full");
        let larder = set(builder, "origin.tls_ca", papers.ca.display()).start().await.unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let rows = until_hit(&mut client, "select v from fixed where id = 3").await;
        assert_eq!(rows, [[Some("value 3".to_owned())]]);
        let ssl = "select bool_and(ssl) and count(*) > 2 from pg_stat_ssl join pg_stat_activity using (pid) \
                   where backend_type in ('client backend', 'walsender') and client_addr is not null";
        assert_eq!(pg.sql(ssl).unwrap(), "t", "{version}");
    }
}

/// The origin asks for certificates instead of passwords: Larder's own account has one, and it speaks for clients that
/// Larder has authenticated. For those whose login is merely relayed it must not.
#[tokio::test]
async fn larder_shows_its_certificate_for_whom_it_has_authenticated() {
    let papers = Papers::new();
    let own = papers.authority.client("larder").write(papers.folder.path(), "own").unwrap();
    let users = papers.folder.path().join("users.txt");
    std::fs::write(&users, "\"trusting\" \"secret\"\n").unwrap();
    for version in versions() {
        let builder = Postgres::builder().version(version);
        let builder = builder.tls(&papers.origin.certificate, &papers.origin.key, &papers.authority.pem());
        let builder =
            ["replication larder all cert", "all larder all cert", "all trusting all cert map=fleet"]
                .into_iter()
                .fold(builder, |builder, line| builder.hba(&format!("hostssl {line}")));
        let mut pg = ["replication larder", "all larder", "all trusting"]
            .into_iter()
            .fold(builder, |builder, who| builder.hba(&format!("host {who} all reject")))
            .start()
            .unwrap();
        crate::secure::populate(&mut pg);
        pg.sql("create role larder login replication").unwrap();
        std::fs::write(pg.data_dir().join("pg_ident.conf"), "fleet larder trusting\n").unwrap();
        pg.reload().unwrap();
        for auth in ["verify", "relay"] {
            let control = format!("postgres://larder@localhost:{}/postgres", pg.port());
            let builder = set(before(&pg), "origin.control_url", control);
            let builder = set(builder, "origin.tls_cert", own.0.display());
            let builder = set(builder, "origin.tls_key", own.1.display());
            let builder = set(builder, "listen.auth_users", users.display());
            let builder = set(builder, "listen.auth_query", "");
            let larder = set(builder, "listen.auth", auth).start().await.unwrap();
            let login = Login::new("trusting", "postgres").password("secret");
            let mut client = match RawClient::login(larder.addr(), &login).await {
                Err(error) if auth == "relay" => {
                    let said = format!("{error:#}");
                    assert!(said.contains("requires a valid client certificate"), "{said}");
                    continue;
                }
                client => client.unwrap(),
            };
            assert_eq!(auth, "verify", "{version}");
            let rows = until_hit(&mut client, "select v from fixed where id = 3").await;
            assert_eq!(rows, [[Some("value 3".to_owned())]]);
            let wrong = Login::new("trusting", "postgres").password("wrong");
            let said = format!("{:#}", RawClient::login(larder.addr(), &wrong).await.unwrap_err());
            assert!(said.contains("28P01"), "{said}");
        }
    }
}

/// The table of docs/security.md, by libpq with its defaults (channel_binding=prefer).
#[tokio::test]
async fn which_combinations_work() {
    let papers = Papers::new();
    let users = papers.folder.path().join("users.txt");
    for version in versions() {
        let pg = papers.postgres(version);
        let secrets = pg.sql("select format('\"%s\" \"%s\"', rolname, rolpassword) from pg_authid where rolname in ('digest', 'scrammed')").unwrap();
        std::fs::write(&users, secrets + "\n\"clear\" \"secret\"\n\"trusting\" \"secret\"\n").unwrap();
        for (auth, listen_tls, origin_tls) in ["relay", "verify"].into_iter().flat_map(|auth| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(a, b)| (auth, a, b))
        }) {
            let builder = set(before(&pg), "origin.tls", if origin_tls { "require" } else { "disable" });
            let builder = set(set(builder, "listen.auth", auth), "listen.auth_users", users.display());
            let larder = if listen_tls { papers.listen(builder) } else { builder }.start().await.unwrap();
            for (user, _) in USERS {
                for libpq in Libpq::ALL {
                    let what = format!(
                        "{auth}, TLS to Larder {listen_tls}, to the origin {origin_tls}, {user}, {libpq:?}, {version}"
                    );
                    let ask = async |more: &str| {
                        let sql =
                            "select current_user || ' ' || ssl from pg_stat_ssl where pid = pg_backend_pid()";
                        libpq.run(&conninfo(&larder, user, more), sql).await
                    };
                    let works = Ok(format!("{user} {origin_tls}"));
                    let unbindable = auth == "relay" && listen_tls && origin_tls && user == "scrammed";
                    // With sslmode=prefer, libpq tries again without TLS, and gets in.
                    assert_eq!(ask("").await, works, "{what}");
                    match ask(if listen_tls { "sslmode=require" } else { "" }).await {
                        Err(said) if unbindable => {
                            assert!(
                                said.contains("SCRAM channel binding cannot pass through Larder"),
                                "{what}: {said}"
                            );
                            assert!(said.contains("auth = \"verify\""), "{what}: {said}");
                        }
                        other => {
                            assert!(!unbindable, "{what}: {other:?}");
                            assert_eq!(other, works, "{what}");
                        }
                    }
                    assert_eq!(ask("channel_binding=disable").await, works, "{what}");
                    // Channel binding as a must: only where Larder itself is the other end of it.
                    let bound = ask("channel_binding=require sslmode=require").await;
                    let possible = auth == "verify" && listen_tls && user != "digest";
                    assert_eq!(bound.is_ok(), possible, "{what}: {bound:?}");
                }
            }
            let warned = larder.log().contains("TLS on both sides with auth = \"relay\"");
            assert_eq!(warned, auth == "relay" && listen_tls && origin_tls, "{}", larder.log());
        }
    }
}

/// The one case in which channel binding survives a relay: Larder shows the origin's own certificate.
#[tokio::test]
async fn one_certificate_for_both_lets_channel_binding_pass() {
    let papers = Papers::new();
    let (certificate, key) = papers.origin.write(papers.folder.path(), "origin").unwrap();
    for version in versions() {
        let pg = papers.postgres(version);
        let builder = set(before(&pg), "origin.tls", "require");
        let builder = set(builder, "listen.tls_cert", certificate.display());
        let larder = set(builder, "listen.tls_key", key.display()).start().await.unwrap();
        for libpq in Libpq::ALL {
            for more in ["", "channel_binding=require", "channel_binding=disable"] {
                let said = libpq.run(&conninfo(&larder, "scrammed", more), "select current_user").await;
                assert_eq!(said.as_deref(), Ok("scrammed"), "{libpq:?} {more} {version}");
            }
        }
    }
}

#[tokio::test]
async fn check_says_what_stands_in_the_way() {
    let papers = Papers::new();
    let mut pg = papers.postgres_as(PgVersion::V18, &papers.authority.server(&["db.example"]));
    populate_replication(&mut pg);
    let ca = papers.ca.display().to_string();
    let (certificate, key) = (papers.larder.0.display().to_string(), papers.larder.1.display().to_string());
    let check = |settings: &[&str]| {
        let url = format!("postgres://larder:secret@localhost:{}/postgres", pg.port());
        let mut arguments = vec!["check", "--origin", &url];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        crate::larder(&arguments, &[])
    };
    let ca = format!("origin.tls_ca={ca}");
    let (cert, key) = (format!("listen.tls_cert={certificate}"), format!("listen.tls_key={key}"));
    let ran = check(&["origin.tls=verify-full", &ca]);
    assert!(ran.code == 1 && ran.out.contains("tls: ") && ran.out.contains("localhost"), "{}", ran.out);
    let ran = check(&["origin.tls=verify-ca", &ca]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    // The combination that libpq does not get through is said, and is no reason to fail.
    let ran = check(&["origin.tls=require", &cert, &key]);
    assert!(ran.code == 0 && ran.out.contains("note: channel_binding: "), "{}", ran.out);
    // Nothing to check passwords with; the remedy mends it.
    let ran = check(&["origin.tls=require", &cert, &key, "listen.auth=verify"]);
    assert!(
        ran.code == 1 && ran.out.contains("auth_query: ") && ran.out.contains("SECURITY DEFINER"),
        "{}",
        ran.out
    );
    let remedy = ran.out.split("-> ").nth(1).unwrap();
    let sql =
        remedy.split("function of a superuser's: ").nth(1).unwrap().split("; then [listen]").next().unwrap();
    pg.sql(sql).unwrap();
    let query = "listen.auth_query=SELECT public.larder_secret($1)";
    let ran = check(&["origin.tls=require", &cert, &key, "listen.auth=verify", query]);
    assert_eq!(ran.code, 0, "{}", ran.out);
}

fn populate_replication(pg: &mut Postgres) {
    pg.create_user("larder", "secret", larder_testkit::Auth::Scram).unwrap();
    pg.sql("alter role larder replication").unwrap();
}

/// A server that says yes to TLS and then hangs costs a client no more than `connect_timeout`.
#[tokio::test]
async fn a_handshake_that_hangs_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut held = vec![];
        loop {
            use tokio::io::AsyncWriteExt as _;
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(b"S").await;
            held.push(socket);
        }
    });
    let builder = serve(&format!("postgres://postgres@127.0.0.1:{port}")).wait(Wait::Port);
    let builder = set(set(builder, "origin.connect_timeout", "500ms"), "origin.tls", "require");
    let larder = builder.start().await.unwrap();
    let mut client = RawClient::open(larder.addr()).await.unwrap();
    client.set_limit(Duration::from_secs(30));
    let refused = client.log_in(&Login::superuser()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("08001"), "{refused:#}");
    server.abort();
}
