//! A client that sends any bytes and hands back every frame as it came.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use larder_login::Stream;
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, ScramSha256},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, ToSocketAddrs},
    time::timeout,
};

use crate::{
    certificates::Tls,
    frame::{self, Frame},
};

/// How long one read or write may take, unless [`RawClient::set_limit`] says otherwise. Tests run on loaded machines.
const LIMIT: Duration = Duration::from_secs(20);

/// Who logs in, and with which startup message.
#[derive(Clone, Debug)]
pub struct Login {
    /// Sent in place of 3.0.
    pub version: i32,
    /// The startup parameters, in order; `user` among them.
    pub parameters: Vec<(String, String)>,
    /// Given if the server asks for one.
    pub password: Option<String>,
    /// What is said of channel binding in SCRAM.
    pub binding: Binding,
}

/// What a client says of channel binding in SCRAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// It does not know it: most drivers.
    #[default]
    Unknown,
    /// It knows it, and uses it if it is offered: libpq on TLS.
    Preferred,
}

impl Login {
    /// The superuser in the database `postgres`.
    #[must_use]
    pub fn superuser() -> Self {
        Self::new("postgres", "postgres")
    }

    /// A user in a database.
    #[must_use]
    pub fn new(user: &str, database: &str) -> Self {
        let parameters = vec![("user".into(), user.into()), ("database".into(), database.into())];
        Self { version: frame::PROTOCOL_3_0, parameters, password: None, binding: Binding::Unknown }
    }

    /// With this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// With channel binding if the server offers it.
    #[must_use]
    pub fn binding(mut self) -> Self {
        self.binding = Binding::Preferred;
        self
    }

    /// With one more startup parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// With another protocol version, for example `3 << 16 | 2`.
    #[must_use]
    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    fn user(&self) -> &str {
        self.parameters.iter().find(|(name, _)| name == "user").map_or("", |(_, value)| value)
    }
}

/// What BackendKeyData says: the way to cancel this session's queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelKey {
    /// The process number.
    pub pid: i32,
    /// The secret: 4 bytes in protocol 3.0, up to 256 since 3.2.
    pub secret: Bytes,
}

/// A connection whose every byte is the test's business.
#[derive(Debug)]
pub struct RawClient {
    stream: Stream,
    received: BytesMut,
    limit: Duration,
    greeting: Vec<Frame>,
}

