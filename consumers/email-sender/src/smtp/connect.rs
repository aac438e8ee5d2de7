//! Connecting: TCP, TLS as configured and not less, credentials.

use anyhow::{Context, anyhow, bail, ensure};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use super::wire::Wire;
use crate::{SmtpConfig, Tls};

/// Makes connections to one server.
pub struct Connector {
    config: SmtpConfig,
    tls: Option<TlsParameters>,
    hello: ClientId,
}

impl Connector {
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
            config,
            tls,
            hello: ClientId::default(),
        })
    }

    /// A new connection over which mail may go, within the timeout.
    pub async fn connect(&self) -> anyhow::Result<AsyncSmtpConnection> {
        let SmtpConfig {
            host,
            port,
            timeout: limit,
            ..
        } = &self.config;
        match timeout(*limit, self.try_connect()).await {
            Ok(result) => result,
            Err(_) => bail!("connecting to {host}:{port} timed out"),
        }
    }

    async fn try_connect(&self) -> anyhow::Result<AsyncSmtpConnection> {
        let SmtpConfig { host, port, .. } = &self.config;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .with_context(|| format!("cannot connect to {host}:{port}"))?;
        // A mail goes out in two writes. Without this the second waits for the receiver's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let mut connection = match (self.config.tls, &self.tls) {
            (Tls::Off, _) | (_, None) => self.greet(Wire::new(stream, peer)).await?,
            (Tls::Starttls, Some(tls)) => {
                let mut connection = self.greet(Wire::new(stream, peer)).await?;
                ensure!(
                    connection.can_starttls(),
                    "the server does not offer STARTTLS, and SMTP_TLS=starttls sends nothing without it"
                );
                connection
                    .starttls(tls.clone(), &self.hello)
                    .await
                    .map_err(because("STARTTLS failed"))?;
                connection
            }
            (Tls::Implicit, Some(tls)) => {
                let stream = encrypted(stream, tls.clone())
                    .await
                    .map_err(because("the TLS handshake failed"))?;
                self.greet(Wire::new(stream, peer)).await?
            }
        };
        if let Some((username, password)) = &self.config.credentials {
            let credentials =
                Credentials::new(username.clone(), password.current().expose_secret().to_owned());
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
}

/// lettre's errors print their sources too, so they must not become links of a chain that prints them again.
fn because(what: &'static str) -> impl FnOnce(lettre::transport::smtp::Error) -> anyhow::Error {
    move |error| anyhow!("{what}: {error}")
}

#[expect(
    deprecated,
    reason = "lettre offers no other way to TLS from the first byte over a stream of one's own"
)]
async fn encrypted(
    stream: TcpStream,
    tls: TlsParameters,
) -> Result<Compat<lettre::transport::smtp::client::AsyncNetworkStream>, lettre::transport::smtp::Error> {
    let mut stream =
        lettre::transport::smtp::client::AsyncNetworkStream::use_existing_tokio1(Box::new(stream));
    stream.upgrade_tls(tls).await?;
    Ok(stream.compat())
}
