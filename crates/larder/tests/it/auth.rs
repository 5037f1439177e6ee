//! `[listen] auth = "verify"` and `"cert"`: Larder authenticates clients and logs in at the origin as them.

use larder_testkit::frame::{self, PROTOCOL_3_0};
use larder_testkit::{
    Auth, Frame, Larder, LarderBuilder, Login, PgVersion, Postgres, RawClient, Tls, Wait, each_version, pg18,
};

use crate::secure::{Libpq, Papers, USERS, before, conninfo, file, populate, set, until_hit};

/// Larder with `auth = "verify"`, which asks the origin as a superuser.
fn verify(pg: &Postgres) -> LarderBuilder {
    set(before(pg), "listen.auth", "verify")
}

async fn who(larder: &Larder, login: &Login) -> Result<String, String> {
    let mut client = RawClient::login(larder.addr(), login).await.map_err(|error| format!("{error:#}"))?;
    Ok(client.value("select session_user").await.unwrap())
}

#[tokio::test]
async fn users_of_the_origin_log_in_by_the_auth_query() {
    each_version(async |mut pg| {
        populate(&mut pg);
        pg.sql(
            "create role late login password 'secret' valid until '2001-01-01'; create role wordless login",
        )
        .unwrap();
        pg.create_user("shut", "secret", Auth::Scram).unwrap();
        pg.sql("alter role shut nologin").unwrap();
        let larder = verify(&pg).start().await.unwrap();
        for user in ["digest", "scrammed"] {
            let login = Login::new(user, "postgres").password("secret");
            assert_eq!(who(&larder, &login).await.as_deref(), Ok(user));
            let mut client = RawClient::login(larder.addr(), &login).await.unwrap();
            assert_eq!(
                until_hit(&mut client, "select v from fixed where id = 2").await,
                [[Some("value 2".to_owned())]]
            );
            assert!(
                client.cancel_key().is_some()
                    && client.parameters()["server_version"].starts_with(char::is_numeric)
            );
        }
        // Wrong password, no such user, no password, no longer valid: one answer.
        for user in ["digest", "scrammed", "nobody", "wordless", "late"] {
            let password = if user == "late" { "secret" } else { "wrong" };
            let said = who(&larder, &Login::new(user, "postgres").password(password)).await.unwrap_err();
            let expected = format!("password authentication failed for user \"{user}\"");
            assert!(said.contains("28P01") && said.contains(&expected), "{said}");
        }
        // What the origin has against a login, it says itself.
        let said = who(&larder, &Login::new("shut", "postgres").password("secret")).await.unwrap_err();
        assert!(
            said.contains("28000") && said.contains("role \"shut\" is not permitted to log in"),
            "{said}"
        );
        let said = who(&larder, &Login::new("scrammed", "nowhere").password("secret")).await.unwrap_err();
        assert!(said.contains("3D000") && said.contains("database \"nowhere\" does not exist"), "{said}");
        // A password changed at the origin counts at once.
        pg.sql("alter role scrammed password 'another'").unwrap();
        assert!(who(&larder, &Login::new("scrammed", "postgres").password("secret")).await.is_err());
        let login = Login::new("scrammed", "postgres").password("another");
        assert_eq!(who(&larder, &login).await.as_deref(), Ok("scrammed"));
        // Settings, options and replication pass as ever.
        let options =
            login.clone().parameter("options", "-c work_mem=7MB").parameter("application_name", "me");
        let mut client = RawClient::login(larder.addr(), &options).await.unwrap();
        assert_eq!(client.value("show work_mem").await.unwrap(), "7MB");
    })
    .await;
}

#[tokio::test]
async fn users_of_a_file_log_in_and_the_origin_is_asked_for_the_rest() {
    each_version(async |mut pg| {
        populate(&mut pg);
        let folder = tempfile::tempdir().unwrap();
        let scram = pg.sql("select rolpassword from pg_authid where rolname = 'scrammed'").unwrap();
        // PostgreSQL's own hash of the password, by another way.
        let text = format!(
            "; users\n\"clear\" \"secret\"\n\"scrammed\" \"{scram}\"\n\"trusting\" \"of the file\"\n"
        );
        let users = file(folder.path(), "users.txt", &text);
        let larder = set(verify(&pg), "listen.auth_users", &users).start().await.unwrap();
        for (user, password) in
            [("clear", "secret"), ("scrammed", "secret"), ("trusting", "of the file"), ("digest", "secret")]
        {
            let login = Login::new(user, "postgres").password(password);
            assert_eq!(who(&larder, &login).await.as_deref(), Ok(user));
            let said = who(&larder, &Login::new(user, "postgres").password("wrong")).await.unwrap_err();
            assert!(said.contains("28P01"), "{said}");
        }
        // Only the file.
        let alone = set(set(verify(&pg), "listen.auth_users", &users), "listen.auth_query", "")
            .start()
            .await
            .unwrap();
        assert!(who(&alone, &Login::new("digest", "postgres").password("secret")).await.is_err());
        assert!(who(&alone, &Login::new("clear", "postgres").password("secret")).await.is_ok());
        // What the file says is not what the origin wants: Larder lets in, the origin does not, and that is what is heard.
        pg.sql("alter role scrammed password 'moved on'").unwrap();
        let said = who(&alone, &Login::new("scrammed", "postgres").password("secret")).await.unwrap_err();
        assert!(said.contains("28P01"), "{said}");
        // A verifier cannot answer a question for a password.
        pg.create_user("other", "secret", Auth::Password).unwrap();
        let scram = pg.sql("select rolpassword from pg_authid where rolname = 'other'").unwrap();
        let text = format!("\"other\" \"{scram}\"\n");
        let users = file(folder.path(), "more.txt", &text);
        let larder = set(verify(&pg), "listen.auth_users", &users).start().await.unwrap();
        let said = who(&larder, &Login::new("other", "postgres").password("secret")).await.unwrap_err();
        assert!(
            said.contains("28000") && said.contains("cannot be answered with a SCRAM verifier"),
            "{said}"
        );
    })
    .await;
}

