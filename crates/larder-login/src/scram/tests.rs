use super::*;

const SEED: Key = [7; 32];

/// A whole exchange; the server's verdict, and whether the client believes the server.
fn exchange(
    verifier: Verifier,
    credentials: Credentials,
    server_binding: Option<&[u8]>,
    client_binding: Option<&[u8]>,
) -> (Result<Verified, ScramError>, bool) {
    let mut server = ServerExchange::new(verifier, true, server_binding);
    let offered = server.mechanisms().join("\0");
    let mut client = ClientExchange::begin(credentials, offered.as_bytes(), client_binding).unwrap().unwrap();
    let challenge = match server.challenge(client.mechanism().as_bytes(), client.first().as_bytes()) {
        Ok(challenge) => challenge,
        Err(error) => return (Err(error), false),
    };
    let proof = client.prove(challenge.as_bytes()).unwrap();
    let verified = server.verify(proof.as_bytes());
    let believed = verified.as_ref().is_ok_and(|verified| client.accepts(verified.last.as_bytes()));
    (verified, believed)
}

fn password(text: &str) -> Credentials {
    Credentials::Password(text.to_owned())
}

#[test]
fn both_sides_agree_and_the_client_key_is_as_good_as_the_password() {
    let verifier = Verifier::of_password("pencil", &SEED, "ann");
    for (server, client) in
        [(None, None), (Some(&b"hash"[..]), Some(&b"hash"[..])), (Some(b"hash"), None), (None, Some(b"hash"))]
    {
        let (verified, believed) = exchange(verifier.clone(), password("pencil"), server, client);
        assert!(believed);
        let keys = verified.unwrap().credentials;
        let (again, believed) = exchange(verifier.clone(), keys, None, None);
        assert!(again.is_ok() && believed);
        let (wrong, _) = exchange(verifier.clone(), password("pen"), server, client);
        assert_eq!(wrong.unwrap_err(), ScramError::WrongPassword);
    }
}

#[test]
fn another_certificate_and_a_hidden_mechanism_are_noticed() {
    let verifier = Verifier::of_password("pencil", &SEED, "ann");
    let (wrong, _) = exchange(verifier.clone(), password("pencil"), Some(b"hash"), Some(b"another"));
    assert_eq!(wrong.unwrap_err(), ScramError::WrongBinding);
    let mut server = ServerExchange::new(verifier, true, Some(b"hash"));
    // The client was told of the plain mechanism only.
    let client = ClientExchange::begin(password("pencil"), PLAIN.as_bytes(), Some(b"hash")).unwrap().unwrap();
    assert_eq!(server.challenge(PLAIN.as_bytes(), client.first().as_bytes()), Err(ScramError::Downgraded));
}

#[test]
fn a_missing_user_is_challenged_alike_each_time_and_never_accepted() {
    let mock = Verifier::mock(&SEED, "nobody");
    assert_eq!(mock, Verifier::mock(&SEED, "nobody"));
    assert_ne!(mock.salt, Verifier::mock(&SEED, "somebody").salt);
    assert_eq!(mock.salt.len(), Verifier::of_password("x", &SEED, "x").salt.len());
    let mut server = ServerExchange::new(mock.clone(), false, None);
    let mut client = ClientExchange::begin(password(""), PLAIN.as_bytes(), None).unwrap().unwrap();
    let challenge = server.challenge(PLAIN.as_bytes(), client.first().as_bytes()).unwrap();
    let proof = client.prove(challenge.as_bytes()).unwrap();
    assert_eq!(server.verify(proof.as_bytes()).unwrap_err(), ScramError::WrongPassword);
    // Not even whoever finds a key whose hash is all zeros.
    let keys = Verifier::of_password("pencil", &SEED, "nobody");
    let mut server = ServerExchange::new(keys, false, None);
    let mut client = ClientExchange::begin(password("pencil"), PLAIN.as_bytes(), None).unwrap().unwrap();
    let challenge = server.challenge(PLAIN.as_bytes(), client.first().as_bytes()).unwrap();
    let proof = client.prove(challenge.as_bytes()).unwrap();
    assert_eq!(server.verify(proof.as_bytes()).unwrap_err(), ScramError::WrongPassword);
}

