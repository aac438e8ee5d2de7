//! A receiver of webhooks. What it answers is said by the path, so that each endpoint of a test has its own temper.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// Requests by path and webhook-id.
    times: Mutex<HashMap<(String, String), usize>>,
    /// Requests that are being answered, and the most there were at once, by path.
    at_once: Mutex<HashMap<String, (usize, usize)>>,
    well: AtomicUsize,
}

#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
    port: u16,
}

impl Receiver {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { shared, port }
    }

    /// `/status/N`, `/status/N/RETRY-AFTER`, `/fail/N` (the first N of each), `/slow/MS`, `/redirect`, `/huge`, `/sick` (500
    /// until it is told to be well), anything else: 200.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn at(&self, path: &str) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|request| request.path == path);
        received
    }

    pub fn most_at_once(&self, path: &str) -> usize {
        self.shared
            .at_once
            .lock()
            .unwrap()
            .get(path)
            .map_or(0, |(_, most)| *most)
    }

    pub fn get_well(&self) {
        self.shared.well.store(1, Ordering::SeqCst);
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let id = head.headers["webhook-id"].to_str().unwrap().to_owned();
    {
        let mut at_once = shared.at_once.lock().unwrap();
        let (now, most) = at_once.entry(path.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }
    let times = {
        let mut times = shared.times.lock().unwrap();
        let times = times.entry((path.clone(), id)).or_default();
        *times += 1;
        *times
    };
    shared.received.lock().unwrap().push(Received {
        path: path.clone(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let response = answer(&shared, &path, times).await;
    if let Some((now, _)) = shared.at_once.lock().unwrap().get_mut(&path) {
        *now -= 1;
    }
    response
}

async fn answer(shared: &Shared, path: &str, times: usize) -> Response {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let number = |text: &str| text.parse::<u16>().unwrap();
    match parts.as_slice() {
        ["status", status] => (StatusCode::from_u16(number(status)).unwrap(), "said so").into_response(),
        ["status", status, after] => {
            let status = StatusCode::from_u16(number(status)).unwrap();
            (status, [(header::RETRY_AFTER, (*after).to_owned())]).into_response()
        }
        ["fail", first, ..] if times <= usize::from(number(first)) => {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        ["slow", ms, ..] => {
            sleep(Duration::from_millis(number(ms).into())).await;
            StatusCode::OK.into_response()
        }
        ["redirect"] => (StatusCode::FOUND, [(header::LOCATION, "/redirected")]).into_response(),
        ["huge"] => {
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            let endless = futures::stream::repeat(chunk).map(Ok::<_, std::io::Error>);
            Body::from_stream(endless).into_response()
        }
        ["sick"] if shared.well.load(Ordering::SeqCst) == 0 => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::OK.into_response(),
    }
}

/// Reads each request and closes the connection after these bytes.
pub async fn breaking_off(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = vec![0; 16 * 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(bytes).await;
            });
        }
    });
    format!("http://127.0.0.1:{port}/")
}
