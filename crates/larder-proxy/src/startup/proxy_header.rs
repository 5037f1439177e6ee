//! The header of the PROXY protocol, version 1 or 2: who the client is that a load balancer speaks for.
//!
//! It is read byte-exactly, since TLS may begin right behind it, and it is bounded. Whether a peer may send one is decided
//! by its address; from any other peer the header is garbage like any other.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest header of version 1, line end included.
const MAX_V1: usize = 107;
/// Longest body of version 2: addresses and some extensions. The protocol would allow 64 KiB.
const MAX_V2: usize = 4096;
/// Every header of version 2 begins with this.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header; the address of the client, or `None` if the peer speaks for itself or does not know.
///
/// # Errors
/// `InvalidData`: there is none. Others: the connection broke.
pub(super) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0];
    socket.read_exact(&mut header).await?;
    match header.as_slice() {
        b"P" => read_v1(socket, &mut header).await?,
        b"\r" => read_v2(socket, &mut header).await?,
        _ => return Err(invalid("the first byte belongs to another protocol")),
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        }),
        result if result.is_incomplete() => Err(invalid("it is cut off")),
        HeaderResult::V1(Err(error)) => Err(invalid(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(invalid(&error.to_string())),
    }
}

/// `PROXY TCP4 <source> <destination> <port> <port>` and a line end.
async fn read_v1(socket: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    while header.last() != Some(&b'\n') {
        if header.len() == MAX_V1 {
            return Err(invalid("the line is too long"));
        }
        header.push(socket.read_u8().await?);
        let known = b"PROXY ".iter().zip(header.iter()).all(|(expected, byte)| expected == byte);
        if !known {
            return Err(invalid("the first bytes belong to another protocol"));
        }
    }
    Ok(())
}

/// The signature, four bytes, the last two of which are the length of the rest, and the rest.
async fn read_v2(socket: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> io::Result<()> {
    let mut fixed = [0; 15];
    socket.read_exact(&mut fixed).await?;
    header.extend_from_slice(&fixed);
    if !header.starts_with(SIGNATURE) {
        return Err(invalid("the first bytes belong to another protocol"));
    }
    let [.., high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(invalid("it is longer than 4 KiB"));
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    header.extend_from_slice(&rest);
    Ok(())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and how many bytes are left.
    async fn header(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut left = bytes;
        let read = read(&mut left).await;
        (read, left.len())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[0x20 | command, family], &length, body].concat()
    }

    #[tokio::test]
    async fn addresses_are_read_and_nothing_behind_the_header_is() {
        let four: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let six: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
        let four_bytes = [192, 0, 2, 7, 127, 0, 0, 1, 0x13, 0x88, 0x19, 0x21];
        let mut six_bytes = vec![0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        six_bytes.extend([0; 16]);
        six_bytes.extend([0x13, 0x88, 0x19, 0x21]);
        let with_extension = [&four_bytes[..], &[0xea, 0, 3, b'a', b'b', b'c']].concat();
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 6433\r\n".to_vec(), Some(four)),
            (b"PROXY TCP6 2001:db8::1 ::1 5000 6433\r\n".to_vec(), Some(six)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2(1, 0x11, &four_bytes), Some(four)),
            (v2(1, 0x11, &with_extension), Some(four)),
            (v2(1, 0x21, &six_bytes), Some(six)),
            (v2(0, 0x00, b""), None),
            (v2(0, 0x11, &four_bytes), None),
            (v2(1, 0x00, b""), None),
        ] {
            let (read, left) = header(&[&bytes[..], b"\0\0\0\x08"].concat()).await;
            assert_eq!((read.unwrap(), left), (expected, 4), "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_at_once_and_what_is_cut_off_is_an_end() {
        for bytes in [
            &b"\0\0\0\x08\x04\xd2\x16\x2f"[..],
            b"\x16\x03\x01",
            b"PROXX TCP4",
            b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 notaport\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            &[b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
            b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\x0c",
            &v2(1, 0x11, b"short"),
            &v2(1, 0x11, &[0; 5000]),
        ] {
            let error = header(bytes).await.0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}: {error}", bytes.escape_ascii());
        }
        for cut in [&b"PROXY TCP4 192"[..], &v2(1, 0x11, &[0; 12])[..20], b""] {
            let error = header(cut).await.0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{}", cut.escape_ascii());
        }
    }
}
