//! A server of a test's own, and people who use it.

use std::sync::Arc;
use std::time::Duration;

use api::{AccountsConfig, Config, HttpConfig, SigningKey, TokenConfig, Tokens};
use db::DatabaseConfig;
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use service::config::ServiceConfig;
use support::Database;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// The published key of RFC 8037 appendix A, wrapped in PKCS#8.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

/// What the links in mails are signed with.
pub const LINK_KEY: &str = "a-key-of-tests-for-links-in-mails";

/// The defaults, but for the rate limits.
pub fn unlimited() -> HttpConfig {
    HttpConfig {
        user_per_minute: 0,
        address_per_minute: 0,
        ..HttpConfig::default()
    }
}

/// A running server.
#[derive(Clone)]
pub struct Server {
    pub address: std::net::SocketAddr,
    pub database: Database,
    pub client: Client,
    pub tokens: Arc<Tokens>,
    /// Asks the server to stop.
    pub stop: CancellationToken,
    _stop: Arc<DropGuard>,
}

impl Server {
    /// Starts one on a database of its own.
    pub async fn start() -> Self {
        let database = Database::create().await;
        let config = database.config("api");
        Self::with(database, config).await
    }

    /// Starts one that reaches its database so.
    pub async fn with(database: Database, config: DatabaseConfig) -> Self {
        Self::configured(database, config, |_| {}).await
    }

    /// Starts one with these conventions.
    pub async fn with_http(database: Database, config: DatabaseConfig, http: HttpConfig) -> Self {
        Self::configured(database, config, |config| config.http = http).await
    }

    /// Starts one on a database of its own, with some settings of its own.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let database = Database::create().await;
        let config = database.config("api");
        Self::configured(database, config, change).await
    }

    /// Starts another one on the same database.
    pub async fn replica(&self) -> Self {
        Self::with(self.database.clone(), self.database.config("api")).await
    }

    async fn configured(
        database: Database,
        config: DatabaseConfig,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let tokens = TokenConfig {
            key: SigningKey::from_pem(KEY).unwrap(),
            rotation: None,
            issuer: "carillon".to_owned(),
            audience: "carillon".to_owned(),
            ttl: Duration::from_mins(15),
        };
        let mut config = Config {
            service: ServiceConfig::loopback(),
            database: config,
            tokens: tokens.clone(),
            password_hash_concurrency: 2,
            accounts: AccountsConfig::default(),
            http: unlimited(),
            webhooks: ::webhooks::Policy::default(),
            links: links::Keys::parse(LINK_KEY).unwrap(),
        };
        change(&mut config);
        let listener = TcpListener::bind(config.service.http_bind).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(api::serve(listener, config, shutdown.clone()));
        Self {
            address,
            database,
            client: Client::new(),
            tokens: Arc::new(Tokens::new(tokens).unwrap()),
            stop: shutdown.clone(),
            _stop: Arc::new(shutdown.drop_guard()),
        }
    }

    /// A person with an account, in Europe/Berlin.
    pub async fn person(&self, email: &str) -> Person {
        self.bearer(self.database.user(email).await)
    }

    /// Whoever has this id, account or not.
    pub fn bearer(&self, id: Uuid) -> Person {
        let token = self.tokens.issue(id, "Europe/Berlin").unwrap();
        Person {
            server: self.clone(),
            id,
            token,
        }
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    /// Sends JSON without a token.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    /// Gets without a token.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }
}

/// Someone with a token.
#[derive(Clone)]
pub struct Person {
    pub server: Server,
    pub id: Uuid,
    pub token: String,
}

impl Person {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.server.request(method, path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::PATCH, path).json(body)).await
    }

    /// A request without a body.
    pub async fn send(&self, method: Method, path: &str) -> Answer {
        Answer::to(self.request(method, path)).await
    }

    /// Makes a task and returns its path with it.
    pub async fn task(&self, body: &Value) -> (String, Value) {
        let answer = self.post("/api/tasks", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        (answer.header(header::LOCATION).to_owned(), answer.json())
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Self {
            status,
            headers,
            text: response.text().await.expect("the answer is text"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is missing: {self:?}"))
            .to_str()
            .unwrap()
    }

    /// Asserts that it is a problem of this type, and returns where the errors are.
    #[track_caller]
    pub fn problem(&self, status: u16, word: &str) -> Vec<String> {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json");
        let problem = self.json();
        assert_eq!(
            problem["type"],
            format!("urn:carillon:problem:{word}"),
            "{problem}"
        );
        assert_eq!(problem["status"], status);
        for text in ["title", "detail"] {
            assert!(!problem[text].as_str().unwrap().is_empty(), "{problem}");
        }
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| {
                assert!(!error["detail"].as_str().unwrap().is_empty(), "{error}");
                let place = error.get("pointer").or_else(|| error.get("parameter"));
                place.unwrap().as_str().unwrap().to_owned()
            })
            .collect()
    }
}

/// A text as a part of an address.
pub fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
