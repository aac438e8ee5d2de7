//! The SMTP client. lettre builds commands and reads answers; when to connect, how long to wait, and what an answer means
//! for the mail is decided here, because lettre's own transport leaves `TCP_NODELAY` off (43 ms a mail), does not bound
//! the number of its connections, and does not tell whether a mail that failed may have been taken all the same.

mod connect;
mod dialogue;
mod wire;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::Address;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::SmtpConfig;
use crate::bounce::{Status, is_about_recipient, is_dead};
use crate::message::{Mail, plain_line};
use connect::Connector;
use dialogue::{Dialogue, Failure, Stage};

/// Connections that were not used for so long are closed. Servers keep them for minutes.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// How long saying goodbye may take.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// "Authentication required", "mechanism too weak", "credentials invalid", "encryption required" (RFC 4954): these tell
/// about us, whatever command they answer.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

/// Why a mail was not accepted. Reasons are one line and name no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// There is no connection over which the server would take any mail. It is not this mail's fault.
    Unavailable(String),
    /// This attempt failed; another may succeed.
    Transient {
        /// What happened.
        reason: String,
        /// What it is about.
        about: About,
        /// The server may have taken it.
        ambiguous: bool,
    },
    /// The server refuses this mail for good.
    Permanent {
        /// What it said.
        reason: String,
        /// Whether it refuses every mail to the recipient.
        dead: bool,
    },
}

/// What an attempt that failed for now tells about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The server: it said nothing.
    Server,
    /// The recipient's domain, as far as the answer tells: other mail to it may be put off likewise.
    Domain,
    /// This recipient.
    Recipient,
}

/// A client of one server.
pub struct Smtp {
    connector: Connector,
    timeout: Duration,
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

impl Smtp {
    /// A client; it connects when it is first used.
    pub fn new(config: SmtpConfig) -> anyhow::Result<Self> {
        Ok(Self {
            timeout: config.timeout,
            turns: Semaphore::new(config.max_connections),
            idle: Mutex::default(),
            connector: Connector::new(config)?,
        })
    }

    /// Waits for leave to use a connection.
    pub async fn turn(&self) -> Turn<'_> {
        // An error would be that the semaphore is closed, and nobody closes it.
        let permit = self.turns.acquire().await.ok();
        Turn {
            smtp: self,
            _permit: permit,
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

    fn take_idle(&self) -> Option<Dialogue> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let Idle { connection, .. } = idle.pop()?;
        Some(Dialogue::new(connection, self.timeout))
    }

    async fn connect(&self) -> Result<Dialogue, SendError> {
        match self.connector.connect().await {
            Ok(connection) => Ok(Dialogue::new(connection, self.timeout)),
            Err(error) => Err(SendError::Unavailable(plain_line(&format!("{error:#}"), 500))),
        }
    }

    /// Puts a connection back that is between two mails.
    fn put_back(&self, dialogue: Dialogue) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle {
            connection: dialogue.into_connection(),
            since: Instant::now(),
        });
    }

    /// The same for one that is in the middle of a mail, after clearing that.
    async fn reset(&self, mut dialogue: Dialogue) {
        if dialogue.reset().await.is_ok() {
            self.put_back(dialogue);
        }
    }
}

impl Turn<'_> {
    /// Finds out whether the server would take mail from us, without giving it one.
    pub async fn probe(&self, from: &Address) -> Result<(), SendError> {
        // A server that bounds our connections refuses one more while those that we have still work.
        if let Some(mut dialogue) = self.smtp.take_idle()
            && dialogue.begin(from, false).await.is_ok()
        {
            self.smtp.reset(dialogue).await;
            return Ok(());
        }
        let mut dialogue = self.smtp.connect().await?;
        dialogue.begin(from, false).await.map_err(unavailable)?;
        self.smtp.reset(dialogue).await;
        Ok(())
    }

    /// Sends a mail. `Ok` means that the server took responsibility for it.
    pub async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        // A connection that lay idle may be dead without our knowing. What fails over it before the mail itself is tried
        // once more over a new one.
        if let Some(mut dialogue) = self.smtp.take_idle()
            && let Some(result) = try_pooled(&mut dialogue, mail).await
        {
            return self.settle(dialogue, mail, result).await;
        }
        let mut dialogue = self.smtp.connect().await?;
        if !dialogue.can_carry(mail) {
            self.smtp.put_back(dialogue);
            return Err(SendError::Permanent {
                reason: "the server takes no addresses beyond ASCII (SMTPUTF8)".to_owned(),
                dead: false,
            });
        }
        dialogue
            .begin(&mail.from, !mail.is_ascii())
            .await
            .map_err(unavailable)?;
        let result = dialogue.finish(mail).await;
        self.settle(dialogue, mail, result).await
    }

    /// What the end of a dialogue means, for the mail and for the connection.
    async fn settle(
        &self,
        dialogue: Dialogue,
        mail: &Mail,
        result: Result<(), Failure>,
    ) -> Result<(), SendError> {
        let Err(failure) = result else {
            self.smtp.put_back(dialogue);
            return Ok(());
        };
        let reason = without_address(&failure.reason, mail.to.as_ref());
        match failure.at {
            _ if failure.is_loss() => drop(dialogue),
            Stage::Sender | Stage::Recipient => self.smtp.reset(dialogue).await,
            Stage::Content | Stage::Answer => self.smtp.put_back(dialogue),
        }
        Err(match failure.code {
            None => SendError::Transient {
                reason,
                about: About::Server,
                ambiguous: failure.at == Stage::Answer,
            },
            Some(code) if ABOUT_US.contains(&code) => SendError::Unavailable(reason),
            Some(500..) => SendError::Permanent {
                dead: failure.at == Stage::Recipient && is_dead(failure.code, Status::find(&reason)),
                reason,
            },
            // One that closes with an answer, in the middle of a mail, has had enough of such mails: whether it is there, the next
            // connection tells.
            Some(_) => SendError::Transient {
                about: if is_about_recipient(Status::find(&reason)) {
                    About::Recipient
                } else {
                    About::Domain
                },
                reason,
                ambiguous: false,
            },
        })
    }
}

/// `None` when the connection is to blame, or may be.
async fn try_pooled(dialogue: &mut Dialogue, mail: &Mail) -> Option<Result<(), Failure>> {
    if !dialogue.can_carry(mail) {
        return None;
    }
    dialogue.begin(&mail.from, !mail.is_ascii()).await.ok()?;
    match dialogue.finish(mail).await {
        Err(failure) if failure.is_loss() && failure.at == Stage::Recipient => None,
        result => Some(result),
    }
}

/// A failure before the server heard of any recipient.
fn unavailable(failure: Failure) -> SendError {
    SendError::Unavailable(match failure.code {
        Some(_) => format!("the server takes no mail from us: {}", failure.reason),
        None => failure.reason,
    })
}

/// Servers repeat the address when they refuse it. Reasons go into events and logs, where no address belongs.
pub fn without_address(reason: &str, address: &str) -> String {
    let mut rest = reason;
    let mut clean = String::with_capacity(reason.len());
    // ASCII case folding keeps byte positions.
    while let Some(at) = rest.to_ascii_lowercase().find(&address.to_ascii_lowercase()) {
        let (before, found) = rest.split_at(at);
        clean.push_str(before);
        clean.push_str("(recipient)");
        rest = found.get(address.len()..).unwrap_or_default();
    }
    clean + rest
}

#[cfg(test)]
mod tests;
