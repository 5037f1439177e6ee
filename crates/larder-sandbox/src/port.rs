//! Free ports. Between choosing one and using it, another process may take it: so starts are tried again.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Context, Result};

/// How often a start is tried.
pub(crate) const ATTEMPTS: usize = 10;

/// A port nobody uses at this moment.
pub(crate) fn free() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .context(|| "no free port on 127.0.0.1".to_owned())
}

/// Whether a failed start is worth another attempt: someone else had the port, or a crashed server's processes are
/// not all gone.
pub(crate) fn may_pass(log: &str) -> bool {
    ["Address already in use", "could not create any TCP/IP sockets", "shared memory block"]
        .iter()
        .any(|sign| log.contains(sign))
}
