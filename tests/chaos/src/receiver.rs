//! People's own endpoints: what webhooks came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::net::TcpListener;

/// A webhook that was taken.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// When the first copy came.
    pub at: DateTime<Utc>,
    /// How many copies came.
    pub copies: u64,
    /// Whether all of them said the same.
    pub alike: bool,
    /// What it says.
    pub body: Value,
}

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<HashMap<String, (Bytes, Arrived)>>,
    count: AtomicU64,
    sick: AtomicBool,
}

/// The endpoints.
#[derive(Debug, Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
    url: String,
}

impl Receiver {
    /// Starts them.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(take).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { shared, url }
    }

    /// Where the endpoint of a person is.
    #[must_use]
    pub fn url(&self, person: usize) -> String {
        format!("{}/{person}", self.url)
    }

    /// From now on they refuse everything, or take it.
    pub fn set_sick(&self, sick: bool) {
        self.shared.sick.store(sick, Ordering::SeqCst);
    }

    /// How many requests they took.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// What they took, by its webhook-id.
    #[must_use]
    pub fn arrived(&self) -> HashMap<String, Arrived> {
        let taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken
            .iter()
            .map(|(id, (_, arrived))| (id.clone(), arrived.clone()))
            .collect()
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if shared.sick.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let Some(id) = headers.get("webhook-id").and_then(|id| id.to_str().ok()) else {
        return StatusCode::BAD_REQUEST;
    };
    shared.count.fetch_add(1, Ordering::Relaxed);
    let mut taken = shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((first, arrived)) = taken.get_mut(id) {
        arrived.copies += 1;
        arrived.alike &= *first == body;
    } else {
        let arrived = Arrived {
            at: Utc::now(),
            copies: 1,
            alike: true,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        taken.insert(id.to_owned(), (body, arrived));
    }
    StatusCode::NO_CONTENT
}
