//! The mail server: whether it greets, and offers TLS.

use service::config::Env;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Check, Finding, PATIENCE};

/// The most that an answer may hold.
const MAX_ANSWER_BYTES: u64 = 16 << 10;

/// Where mails go, by the variables of the email sender.
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Tls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    Starttls,
    /// TLS from the first byte: then it cannot greet us.
    Implicit,
    Off,
}

impl Server {
    /// Reads the variables; `Some(None)` when there is no `SMTP_HOST`.
    #[expect(clippy::option_option, reason = "as every reader of an Env")]
    pub(super) fn from_env(env: &mut Env) -> Option<Option<Self>> {
        let host = env.optional::<String>("SMTP_HOST");
        let tls = env.one_of(
            "SMTP_TLS",
            &[
                ("starttls", Tls::Starttls),
                ("tls", Tls::Implicit),
                ("off", Tls::Off),
            ],
            Tls::Starttls,
        );
        let default = match tls {
            Some(Tls::Implicit) => 465,
            Some(Tls::Off) => 25,
            _ => 587,
        };
        let port = env.within("SMTP_PORT", default, 1..=u16::MAX);
        let (port, tls) = (port?, tls?);
        Some(host?.map(|host| Self { host, port, tls }))
    }
}

pub(super) async fn look(server: Option<&Server>) -> Vec<Check> {
    let Some(server) = server else {
        return vec![Check::skipped("mail", "SMTP_HOST is not set")];
    };
    let place = format!("{}:{}", server.host, server.port);
    let problem = match timeout(PATIENCE, refusal(server)).await {
        Ok(Ok(refusal)) => refusal,
        Ok(Err(error)) => Some(format!("does not answer: {error}")),
        Err(_) => Some(format!("says nothing for {} s", PATIENCE.as_secs())),
    };
    let finding = problem.map(|problem| {
        Finding::new(
            format!("the mail server at {place} {problem}"),
            "Deliveries wait and are tried again, and fail for good when a reminder has become too old.",
            "mend the mail server, or SMTP_HOST, SMTP_PORT and SMTP_TLS; then, for what failed: carillon deliveries retry",
        )
    });
    vec![Check::done("mail", finding.into_iter().collect())]
}

/// What keeps mails from it, if anything does.
async fn refusal(server: &Server) -> std::io::Result<Option<String>> {
    let mut stream = BufReader::new(TcpStream::connect((server.host.as_str(), server.port)).await?);
    if server.tls == Tls::Implicit {
        return Ok(None);
    }
    let greeting = answer(&mut stream).await?;
    if !greeting.starts_with("220") {
        return Ok(Some(format!("refuses: {}", greeting.trim())));
    }
    stream.write_all(b"EHLO carillon\r\n").await?;
    let extensions = answer(&mut stream).await?;
    stream.write_all(b"QUIT\r\n").await?;
    // "250-STARTTLS", or "250 STARTTLS" as the last.
    let offered = extensions
        .lines()
        .any(|line| line.get(4..).is_some_and(|word| word.trim() == "STARTTLS"));
    Ok((server.tls == Tls::Starttls && !offered)
        .then(|| "offers no STARTTLS, which SMTP_TLS asks for".to_owned()))
}

/// An answer, which may have several lines: a hyphen stands behind the code in all but the last.
async fn answer(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<String> {
    let mut answer = String::new();
    // Who says more than this is no mail server.
    let mut stream = stream.take(MAX_ANSWER_BYTES);
    loop {
        let before = answer.len();
        let read = stream.read_line(&mut answer).await?;
        if read == 0 || answer.get(before + 3..before + 4) != Some("-") {
            return Ok(answer);
        }
    }
}
