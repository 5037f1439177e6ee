//! `larder health`: asks the admin address of a Larder on this machine how it is, for health checks of containers whose
//! image has no shell and no curl in it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::print_text;
use crate::config::Effective;

/// More than any answer of `/readyz`; a stranger on this port must not fill memory.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Status 0 if the answer is 200, else 1; prints what was answered. `live` asks only whether the process runs.
pub(crate) fn health(effective: &Effective, live: bool, timeout: Duration) -> anyhow::Result<ExitCode> {
    let address = reachable(effective.config.admin.addr.0);
    let path = if live { "/livez" } else { "/readyz" };
    let answer = ask(address, path, timeout)
        .with_context(|| format!("no answer from http://{address}{path}: is Larder running there?"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let healthy = head.split(' ').nth(1) == Some("200");
    print_text(&format!("{}\n", body.trim_end()))?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An address to listen on all interfaces with is none to connect to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// HTTP 1.0: the answer ends where the connection does, so there is nothing to decode.
fn ask(address: SocketAddr, path: &str, timeout: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "for tests only")]
mod tests {
    use super::reachable;

    #[test]
    fn all_interfaces_are_asked_on_this_machine() {
        for (listen, ask) in
            [("0.0.0.0:6434", "127.0.0.1:6434"), ("[::]:6434", "[::1]:6434"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), ask);
        }
    }
}
