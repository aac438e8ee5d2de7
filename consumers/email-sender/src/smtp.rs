//! The SMTP client. lettre builds commands and reads answers; when to connect, how long to wait, and what an answer means
//! for the mail is decided here, because three things of lettre's own transport do not do for us: it leaves
//! `TCP_NODELAY` off (43 ms a mail), its pool does not bound the number of connections, and it does not tell whether a
//! mail that failed may have been taken all the same.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::message::{Mail, plain_line};
use crate::wire::Wire;
use crate::{SmtpConfig, Tls};

/// Connections that were not used for so long are closed. Servers keep them for minutes.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// How long saying goodbye may take.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// "Authentication required", "mechanism too weak", "credentials invalid", "encryption required" (RFC 4954): these tell
/// about us, whatever command they answer.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];
/// "Service not available, closing transmission channel".
const CLOSING: u16 = 421;

/// Why a mail was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// There is no connection over which the server would take any mail. It is not this mail's fault, which was not
    /// even shown.
    Unavailable(String),
    /// This attempt failed; another may succeed.
    Transient {
        /// What happened.
        reason: String,
        /// Whether the server said so, rather than nothing.
        answered: bool,
        /// The server may have taken it.
        ambiguous: bool,
    },
    /// The server refuses this mail for good.
    Permanent(String),
}

/// A client of one server.
pub struct Smtp {
    config: SmtpConfig,
    tls: Option<TlsParameters>,
    hello: ClientId,
    turns: Semaphore,
    /// Used last, taken first: what is not needed grows old and is closed.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

/// Leave to use one connection.
pub struct Turn<'a> {
    smtp: &'a Smtp,
    _permit: Option<SemaphorePermit<'a>>,
}

/// One command, or the mail, did not get the answer it needs.
struct Failure {
    reason: String,
    /// The server's answer, if it gave one.
    code: Option<u16>,
    /// Where in the dialogue.
    at: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server knows the sender only.
    Sender,
    /// It knows the recipient too.
    Recipient,
    /// The mail is partly out.
    Content,
    /// The mail is out, the answer is not in.
    Answer,
}

impl Smtp {
    /// A client; it connects when it is first used.
    pub fn new(config: SmtpConfig) -> anyhow::Result<Self> {
        let tls = match config.tls {
            Tls::Off => None,
            Tls::Starttls | Tls::Implicit => {
                let mut parameters = TlsParameters::builder(config.host.clone());
                if let Some(path) = &config.ca_file {
                    let pem =
                        std::fs::read(path).with_context(|| format!("SMTP_CA_FILE {}", path.display()))?;
                    let certificate =
                        Certificate::from_pem(&pem).context("SMTP_CA_FILE holds no PEM certificate")?;
                    parameters = parameters.add_root_certificate(certificate);
                }
                Some(parameters.build_rustls()?)
            }
        };
        Ok(Self {
            turns: Semaphore::new(config.max_connections),
            tls,
            hello: ClientId::default(),
            idle: Mutex::default(),
            config,
        })
    }

    /// How it is configured.
    pub fn config(&self) -> &SmtpConfig {
        &self.config
    }

