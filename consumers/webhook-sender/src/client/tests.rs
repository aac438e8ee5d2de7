use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::connect::{Dial, Lookup};

/// What the connector did.
#[derive(Default)]
struct Recorded {
    lookups: Mutex<Vec<String>>,
    dialled: Mutex<Vec<SocketAddr>>,
}

/// A client whose names lead where each look-up in turn says, and whose connections, wherever they were to go, go to a
/// receiver on loopback.
fn client(
    policy: Policy,
    answers: Vec<Vec<IpAddr>>,
    receiver: Option<SocketAddr>,
) -> (Client, Arc<Recorded>) {
    let recorded = Arc::new(Recorded::default());
    let asked = AtomicUsize::new(0);
    let seen = Arc::clone(&recorded);
    let lookup: Lookup = Arc::new(move |name| {
        seen.lookups.lock().unwrap().push(name);
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        let answer = answers.get(turn.min(answers.len().saturating_sub(1))).cloned();
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    });
    let seen = Arc::clone(&recorded);
    let dial: Dial = Arc::new(move |address| {
        seen.dialled.lock().unwrap().push(address);
        Box::pin(async move {
            match receiver {
                Some(receiver) => TcpStream::connect(receiver).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    });
    let policy = Arc::new(policy);
    let guarded = Guarded::with(Arc::clone(&policy), Duration::from_secs(5), lookup, dial);
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .unwrap()
        .https_or_http()
        .enable_http1()
        .wrap_connector(guarded);
    (Client::with(connector, policy, Duration::from_secs(5)), recorded)
}

fn open() -> Policy {
    Policy {
        allow_http: true,
        allowed_networks: Vec::new(),
    }
}

/// Answers every connection with these bytes and closes it.
async fn receiver(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

const OK: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

async fn post(client: &Client, url: &str) -> Result<Answer, NoAnswer> {
    client.post(url, HeaderMap::new(), "{}".to_owned()).await
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_connected_to() {
    let public = IpAddr::from([203, 0, 114, 7]);
    // The second look-up would lead inside: there is none.
    let (client, recorded) = client(
        open(),
        vec![vec![public], vec![Ipv4Addr::LOCALHOST.into()]],
        Some(receiver(OK).await),
    );
    let answer = post(&client, "http://rebind.example:8080/hook").await.unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(*recorded.lookups.lock().unwrap(), ["rebind.example"]);
    assert_eq!(*recorded.dialled.lock().unwrap(), [SocketAddr::new(public, 8080)]);
    // The next connection is looked up and checked anew, and goes nowhere.
    let none = post(&client, "http://rebind.example:8080/hook")
        .await
        .unwrap_err();
    assert_eq!(none.reason, ConnectError::Forbidden.to_string());
    assert!(!none.ambiguous);
    assert_eq!(recorded.dialled.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn one_address_of_the_inside_among_many_is_enough_to_go_nowhere() {
    for inside in [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "fd00:ec2::254",
        "fe80::1",
    ] {
        let inside: IpAddr = inside.parse().unwrap();
        for addresses in [
            vec![inside],
            vec!["8.8.8.8".parse().unwrap(), inside],
            vec![inside, "8.8.8.8".parse().unwrap()],
        ] {
            let (client, recorded) = client(open(), vec![addresses], None);
            for url in ["http://inside.example/", "https://inside.example:8443/"] {
                let none = post(&client, url).await.unwrap_err();
                assert_eq!(none.reason, ConnectError::Forbidden.to_string(), "{inside}");
            }
            assert!(recorded.dialled.lock().unwrap().is_empty(), "{inside}");
        }
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_checked_again_when_it_is_sent_to() {
    let (client, recorded) = client(open(), Vec::new(), None);
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::ffff:7f00:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/",
    ] {
        let none = post(&client, url).await.unwrap_err();
        assert_eq!(
            none.reason, "the URL leads to an address that is not of the internet",
            "{url}"
        );
    }
    assert!(recorded.lookups.lock().unwrap().is_empty() && recorded.dialled.lock().unwrap().is_empty());
    // One that is allowed is not looked up.
    let none = post(&client, "http://8.8.8.8/").await.unwrap_err();
    assert_eq!(none.reason, ConnectError::Refused.to_string());
    assert!(recorded.lookups.lock().unwrap().is_empty());
    assert_eq!(recorded.dialled.lock().unwrap()[0].to_string(), "8.8.8.8:80");
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let answer =
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n";
    let (client, recorded) = client(
        open(),
        vec![vec!["8.8.8.8".parse().unwrap()]],
        Some(receiver(answer).await),
    );
    let answer = post(&client, "http://redirect.example/").await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(recorded.dialled.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_reached_says_why_and_names_no_address() {
    let (unknown, _) = client(open(), Vec::new(), None);
    let none = post(&unknown, "http://nowhere.example/").await.unwrap_err();
    assert_eq!(none, NoAnswer::certain(ConnectError::Name.to_string()));
    let http = Policy {
        allow_http: false,
        ..open()
    };
    let (strict, _) = client(http, Vec::new(), None);
    let none = post(&strict, "http://nowhere.example/").await.unwrap_err();
    assert_eq!(none.reason, "the URL must begin with https://");
    // It speaks no TLS.
    let (plain, _) = client(
        open(),
        vec![vec!["8.8.8.8".parse().unwrap()]],
        Some(receiver(OK).await),
    );
    let none = post(&plain, "https://plain.example/").await.unwrap_err();
    assert!(
        none.reason.starts_with("TLS failed: ") && !none.ambiguous,
        "{none:?}"
    );
    let (broken, _) = client(
        open(),
        vec![vec!["8.8.8.8".parse().unwrap()]],
        Some(receiver("").await),
    );
    let none = post(&broken, "http://broken.example/").await.unwrap_err();
    assert!(
        none.reason.starts_with("the connection broke before") && none.ambiguous,
        "{none:?}"
    );
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc";
    let (cut, _) = client(
        open(),
        vec![vec!["8.8.8.8".parse().unwrap()]],
        Some(receiver(cut).await),
    );
    let none = post(&cut, "http://cut.example/").await.unwrap_err();
    assert_eq!(none.reason, "the connection broke in the middle of the answer");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
    let read = |text: &'static str| {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, hyper::header::HeaderValue::from_static(text))]);
        retry_after(&headers, now)
    };
    assert_eq!(read("120"), Some(Duration::from_mins(2)));
    assert_eq!(
        read("Sun, 06 Nov 1994 08:50:37 GMT"),
        Some(Duration::from_mins(1))
    );
    for text in [
        "-1",
        "soon",
        "",
        "Sun, 06 Nov 1994 08:40:00 GMT",
        "99999999999999999999999",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_kept_text_is_bounded_and_has_nothing_that_postgres_refuses() {
    assert_eq!(printable("a\0b", 10), "a\u{fffd}b");
    assert_eq!(printable("äöü", 3), "ä");
}
