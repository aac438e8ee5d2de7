//! The mail server: whether it greets.

use service::config::Env;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Check, Finding, PATIENCE};

/// Where mails go, by the variables of the email sender.
pub(super) struct Server {
    host: String,
    port: u16,
    /// Whether it speaks TLS from the first byte: then it cannot greet us.
    implicit_tls: bool,
}

impl Server {
    /// Reads the variables; `Some(None)` when there is no `SMTP_HOST`.
    #[expect(clippy::option_option, reason = "as every reader of an Env")]
    pub(super) fn from_env(env: &mut Env) -> Option<Option<Self>> {
        let host = env.optional::<String>("SMTP_HOST");
        let implicit = env.one_of(
            "SMTP_TLS",
            &[("starttls", false), ("tls", true), ("off", false)],
            false,
        );
        let default = if implicit == Some(true) { 465 } else { 587 };
        let port = env.within("SMTP_PORT", default, 1..=u16::MAX);
        let (port, implicit_tls) = (port?, implicit?);
        Some(host?.map(|host| Self {
            host,
            port,
            implicit_tls,
        }))
    }
}

pub(super) async fn look(server: Option<&Server>) -> Vec<Check> {
    let Some(server) = server else {
        return vec![Check::skipped("mail", "SMTP_HOST is not set")];
    };
    let place = format!("{}:{}", server.host, server.port);
    let greeted = timeout(PATIENCE, greeting(server)).await;
    let problem = match greeted {
        Ok(Ok(line)) if server.implicit_tls || line.starts_with("220") => None,
        Ok(Ok(line)) => Some(format!("refuses: {}", line.trim())),
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

async fn greeting(server: &Server) -> std::io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect((server.host.as_str(), server.port)).await?);
    let mut line = String::new();
    if !server.implicit_tls {
        stream.read_line(&mut line).await?;
        stream.write_all(b"QUIT\r\n").await?;
    }
    Ok(line)
}