/// The example of RFC 7677: password `pencil`, as PostgreSQL would store it.
#[test]
fn verifiers_are_read_and_kept_secret() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let verifier = Verifier::parse(text).unwrap();
    let (verified, believed) = exchange(verifier.clone(), password("pencil"), None, None);
    assert!(verified.is_ok() && believed);
    assert_eq!(format!("{verifier:?}{:?}", verified.unwrap().credentials), "Verifier(***)Credentials(***)");
    for bad in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$4096:$x:y", "md5abc"] {
        assert_eq!(Verifier::parse(bad), None, "{bad}");
    }
}

#[test]
fn malformed_messages_are_refused() {
    let verifier = Verifier::of_password("pencil", &SEED, "ann");
    for (mechanism, first) in [
        (PLAIN, "n,,n=,r="),
        (PLAIN, "n,,m=x,n=,r=abc"),
        (PLAIN, "n,a=root,n=,r=abc"),
        (PLAIN, "p=tls-unique,,n=,r=abc"),
        (PLAIN, "n,,n=,r=a\u{7}c"),
        (PLAIN, "n"),
        (PLAIN, ""),
        (PLUS, "n,,n=,r=abc"),
        ("SCRAM-SHA-1", "n,,n=,r=abc"),
    ] {
        for binding in [None, Some(&b"hash"[..])] {
            let mut server = ServerExchange::new(verifier.clone(), true, binding);
            let answer = server.challenge(mechanism.as_bytes(), first.as_bytes());
            assert!(matches!(answer, Err(ScramError::Malformed(_))), "{mechanism} {first}: {answer:?}");
            assert!(matches!(server.verify(b"c=biws,r=abc,p=AAAA"), Err(ScramError::Malformed(_))));
        }
    }
    let mut server = ServerExchange::new(verifier, true, None);
    let challenge = server.challenge(PLAIN.as_bytes(), b"n,,n=,r=abc").unwrap();
    let nonce = attribute(&challenge, 'r').unwrap().0;
    for last in ["", "c=biws", "c=biws,r=abc,p=AAAA", "r=abc,c=biws,p=AAAA"] {
        assert!(matches!(server.verify(last.as_bytes()), Err(ScramError::Malformed(_))), "{last}");
    }
    let proof = BASE64.encode([0; 32]);
    let other_nonce = format!("c=biws,r=abcd,p={proof}");
    assert!(matches!(server.verify(other_nonce.as_bytes()), Err(ScramError::Malformed(_))));
    let other_header = format!("c=eSws,r={nonce},p={proof}");
    assert_eq!(server.verify(other_header.as_bytes()).unwrap_err(), ScramError::WrongBinding);
}

#[test]
fn a_server_without_the_verifier_is_not_believed_and_odd_challenges_are_refused() {
    let mut client = ClientExchange::begin(password("pencil"), PLAIN.as_bytes(), None).unwrap().unwrap();
    let first = client.first();
    let nonce = first.strip_prefix("n,,n=,r=").unwrap();
    assert!(!client.accepts(b"v="));
    for challenge in [
        String::new(),
        "r=other,s=AAAA,i=4096".to_owned(),
        format!("r={nonce},s=AAAA,i=4096"),
        format!("r={nonce}x,s=AAAA,i=0"),
        format!("r={nonce}x,s=AAAA,i=2000000"),
        format!("r={nonce}x,s=~,i=4096"),
    ] {
        assert!(client.prove(challenge.as_bytes()).is_err(), "{challenge}");
    }
    client.prove(format!("r={nonce}x,s=AAAA,i=4096").as_bytes()).unwrap();
    let wrong = format!("v={}", BASE64.encode([0; 32]));
    assert!(!client.accepts(wrong.as_bytes()) && !client.accepts(b"e=other-error"));
    assert!(ClientExchange::begin(password("pencil"), b"SCRAM-SHA-1\0\0", None).unwrap().is_none());
}
