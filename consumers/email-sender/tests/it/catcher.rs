//! A mail catcher of the test's own: scripts/stack.d/mail-catcher.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub struct Catcher {
    pub port: u16,
    inbox: String,
    client: reqwest::Client,
    /// Ends with us, and takes its folder with it: its standard input closes.
    child: Child,
}

#[derive(Debug, Clone)]
pub struct Caught {
    pub id: String,
    pub to: String,
    pub subject: String,
    pub message_id: String,
    pub text: String,
    pub html: String,
}

/// A port on which nobody listens, and most likely nobody will.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Catcher {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(arguments: &[&str]) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/stack.d/mail-catcher");
        // Debian's aiosmtpd belongs to Debian's Python, which need not be the first of the PATH.
        let python = std::env::var("CARILLON_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
        let mut child = Command::new(python)
            .arg(script)
            .arg("--exit-with-stdin")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the mail catcher starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .await
            .unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the mail catcher says where it listens");
        let port = |name: &str| u16::try_from(ready[name].as_u64().unwrap()).unwrap();
        Self {
            port: port("smtp_port"),
            inbox: format!("http://127.0.0.1:{}", port("http_port")),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            child,
        }
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn faults(&self, faults: Value) {
        let url = format!("{}/faults", self.inbox);
        self.client
            .put(url)
            .body(faults.to_string())
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
    }

    pub async fn no_faults(&self) {
        self.faults(json!([])).await;
    }

    /// How often the first fault has struck.
    pub async fn struck(&self) -> u64 {
        self.get("/faults").await[0]["struck"].as_u64().unwrap()
    }

    pub async fn count(&self) -> u64 {
        self.get("/api/count").await["count"].as_u64().unwrap()
    }

    pub async fn mails(&self) -> Vec<Caught> {
        let mails = self.get("/api/messages").await;
        let text = |mail: &Value, name: &str| mail[name].as_str().unwrap_or_default().to_owned();
        mails
            .as_array()
            .unwrap()
            .iter()
            .map(|mail| Caught {
                id: text(mail, "id"),
                to: mail["to"][0].as_str().unwrap().to_owned(),
                subject: text(mail, "subject"),
                message_id: text(mail, "message_id"),
                text: text(mail, "text"),
                html: text(mail, "html"),
            })
            .collect()
    }

    pub async fn header(&self, mail: &Caught, name: &str) -> Vec<String> {
        let mail = self.get(&format!("/api/messages/{}", mail.id)).await;
        let headers = mail["headers"].as_array().unwrap();
        headers
            .iter()
            .filter(|h| h[0] == name)
            .map(|h| h[1].as_str().unwrap().to_owned())
            .collect()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self
            .client
            .get(format!("{}{path}", self.inbox))
            .send()
            .await
            .unwrap();
        serde_json::from_str(&answer.error_for_status().unwrap().text().await.unwrap()).unwrap()
    }
}
