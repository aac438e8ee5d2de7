use std::sync::Arc;

use axum::body::to_bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

async fn get_path(router: Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("the router answers");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start(router: Router) -> Self {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a free port");
        let (address, shutdown) = (
            listener.local_addr().expect("an address"),
            CancellationToken::new(),
        );
        let task = tokio::spawn(serve(listener, router, shutdown.clone()));
        Self {
            address,
            shutdown,
            task,
        }
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address)
            .await
            .expect("the server accepts");
        stream.write_all(text.as_bytes()).await.expect("the server reads");
        stream
    }

    async fn stopped(self) {
        self.task
            .await
            .expect("the server does not panic")
            .expect("the server does not fail");
    }
}

async fn answer_on(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("the connection is closed in order");
    answer
}

/// A route `/` that says when it was entered and answers when it may.
fn held_route() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, release) = (entered.clone(), release.clone());
        async move || {
            entered.notify_one();
            release.notified().await;
            "done"
        }
    };
    (Router::new().route("/", get(handler)), entered, release)
}

#[tokio::test]
async fn probes_follow_the_health_of_the_process() {
    let health = Health::new();
    let component = health.component("consumer", Duration::MAX);
    let router = admin_router(health.clone());
    let (status, body) = get_path(router.clone(), "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""reason":"starting""#), "{body}");
    assert_eq!(get_path(router.clone(), "/livez").await.0, StatusCode::OK);
    component.ready();
    assert_eq!(get_path(router.clone(), "/readyz").await.0, StatusCode::OK);
    health.stopping();
    assert_eq!(
        get_path(router, "/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test(start_paused = true)]
async fn livez_and_its_alias_fail_for_a_stuck_component() {
    let health = Health::new();
    health.component("consumer", Duration::from_secs(30)).ready();
    tokio::time::advance(Duration::from_secs(31)).await;
    for path in ["/livez", "/health"] {
        let (status, body) = get_path(admin_router(health.clone()), path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            body.contains(r#""state":"stuck""#) && body.contains("31.0"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn metrics_are_exposed_as_text() {
    metrics::counter("http_tests_total", "A test.").inc();
    let (status, body) = get_path(admin_router(Health::new()), "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("http_tests_total 1"), "{body}");
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() {
    let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a free port");
    let address = first.local_addr().expect("an address");
    let error = bind(address).await.expect_err("the port is taken");
    assert_eq!(
        error.to_string(),
        format!("cannot listen for HTTP on {address} (HTTP_HOST, HTTP_PORT)")
    );
}

#[tokio::test]
async fn handlers_see_the_address_of_the_client() {
    let handler = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
    let server = Server::start(Router::new().route("/", get(handler))).await;
    let stream = server
        .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let local = stream.local_addr().expect("an address").to_string();
    let answer = answer_on(stream).await;
    assert!(answer.ends_with(&local), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_head_is_disconnected() {
    let server = Server::start(Router::new()).await;
    let started = Instant::now();
    let stream = server.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    // Nothing but the server's timeout can end the read, so the clock jumps to it.
    tokio::time::pause();
    answer_on(stream).await;
    assert!(started.elapsed() >= HEADER_READ_TIMEOUT);
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_stop_and_idle_connections_are_closed() {
    let (router, entered, release) = held_route();
    let server = Server::start(router).await;
    let idle = server.send("").await;
    let busy = server.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    entered.notified().await;
    server.shutdown.cancel();
    assert_eq!(answer_on(idle).await, "");
    assert!(!server.task.is_finished());
    release.notify_one();
    let answer = answer_on(busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"),
        "{answer}"
    );
    server.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_waits_keeps_the_door_open_until_then() {
    let stop = CancellationToken::new();
    let closing = crate::shutdown::delayed(stop.clone(), Duration::from_secs(5));
    let started = Instant::now();
    stop.cancel();
    assert!(!closing.is_cancelled());
    closing.cancelled().await;
    assert_eq!(started.elapsed().as_secs(), 5);
    // Without a delay the door closes with the stop.
    assert!(crate::shutdown::delayed(stop, Duration::ZERO).is_cancelled());
}

#[tokio::test]
async fn a_request_that_never_ends_delays_the_stop_by_the_drain_limit_only() {
    let (router, entered, _release) = held_route();
    let server = Server::start(router).await;
    let _stream = server.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    entered.notified().await;
    tokio::time::pause();
    let stopping = Instant::now();
    server.shutdown.cancel();
    server.stopped().await;
    assert_eq!(stopping.elapsed().as_secs(), DRAIN_LIMIT.as_secs());
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_only() {
    let router = Router::new()
        .route("/panic", get(async || -> &'static str { panic!("on purpose") }))
        .route("/", get(async || "alive"));
    let server = Server::start(router).await;
    answer_on(server.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
    let answer = answer_on(
        server
            .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await,
    )
    .await;
    assert!(answer.ends_with("alive"), "{answer}");
}