    /// Waits for leave to use a connection.
    pub async fn turn(&self) -> Turn<'_> {
        // Nobody closes the semaphore.
        Turn {
            smtp: self,
            _permit: self.turns.acquire().await.ok(),
        }
    }

    /// Closes connections that nobody needs, or all of them.
    pub async fn close_idle(&self, all: bool) {
        let closing: Vec<Idle> = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // The front is the oldest.
            let count = idle
                .iter()
                .take_while(|i| all || i.since.elapsed() >= IDLE_LIMIT)
                .count();
            idle.drain(..count).collect()
        };
        futures::future::join_all(closing.into_iter().map(|mut idle| async move {
            // Whether it hears us or not, the connection goes.
            let _ = timeout(QUIT_TIMEOUT, idle.connection.quit()).await;
        }))
        .await;
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().map(|idle| idle.connection)
    }

    fn put_idle(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle {
            connection,
            since: Instant::now(),
        });
    }

    /// A new connection, encrypted and authenticated as configured.
    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let config = &self.config;
        match timeout(config.timeout, self.try_connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(SendError::Unavailable(plain_line(&format!("{error:#}"), 500))),
            Err(_) => {
                let reason = format!("connecting to {}:{} timed out", config.host, config.port);
                Err(SendError::Unavailable(reason))
            }
        }
    }

    async fn try_connect(&self) -> anyhow::Result<AsyncSmtpConnection> {
        let config = &self.config;
        let stream = TcpStream::connect((config.host.as_str(), config.port))
            .await
            .with_context(|| format!("cannot connect to {}:{}", config.host, config.port))?;
        // A mail goes out in two writes. Without this the second waits for the receiver's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let mut connection = match (config.tls, &self.tls) {
            (Tls::Implicit, Some(tls)) => {
                let stream = encrypted(stream, tls.clone())
                    .await
                    .map_err(because("the TLS handshake failed"))?;
                self.greet(Wire::new(stream, peer)).await?
            }
            (Tls::Starttls, Some(tls)) => {
                let mut connection = self.greet(Wire::new(stream, peer)).await?;
                anyhow::ensure!(
                    connection.can_starttls(),
                    "the server does not offer STARTTLS, and SMTP_TLS=starttls sends nothing without it"
                );
                connection
                    .starttls(tls.clone(), &self.hello)
                    .await
                    .map_err(because("STARTTLS failed"))?;
                connection
            }
            _ => self.greet(Wire::new(stream, peer)).await?,
        };
        if let Some((username, password)) = &config.credentials {
            let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
            connection
                .auth(DEFAULT_MECHANISMS, &credentials)
                .await
                .map_err(because(
                    "the server does not accept SMTP_USERNAME and SMTP_PASSWORD",
                ))?;
        }
        Ok(connection)
    }

    async fn greet(&self, wire: impl AsyncTokioStream + 'static) -> anyhow::Result<AsyncSmtpConnection> {
        AsyncSmtpConnection::connect_with_transport(Box::new(wire), &self.hello)
            .await
            .map_err(because("the server does not greet us"))
    }

    /// Tells the sender, the first thing that a server may refuse.
    async fn begin(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        international: bool,
    ) -> Result<(), Failure> {
        let parameters = if international {
            vec![MailParameter::SmtpUtfEight]
        } else {
            Vec::new()
        };
        let command = MailFrom::new(Some(from.clone()), parameters);
        self.ask(Stage::Sender, connection.command(command)).await
    }

    /// The dialogue from the recipient on.
    async fn finish(&self, connection: &mut AsyncSmtpConnection, mail: &Mail) -> Result<(), Failure> {
        self.ask(
            Stage::Recipient,
            connection.command(Rcpt::new(mail.to.clone(), Vec::new())),
        )
        .await?;
        // Anything but 3yz, and the lines of the mail would be taken for commands.
        let go_ahead = timeout(self.config.timeout, connection.command(Data)).await;
        check(Stage::Recipient, Severity::PositiveIntermediate, go_ahead)?;
        // The iterator is asked for more only when the mail is written: what follows is the line that ends it.
        let mut written = false;
        let content = [mail.bytes.as_slice()].into_iter().chain(std::iter::from_fn(|| {
            written = true;
            None
        }));
        let answer = timeout(self.config.timeout * 4, connection.message_iter(content)).await;
        let at = if written { Stage::Answer } else { Stage::Content };
        check(at, Severity::PositiveCompletion, answer)
    }

    async fn ask(
        &self,
        at: Stage,
        command: impl Future<Output = Result<Response, lettre::transport::smtp::Error>>,
    ) -> Result<(), Failure> {
        check(
            at,
            Severity::PositiveCompletion,
            timeout(self.config.timeout, command).await,
        )
    }

    /// Puts a connection back that is between two mails, after clearing what the last one left if asked to.
    async fn put_back(&self, mut connection: AsyncSmtpConnection, reset: bool) {
        if !reset || self.ask(Stage::Sender, connection.command(Rset)).await.is_ok() {
            self.put_idle(connection);
        }
    }
}

impl Turn<'_> {
    /// Finds out whether the server would take mail from us, without giving it one.
    pub async fn probe(&self, from: &Address) -> Result<(), SendError> {
        // A server that bounds our connections refuses one more while those that we have still work.
        if let Some(mut connection) = self.smtp.take_idle()
            && self.smtp.begin(&mut connection, from, false).await.is_ok()
        {
            self.smtp.put_back(connection, true).await;
            return Ok(());
        }
        let mut connection = self.smtp.connect().await?;
        self.smtp
            .begin(&mut connection, from, false)
            .await
            .map_err(|failure| unavailable(&failure))?;
        self.smtp.put_back(connection, true).await;
        Ok(())
    }

    /// Sends a mail. `Ok` means that the server took responsibility for it.
    pub async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        // A connection that lay idle may be dead without our knowing. What fails over it before the mail itself is tried
        // once more over a new one.
        if let Some(mut connection) = self.smtp.take_idle()
            && let Some(result) = self.try_pooled(&mut connection, mail).await
        {
            return self.settle(connection, mail, result).await;
        }
        let mut connection = self.smtp.connect().await?;
        let international = match international(&connection, mail) {
            Ok(international) => international,
            Err(error) => {
                self.smtp.put_idle(connection);
                return Err(error);
            }
        };
        self.smtp
            .begin(&mut connection, &mail.from, international)
            .await
            .map_err(|failure| unavailable(&failure))?;
        let result = self.smtp.finish(&mut connection, mail).await;
        self.settle(connection, mail, result).await
    }

    /// `None` when the connection is to blame, or may be.
    async fn try_pooled(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &Mail,
    ) -> Option<Result<(), Failure>> {
        let international = international(connection, mail).ok()?;
        self.smtp
            .begin(connection, &mail.from, international)
            .await
            .ok()?;
        match self.smtp.finish(connection, mail).await {
            Err(failure) if failure.lost() && failure.at == Stage::Recipient => None,
            result => Some(result),
        }
    }

    /// What the end of the dialogue means, for the mail and for the connection.
    async fn settle(
        &self,
        connection: AsyncSmtpConnection,
        mail: &Mail,
        result: Result<(), Failure>,
    ) -> Result<(), SendError> {
        let Err(failure) = result else {
            self.smtp.put_back(connection, false).await;
            return Ok(());
        };
        if failure.lost() {
            let ambiguous = failure.at == Stage::Answer && failure.code.is_none();
            return Err(SendError::Transient {
                reason: failure.reason,
                answered: false,
                ambiguous,
            });
        }
        self.smtp
            .put_back(connection, failure.at == Stage::Recipient)
            .await;
        let reason = without_address(&failure.reason, &mail.to);
        Err(match failure.code {
            Some(code) if ABOUT_US.contains(&code) => SendError::Unavailable(reason),
            Some(500..) => SendError::Permanent(reason),
            _ => SendError::Transient {
                reason,
                answered: true,
                ambiguous: false,
            },
        })
    }
}

