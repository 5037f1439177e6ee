//! Login of the replication connection: trust, password, md5 and SCRAM-SHA-256.

use bytes::BytesMut;
use larder_login::{LoginError, Proof, Responder, Step};

use crate::Account;
use crate::error::Failure;
use crate::wire::Wire;

/// Answers the server's authentication requests until it is satisfied.
pub(crate) async fn log_in(wire: &mut Wire, account: &Account) -> Result<(), Failure> {
    let proof = account.password.clone().map_or(Proof::Nothing, Proof::Password);
    let mut responder = Responder::new(&account.user, proof, wire.socket.server_end_point());
    loop {
        let frame = wire.expect(b'R').await?;
        let mut out = BytesMut::new();
        let step = responder.answer(&frame.body, &mut out).map_err(|error| match error {
            LoginError::Malformed(_) => Failure::Protocol(error.to_string()),
            _ => Failure::Authentication(error.to_string()),
        })?;
        if step == Step::Accepted {
            return Ok(());
        }
        if !out.is_empty() {
            wire.send(&out).await?;
        }
    }
}
