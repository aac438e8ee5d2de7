//! TLS and credentials, with a server of the test's own certificate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Database, eventually};
use tokio::time::sleep;
use uuid::Uuid;

use crate::catcher::{Catcher, free_port};
use crate::fixture::{Running, arm, config, no_topics, readiness, row, until_state};

/// A certificate that no authority signed.
pub struct SelfSigned {
    pub folder: PathBuf,
}

impl SelfSigned {
    pub fn new() -> Self {
        Self::of("DNS:localhost,IP:127.0.0.1")
    }

    fn of(names: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tls-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=test", "-addext", &format!("subjectAltName={names}")])
            .args([
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ])
            .current_dir(&folder)
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { folder }
    }

    pub fn cert(&self) -> String {
        path(&self.folder.join("cert.pem"))
    }

    async fn catcher(&self, more: &[&str]) -> Catcher {
        let (cert, key) = (self.cert(), path(&self.folder.join("key.pem")));
        Catcher::with(&[&["--tls-cert", &cert, "--tls-key", &key], more].concat()).await
    }
}

impl Drop for SelfSigned {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Sends one mail with these settings.
async fn sends(catcher: &Catcher, settings: &[(&str, &str)]) {
    let database = Database::create().await;
    let id = arm(&database, database.user("ada@example.com").await, "x").await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, settings));
    until_state(&database, id, "sent").await;
    service.stop().await;
}

/// Wants that with these settings nothing is sent, nothing is lost, and readiness says why.
async fn waits(catcher: &Catcher, settings: &[(&str, &str)], why: &str) {
    let database = Database::create().await;
    let id = arm(&database, database.user("ada@example.com").await, "x").await;
    let port = free_port();
    let http = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(
        &database,
        &no_topics(),
        catcher.port,
        &[settings, http.as_slice()].concat(),
    ));
    let text = eventually("readiness says why", async || {
        let (status, text) = readiness(port).await?;
        (status == 503 && text.contains("SMTP server")).then_some(text)
    })
    .await;
    assert!(text.contains(why), "{text}");
    sleep(Duration::from_millis(700)).await;
    service.stop().await;
    let row = row(&database, id).await;
    assert_eq!((row.state.as_str(), row.attempts), ("pending", 0));
    assert_eq!(catcher.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_with_a_password() {
    let tls = SelfSigned::new();
    let catcher = tls
        .catcher(&["--require-starttls", "--auth", "bell:hush hush"])
        .await;
    let cert = tls.cert();
    let settings = [
        ("SMTP_TLS", "starttls"),
        ("SMTP_CA_FILE", &cert),
        ("SMTP_USERNAME", "bell"),
        ("SMTP_PASSWORD", "hush hush"),
    ];
    sends(&catcher, &settings).await;
    sends(&catcher, &[&settings[..], &[("SMTP_HOST", "localhost")]].concat()).await;
    assert_eq!(catcher.count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_from_the_first_byte_with_a_password() {
    let tls = SelfSigned::new();
    let catcher = tls.catcher(&["--implicit-tls", "--auth", "bell:hush"]).await;
    let cert = tls.cert();
    let settings = [
        ("SMTP_TLS", "tls"),
        ("SMTP_CA_FILE", &*cert),
        ("SMTP_USERNAME", "bell"),
        ("SMTP_PASSWORD", "hush"),
    ];
    sends(&catcher, &settings).await;
    assert_eq!(catcher.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_starttls_gets_nothing() {
    let catcher = Catcher::start().await;
    waits(&catcher, &[("SMTP_TLS", "starttls")], "does not offer STARTTLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_gets_nothing() {
    let tls = SelfSigned::new();
    waits(
        &tls.catcher(&[]).await,
        &[("SMTP_TLS", "starttls")],
        "STARTTLS failed",
    )
    .await;
    waits(
        &tls.catcher(&["--implicit-tls"]).await,
        &[("SMTP_TLS", "tls")],
        "TLS handshake failed",
    )
    .await;
    // Vouched for, but it is somebody else's.
    let tls = SelfSigned::of("DNS:mail.example");
    let (catcher, cert) = (tls.catcher(&[]).await, tls.cert());
    waits(
        &catcher,
        &[("SMTP_TLS", "starttls"), ("SMTP_CA_FILE", &*cert)],
        "STARTTLS failed",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_loses_nothing() {
    let tls = SelfSigned::new();
    let catcher = tls.catcher(&["--auth", "bell:hush"]).await;
    let cert = tls.cert();
    let wrong = [
        ("SMTP_TLS", "starttls"),
        ("SMTP_CA_FILE", &*cert),
        ("SMTP_USERNAME", "bell"),
        ("SMTP_PASSWORD", "loud"),
    ];
    waits(
        &catcher,
        &wrong,
        "does not accept SMTP_USERNAME and SMTP_PASSWORD",
    )
    .await;
    // None at all, though the server wants one.
    waits(&catcher, &wrong[..2], "530").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_the_server_refuses_loses_nothing() {
    let catcher = Catcher::start().await;
    catcher
        .faults(serde_json::json!([{"at": "mail", "code": 553, "message": "5.7.1 not your address"}]))
        .await;
    waits(&catcher, &[], "553 5.7.1 not your address").await;
}