impl RawClient {
    /// Connects, and sends nothing.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(addr: impl ToSocketAddrs) -> Result<Self> {
        let stream =
            timeout(LIMIT, TcpStream::connect(addr)).await.context("connecting takes too long")??;
        stream.set_nodelay(true)?;
        Ok(Self::over(Stream::Plain(stream)))
    }

    /// Connects, and sends nothing but what TLS needs: unless that is to begin directly, a request for it first.
    ///
    /// # Errors
    /// Nobody listens there, the request is refused, or the handshake fails.
    pub async fn open_tls(addr: impl ToSocketAddrs, tls: &Tls) -> Result<Self> {
        let mut plain = Self::open(addr).await?;
        if !tls.direct {
            plain.send(frame::untagged(frame::SSL_REQUEST, b"")).await?;
            let answer = plain.byte().await?;
            ensure!(answer == b'S', "TLS is refused with {:?}", char::from(answer));
        }
        plain.secure(tls).await
    }

    /// The handshake, now, on this connection.
    ///
    /// # Errors
    /// It fails.
    pub async fn secure(self, tls: &Tls) -> Result<Self> {
        let Stream::Plain(stream) = self.stream else { bail!("encrypted already") };
        let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
        let handshake = connector.connect("localhost".try_into()?, stream);
        let stream = timeout(LIMIT, handshake).await.context("the handshake takes too long")??;
        Ok(Self::over(Stream::Tls(Box::new(stream.into()))))
    }

    /// Connects over TLS and logs in.
    ///
    /// # Errors
    /// As [`RawClient::open_tls`] and [`RawClient::login`].
    pub async fn login_tls(addr: impl ToSocketAddrs, tls: &Tls, login: &Login) -> Result<Self> {
        let mut client = Self::open_tls(addr, tls).await?;
        client.log_in(login).await?;
        Ok(client)
    }

    /// Logs in on a connection that is open.
    ///
    /// # Errors
    /// As [`RawClient::login`].
    pub async fn log_in(&mut self, login: &Login) -> Result<()> {
        self.send(frame::startup(login.version, &login.parameters)).await?;
        self.authenticate(login).await
    }

    fn over(stream: Stream) -> Self {
        Self { stream, received: BytesMut::new(), limit: LIMIT, greeting: vec![] }
    }

    /// Connects and logs in, by whichever of trust, password, md5 and SCRAM-SHA-256 the server asks for.
    ///
    /// # Errors
    /// The server says no: its sentence and SQLSTATE are in the error.
    pub async fn login(addr: impl ToSocketAddrs, login: &Login) -> Result<Self> {
        let mut client = Self::open(addr).await?;
        client.log_in(login).await?;
        Ok(client)
    }

    /// Logs in as the superuser to the database `postgres`.
    ///
    /// # Errors
    /// As [`RawClient::login`].
    pub async fn superuser(addr: impl ToSocketAddrs) -> Result<Self> {
        Self::login(addr, &Login::superuser()).await
    }

    /// How long each read or write may take from now on.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Sends bytes, whatever they are.
    ///
    /// # Errors
    /// The other side is gone, or takes none of them in time.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let send = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        Ok(timeout(self.limit, send).await.context("sending takes too long")??)
    }

    /// Sends several messages in one write.
    ///
    /// # Errors
    /// As [`RawClient::send`].
    pub async fn send_all(&mut self, messages: &[Bytes]) -> Result<()> {
        self.send(messages.concat()).await
    }

    /// Ends our direction of the stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn half_close(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// One byte as it comes, for the answers to TLS and GSS requests.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn byte(&mut self) -> Result<u8> {
        ensure!(self.fill().await?, "the connection is closed");
        Ok(self.received.get_u8())
    }

    /// The next frame; `None` when the other side has closed the connection between frames.
    ///
    /// # Errors
    /// None comes in time, or the connection ends inside one.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = Frame::take(&mut self.received) {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                ensure!(self.received.is_empty(), "closed inside a frame after {:?}", self.received);
                return Ok(None);
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// None comes in time, or the connection ends.
    pub async fn frame(&mut self) -> Result<Frame> {
        self.next().await?.context("the connection is closed")
    }

    /// All frames up to and including the first of this type.
    ///
    /// # Errors
    /// As [`RawClient::frame`]; the error names what had come by then.
    pub async fn until(&mut self, tag: u8) -> Result<Vec<Frame>> {
        let mut frames = vec![];
        while frames.last().is_none_or(|f: &Frame| f.tag != tag) {
            let frame = self.frame().await;
            frames.push(frame.with_context(|| format!("waiting for {} after {frames:?}", char::from(tag)))?);
        }
        Ok(frames)
    }

    /// All frames up to and including ReadyForQuery.
    ///
    /// # Errors
    /// As [`RawClient::until`].
    pub async fn until_ready(&mut self) -> Result<Vec<Frame>> {
        self.until(b'Z').await
    }

    /// All frames until the other side closes the connection.
    ///
    /// # Errors
    /// It does not, in time.
    pub async fn until_closed(&mut self) -> Result<Vec<Frame>> {
        let mut frames = vec![];
        while let Some(frame) = self.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Sends a simple query and returns all frames of the answer.
    ///
    /// # Errors
    /// As [`RawClient::until`]; an ErrorResponse is an answer too.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Frame>> {
        self.send(frame::query(sql)).await?;
        self.until_ready().await
    }

    /// Sends Parse, Bind, Describe, Execute and Sync with unnamed statement and portal; parameters and results in text.
    ///
    /// # Errors
    /// As [`RawClient::query`].
    pub async fn extended(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<Frame>> {
        let messages = [
            frame::parse("", sql, &[]),
            frame::bind("", "", parameters),
            frame::describe_portal(""),
            frame::execute("", 0),
            frame::sync(),
        ];
        self.send_all(&messages).await?;
        self.until_ready().await
    }

    /// The rows of a simple query.
    ///
    /// # Errors
    /// As [`RawClient::query`]; an ErrorResponse is an error here.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let frames = self.query(sql).await?;
        if let Some(error) = frames.iter().find(|f| f.tag == b'E') {
            bail!("{sql}: {error:?}");
        }
        Ok(frames.iter().filter(|f| f.tag == b'D').map(Frame::values).collect())
    }

    /// The only value of a simple query's only row.
    ///
    /// # Errors
    /// As [`RawClient::rows`]; also if there is not exactly one value, or it is null.
    pub async fn value(&mut self, sql: &str) -> Result<String> {
        let rows = self.rows(sql).await?;
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone().with_context(|| format!("{sql}: null")),
            _ => bail!("{sql}: {rows:?} is not one value"),
        }
    }

    /// The frames of the login, from the first answer to ReadyForQuery.
    #[must_use]
    pub fn greeting(&self) -> &[Frame] {
        &self.greeting
    }

    /// The server's parameters as told at login.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, String> {
        let told = self.greeting.iter().filter(|f| f.tag == b'S');
        told.filter_map(|f| {
            let mut parts = f.body.split(|b| *b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
            Some((parts.next()?, parts.next()?))
        })
        .collect()
    }

    /// The key told at login; `None` if there was none.
    #[must_use]
    pub fn cancel_key(&self) -> Option<CancelKey> {
        let mut body = self.greeting.iter().find(|f| f.tag == b'K')?.body.clone();
        Some(CancelKey { pid: body.get_i32(), secret: body })
    }

    /// Asks a server, over a connection of its own, to cancel what the key's session is doing; returns once the server
    /// has closed that connection.
    ///
    /// # Errors
    /// Nobody listens there, or the connection is not closed in time.
    pub async fn cancel(addr: impl ToSocketAddrs, key: &CancelKey) -> Result<()> {
        let mut client = Self::open(addr).await?;
        client.send(frame::cancel(key.pid, &key.secret)).await?;
        let answer = client.until_closed().await?;
        ensure!(answer.is_empty(), "a cancel request was answered with {answer:?}");
        Ok(())
    }

    /// Our own address, as the server sees it.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.stream.tcp().local_addr()?)
    }

    /// The stream itself, for what this client cannot do.
    ///
    /// # Panics
    /// If it is encrypted.
    pub fn stream(&mut self) -> &mut TcpStream {
        match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(_) => panic!("the stream is encrypted"),
        }
    }

    /// Answers the server's demands until ReadyForQuery.
    async fn authenticate(&mut self, login: &Login) -> Result<()> {
        let password = || login.password.as_deref().context("the server asks for a password");
        let mut scram = None;
        loop {
            let frame = self.frame().await?;
            self.greeting.push(frame.clone());
            let mut body = frame.body.clone();
            match frame.tag {
                b'Z' => return Ok(()),
                b'E' => {
                    let fields: Vec<_> = frame
                        .fields()
                        .map(|(letter, value)| char::from(letter).to_string() + &value)
                        .collect();
                    bail!("login refused: {}", fields.join(" | "));
                }
                b'R' => match body.get_i32() {
                    3 => self.send(frame::password(password()?)).await?,
                    5 => {
                        let salt = body.as_ref().try_into().context("the salt of md5 has 4 bytes")?;
                        let answer = md5_hash(login.user().as_bytes(), password()?.as_bytes(), salt);
                        self.send(frame::password(&answer)).await?;
                    }
                    10 => {
                        ensure!(body.starts_with(b"SCRAM-SHA-256"), "unknown SASL mechanisms {body:?}");
                        let plus = body.starts_with(b"SCRAM-SHA-256-PLUS");
                        let bound = self.stream.server_end_point();
                        let (name, binding) = match (login.binding, bound) {
                            (Binding::Preferred, Some(hash)) if plus => {
                                ("SCRAM-SHA-256-PLUS", ChannelBinding::tls_server_end_point(hash))
                            }
                            (Binding::Preferred, Some(_)) => ("SCRAM-SHA-256", ChannelBinding::unrequested()),
                            _ => ("SCRAM-SHA-256", ChannelBinding::unsupported()),
                        };
                        let exchange = ScramSha256::new(password()?.as_bytes(), binding);
                        self.send(sasl_initial(name, exchange.message())).await?;
                        scram = Some(exchange);
                    }
                    11 => {
                        let exchange = scram.as_mut().context("SASLContinue before SASL")?;
                        exchange.update(&body)?;
                        self.send(frame::message(b'p', exchange.message())).await?;
                    }
                    12 => scram.as_mut().context("SASLFinal before SASL")?.finish(&body)?,
                    0 => {}
                    other => bail!("unknown demand {other} for authentication"),
                },
                _ => {} // parameters, the key, notices
            }
        }
    }

    /// Reads some more; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool> {
        if !self.received.is_empty() && self.received.capacity() == self.received.len() {
            self.received.reserve(64 * 1024);
        }
        let read = timeout(self.limit, self.stream.read_buf(&mut self.received)).await;
        let count = read.with_context(|| format!("nothing comes for {:?}", self.limit))??;
        Ok(count > 0)
    }
}

/// SASLInitialResponse.
fn sasl_initial(mechanism: &str, data: &[u8]) -> Bytes {
    let mut body = BytesMut::from(mechanism.as_bytes());
    body.extend_from_slice(b"\0");
    body.extend_from_slice(&i32::try_from(data.len()).unwrap().to_be_bytes());
    body.extend_from_slice(data);
    frame::message(b'p', &body)
}