/// The frames of an exchange that fails in the end.
async fn refused(larder: &Larder, user: &str) -> Vec<Frame> {
    let mut client = RawClient::open(larder.addr()).await.unwrap();
    let login = Login::new(user, "postgres").password("wrong");
    assert!(client.log_in(&login).await.is_err());
    client.greeting().to_vec()
}

#[tokio::test]
async fn nobody_can_find_out_which_users_exist() {
    let mut pg = pg18();
    populate(&mut pg);
    let larder = verify(&pg).start().await.unwrap();
    let shape =
        |frames: &[Frame]| frames.iter().map(|frame| (frame.tag, frame.body.len())).collect::<Vec<_>>();
    // As long as each other in name, so that all messages are.
    let (known, unknown) = (refused(&larder, "scrammed").await, refused(&larder, "stranger").await);
    assert_eq!(shape(&known), shape(&unknown));
    // Salt and iterations of an unknown user are the same each time, as a real one's are; those of two differ.
    let challenge = |frames: &[Frame]| {
        let body = frames.iter().find(|frame| frame.body.starts_with(&[0, 0, 0, 11])).unwrap().body.clone();
        let text = String::from_utf8_lossy(&body[4..]).into_owned();
        text.split_once(",s=").unwrap().1.to_owned()
    };
    let again = refused(&larder, "stranger").await;
    assert_eq!(challenge(&unknown), challenge(&again));
    assert_ne!(challenge(&unknown), challenge(&refused(&larder, "somebody").await));
    assert_ne!(challenge(&unknown), challenge(&known));
}