impl Failure {
    /// The connection is of no use any more.
    fn lost(&self) -> bool {
        self.code.is_none_or(|code| code == CLOSING)
    }
}

/// Whether the mail needs SMTPUTF8; an error when it does and the server has not got it.
fn international(connection: &AsyncSmtpConnection, mail: &Mail) -> Result<bool, SendError> {
    if mail.is_ascii() {
        return Ok(false);
    }
    if connection.server_info().supports_feature(Extension::SmtpUtfEight) {
        return Ok(true);
    }
    Err(SendError::Permanent(
        "the server takes no addresses beyond ASCII (SMTPUTF8)".to_owned(),
    ))
}

/// Sorts an answer, its absence included. One of a `wanted` kind is good.
fn check(
    at: Stage,
    wanted: Severity,
    answer: Result<Result<Response, lettre::transport::smtp::Error>, Elapsed>,
) -> Result<(), Failure> {
    let error = match answer {
        Ok(Ok(response)) if response.code().severity == wanted => return Ok(()),
        // We and the server are not at the same place of the dialogue any more.
        Ok(Ok(response)) => {
            return Err(Failure {
                reason: format!("unexpected answer {}", response.code()),
                code: None,
                at,
            });
        }
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(Failure {
                reason: "the answer did not come in time".to_owned(),
                code: None,
                at,
            });
        }
    };
    let code = error.status().map(u16::from);
    let text = std::error::Error::source(&error).map(ToString::to_string);
    let reason = match (code, text) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        (Some(code), None) => code.to_string(),
        (None, _) => format!("the connection broke: {error}"),
    };
    Err(Failure {
        reason: plain_line(&reason, 500),
        code,
        at,
    })
}

/// lettre's errors print their sources too, so they must not become links of a chain that prints them again.
fn because(what: &'static str) -> impl FnOnce(lettre::transport::smtp::Error) -> anyhow::Error {
    move |error| anyhow::anyhow!("{what}: {error}")
}

fn unavailable(failure: &Failure) -> SendError {
    let reason = match failure.code {
        Some(_) => format!("the server takes no mail from us: {}", failure.reason),
        None => failure.reason.clone(),
    };
    SendError::Unavailable(reason)
}

/// Servers repeat the address when they refuse it. Reasons go into events and logs, where no address belongs.
fn without_address(reason: &str, address: &Address) -> String {
    let address: &str = address.as_ref();
    let mut rest = reason;
    let mut clean = String::with_capacity(reason.len());
    while let Some(at) = rest.to_ascii_lowercase().find(&address.to_ascii_lowercase()) {
        // ASCII case folding keeps byte positions.
        let (before, found) = rest.split_at(at);
        clean.push_str(before);
        clean.push_str("(recipient)");
        rest = found.get(address.len()..).unwrap_or_default();
    }
    clean + rest
}

#[expect(
    deprecated,
    reason = "lettre offers no other way to TLS from the first byte over a stream of one's own"
)]
async fn encrypted(
    stream: TcpStream,
    tls: TlsParameters,
) -> Result<
    tokio_util::compat::Compat<lettre::transport::smtp::client::AsyncNetworkStream>,
    lettre::transport::smtp::Error,
> {
    let mut stream =
        lettre::transport::smtp::client::AsyncNetworkStream::use_existing_tokio1(Box::new(stream));
    stream.upgrade_tls(tls).await?;
    Ok(stream.compat())
}

#[cfg(test)]
mod tests;
