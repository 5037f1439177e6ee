//! What a service manager is told (systemd's `Type=notify`): one datagram to a socket that it names in the environment.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// `READY=1`, `STOPPING=1`. Nothing happens where nobody wants to know, and nothing depends on it.
pub(super) fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address(name.as_bytes())?);
    if let Err(error) = send() {
        tracing::warn!(%error, "cannot tell the service manager {state}");
    }
}

fn address(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(OsStr::from_bytes(name))
}
