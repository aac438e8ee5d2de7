//! The commands of one mail, and where among them something went wrong: that decides whose fault it is, and whether the
//! server may have taken the mail.

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::{Extension, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::message::{Mail, plain_line};

/// "Service not available, closing transmission channel".
const CLOSING: u16 = 421;
/// Servers look through a mail before they answer to it: so many times longer than to a command.
const PATIENCE_FOR_CONTENT: u32 = 4;

/// How far a dialogue came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The server knows the sender only.
    Sender,
    /// It knows the recipient too.
    Recipient,
    /// The mail is partly out.
    Content,
    /// The mail is out, the answer is not in.
    Answer,
}

/// A command, or the mail, did not get the answer it needs.
#[derive(Debug)]
pub struct Failure {
    /// One line.
    pub reason: String,
    /// The server's answer, if it gave one.
    pub code: Option<u16>,
    pub at: Stage,
}

impl Failure {
    /// Whether the connection is of no use any more.
    pub fn is_loss(&self) -> bool {
        self.code.is_none_or(|code| code == CLOSING)
    }
}

/// A connection, used for one mail after the other.
pub struct Dialogue {
    connection: AsyncSmtpConnection,
    timeout: Duration,
}

impl Dialogue {
    pub fn new(connection: AsyncSmtpConnection, timeout: Duration) -> Self {
        Self { connection, timeout }
    }

    pub fn into_connection(self) -> AsyncSmtpConnection {
        self.connection
    }

    /// Whether the server can take a mail with such addresses.
    pub fn can_carry(&self, mail: &Mail) -> bool {
        mail.is_ascii()
            || self
                .connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
    }

    /// Tells the sender, the first thing that a server may refuse.
    pub async fn begin(&mut self, from: &Address, international: bool) -> Result<(), Failure> {
        let parameters = if international {
            vec![MailParameter::SmtpUtfEight]
        } else {
            Vec::new()
        };
        let command = MailFrom::new(Some(from.clone()), parameters);
        let answer = timeout(self.timeout, self.connection.command(command)).await;
        check(Stage::Sender, Severity::PositiveCompletion, answer)
    }

    /// The dialogue from the recipient on.
    pub async fn finish(&mut self, mail: &Mail) -> Result<(), Failure> {
        let command = Rcpt::new(mail.to.clone(), Vec::new());
        let answer = timeout(self.timeout, self.connection.command(command)).await;
        check(Stage::Recipient, Severity::PositiveCompletion, answer)?;
        let answer = timeout(self.timeout, self.connection.command(Data)).await;
        // Anything but 3yz, and the lines of the mail would be taken for commands.
        check(Stage::Recipient, Severity::PositiveIntermediate, answer)?;
        // The iterator is asked for more only when the mail is written: what follows is the line that ends it.
        let mut written = false;
        let content = [mail.bytes.as_slice()].into_iter().chain(std::iter::from_fn(|| {
            written = true;
            None
        }));
        let answer = timeout(
            self.timeout * PATIENCE_FOR_CONTENT,
            self.connection.message_iter(content),
        )
        .await;
        let at = if written { Stage::Answer } else { Stage::Content };
        check(at, Severity::PositiveCompletion, answer)
    }

    /// Clears what was begun.
    pub async fn reset(&mut self) -> Result<(), Failure> {
        let answer = timeout(self.timeout, self.connection.command(Rset)).await;
        check(Stage::Sender, Severity::PositiveCompletion, answer)
    }
}

/// Sorts an answer, its absence included. One of a `wanted` kind is good.
fn check(
    at: Stage,
    wanted: Severity,
    answer: Result<Result<Response, Error>, Elapsed>,
) -> Result<(), Failure> {
    let error = match answer {
        Ok(Ok(response)) if response.code().severity == wanted => return Ok(()),
        // We and the server are not at the same place of the dialogue any more.
        Ok(Ok(response)) => {
            let reason = format!("unexpected answer {}", response.code());
            return Err(Failure {
                reason,
                code: None,
                at,
            });
        }
        Ok(Err(error)) => error,
        Err(_) => {
            let reason = "the answer did not come in time".to_owned();
            return Err(Failure {
                reason,
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
