//! The login to the admin database: SCRAM with the one user and password that the configuration names. The origin does
//! not take part.

use larder_login::random;
use larder_login::scram::Verifier;
use larder_wire::encode;

use super::opening::Opened;
use super::{Refused, refuse, verify};
use crate::access::Access;
use crate::console::ConsoleAccess;

/// What drivers want to know of a server before they talk to it.
const SETTINGS: [(&str, &str); 7] = [
    ("server_version", "18.0 (Larder)"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
];

/// Up to ReadyForQuery.
pub(super) async fn log_in(
    access: &Access,
    opened: &mut Opened,
    console: &ConsoleAccess,
) -> Result<(), Refused> {
    if opened.replication {
        let message =
            format!("database \"{}\" is Larder's own: there is nothing to replicate", console.database);
        return Err(refuse(&mut opened.client, "0A000", &message, None));
    }
    let user = opened.user.clone().unwrap_or_default();
    let known = user == console.user;
    let verifier = if known { console.verifier.clone() } else { Verifier::mock(&access.seed, &user) };
    if let Err(refused) = verify::scram(access, &mut opened.client, &user, verifier, known).await {
        tracing::warn!(client = %opened.peer, user, "login to the admin database refused");
        return Err(refused);
    }
    let client = &mut opened.client;
    verify::authentication(client, 0, &[]);
    for (name, value) in SETTINGS {
        encode::parameter_status(&mut client.output, name, value);
    }
    // Nothing here can be cancelled, but drivers expect a key.
    let key = random::<8>()?;
    encode::frame(&mut client.output, b'K', |out| out.extend_from_slice(&key));
    encode::ready_for_query(&mut client.output, b'I');
    tracing::info!(client = %opened.peer, user, "login to the admin database");
    Ok(())
}