#[tokio::test]
async fn what_is_no_login_is_refused_and_harms_nobody() {
    let mut pg = pg18();
    populate(&mut pg);
    let larder = verify(&pg).start().await.unwrap();
    let startup = |user: &str| frame::startup(PROTOCOL_3_0, &Login::new(user, "postgres").parameters);
    for (answer, expected) in [
        (frame::query("select 1"), "expected password response"),
        (frame::message(b'p', b"SCRAM-SHA-1\0\0\0\0\x04n,,n"), "not offered"),
        (frame::message(b'p', b"SCRAM-SHA-256\0\0\0\0\xffn,,n=,r=abc"), "malformed SCRAM message"),
        (frame::message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=a\x07c"), "Non-printable"),
        (frame::message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0fn,a=x,n=,r=abcd"), "authorization identity"),
        (frame::message(b'p', b""), "malformed SCRAM message"),
    ] {
        let mut client = RawClient::open(larder.addr()).await.unwrap();
        client.send([&startup("scrammed")[..], &answer].concat()).await.unwrap();
        let frames = client.until_closed().await.unwrap();
        let said = format!("{:?}", frames.last().unwrap());
        assert!(said.contains("08P01") && said.contains(expected), "{expected}: {said}");
    }
    let mut client = RawClient::open(larder.addr()).await.unwrap();
    client.send(startup("")).await.unwrap();
    assert!(format!("{:?}", client.until_closed().await).contains("no PostgreSQL user name"));
    // A frame of a gigabyte ends the connection before it is held.
    let mut client = RawClient::open(larder.addr()).await.unwrap();
    client.send([&startup("scrammed")[..], b"p\x40\0\0\0"].concat()).await.unwrap();
    assert_eq!(client.until_closed().await.unwrap().len(), 1);
    assert!(who(&larder, &Login::new("scrammed", "postgres").password("secret")).await.is_ok());
}

#[tokio::test]
async fn secrets_that_cannot_be_looked_up_are_not_wrong_passwords() {
    let mut pg = pg18();
    populate(&mut pg);
    pg.create_user("larder", "own", Auth::Scram).unwrap();
    let control = format!("postgres://larder:own@localhost:{}/postgres", pg.port());
    let builder = set(verify(&pg), "origin.control_url", control).wait(Wait::Port);
    let larder = builder.start().await.unwrap();
    let login = Login::new("scrammed", "postgres").password("secret");
    let said = who(&larder, &login).await.unwrap_err();
    assert!(said.contains("57P03") && !said.contains("pg_authid"), "{said}");
    assert!(larder.log().contains("permission denied for table pg_authid"), "{}", larder.log());
    // A function of the user's, in the shape that PgBouncer's have.
    pg.sql(
        "create function lookup(in name text, out usename text, out secret text) language sql security definer as \
         $$ select rolname, rolpassword from pg_authid where rolname = $1 $$",
    )
    .unwrap();
    let control = format!("postgres://larder:own@localhost:{}/postgres", pg.port());
    let builder = set(verify(&pg), "origin.control_url", control).wait(Wait::Port);
    let larder = set(builder, "listen.auth_query", "select * from lookup($1)").start().await.unwrap();
    assert_eq!(who(&larder, &login).await.as_deref(), Ok("scrammed"));
    // The origin restarts, and logins work again without anybody's help.
    pg.restart().unwrap();
    let mut answer = who(&larder, &login).await;
    for _ in 0..20 {
        if answer.is_ok() {
            break;
        }
        answer = who(&larder, &login).await;
    }
    assert_eq!(answer.as_deref(), Ok("scrammed"));
}

#[tokio::test]
async fn channel_binding_is_verified() {
    let papers = Papers::new();
    let pg = papers.postgres(PgVersion::V18);
    let larder = papers.listen(verify(&pg)).start().await.unwrap();
    let login = Login::new("scrammed", "postgres").password("secret");
    for login in [login.clone(), login.clone().binding()] {
        let mut client = RawClient::login_tls(larder.addr(), &papers.client(), &login).await.unwrap();
        assert_eq!(client.value("select session_user").await.unwrap(), "scrammed");
    }
    for libpq in Libpq::ALL {
        for more in
            ["channel_binding=require", "channel_binding=disable", "channel_binding=require sslmode=require"]
        {
            let said = libpq.run(&conninfo(&larder, "scrammed", more), "select session_user").await;
            assert_eq!(said.as_deref(), Ok("scrammed"), "{libpq:?} {more}");
        }
    }
    // Somebody in between hides the offer: the client says "I could", and that is noticed.
    let mut client = RawClient::open_tls(larder.addr(), &papers.client()).await.unwrap();
    client.send(frame::startup(PROTOCOL_3_0, &login.parameters)).await.unwrap();
    client.frame().await.unwrap();
    client.send(frame::message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0dy,,n=,r=abcde")).await.unwrap();
    let said = format!("{:?}", client.until_closed().await.unwrap());
    assert!(said.contains("28000") && said.contains("SCRAM channel binding negotiation error"), "{said}");
}

#[tokio::test]
async fn certificates_must_carry_the_users_name() {
    let papers = Papers::new();
    let mut pg = papers.postgres(PgVersion::V18);
    // The origin trusts Larder's address for one user, and asks the others for what the file knows.
    pg.create_user("worded", "secret", Auth::Scram).unwrap();
    let users = file(papers.folder.path(), "users.txt", "\"worded\" \"secret\"\n");
    let ours = papers.authority.pem();
    let tls = |name: &str| Tls::trusting(&ours, Some(&papers.authority.client(name)));
    for (auth, password) in [("verify", true), ("cert", false)] {
        let builder = set(papers.listen(verify(&pg)), "listen.auth", auth);
        let builder = set(builder, "listen.tls_client_ca", papers.ca.display());
        let larder = set(builder, "listen.auth_users", &users).start().await.unwrap();
        for user in ["worded", "trusting"] {
            let mut login = Login::new(user, "postgres");
            if password {
                login = login.password("secret");
            }
            let mut client = RawClient::login_tls(larder.addr(), &tls(user), &login).await.unwrap();
            assert_eq!(client.value("select session_user").await.unwrap(), user);
            let other = RawClient::login_tls(larder.addr(), &tls("somebody"), &login).await.unwrap_err();
            let expected = format!("certificate authentication failed for user \"{user}\"");
            assert!(other.to_string().contains(&expected), "{other}");
        }
        // The right certificate and the wrong password.
        let login = Login::new("worded", "postgres").password("wrong");
        let wrong = RawClient::login_tls(larder.addr(), &tls("worded"), &login).await;
        assert_eq!(wrong.is_err(), password);
    }
}

#[tokio::test]
async fn the_methods_of_the_origin_do_not_show() {
    each_version(async |mut pg| {
        populate(&mut pg);
        // Whatever the origin would ask for itself, Larder asks by what is stored.
        let larder = verify(&pg).start().await.unwrap();
        for (user, _) in USERS {
            let login = Login::new(user, "postgres").password("secret");
            let asked = RawClient::login(larder.addr(), &login).await;
            let kinds =
                |client: &RawClient| client.greeting().iter().map(|frame| frame.tag).collect::<Vec<_>>();
            match (user, asked) {
                // The origin wants the password in the clear, and Larder has a verifier only.
                ("clear", Err(error)) => assert!(error.to_string().contains("cannot be answered"), "{error}"),
                ("clear", Ok(_)) => panic!("logged in without a password"),
                (_, Ok(client)) => assert!(kinds(&client).starts_with(b"RR"), "{user}"),
                (_, Err(error)) => panic!("{user}: {error:#}"),
            }
        }
    })
    .await;
}
