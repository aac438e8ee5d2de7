//! The probe of images that hold nothing but the binary: `<service> healthcheck` asks the running one.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `/livez` of the service that listens on `bind`.
///
/// # Errors
///
/// When it cannot be reached within 3 seconds, or does not answer 200.
pub fn ask(bind: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&reachable(bind), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status_line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status_line)?;
    if &status_line == b"HTTP/1.1 200" {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "/livez answered {}",
        String::from_utf8_lossy(&status_line)
    )))
}

/// A service that listens on all addresses is asked through the loopback one.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let address = match bind.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, bind.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `answer`, and returns the address to ask.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the probe connects");
            let mut request = [0; 512];
            let _ = stream.read(&mut request).expect("the probe asks");
            stream.write_all(answer.as_bytes()).expect("the probe listens");
        });
        address
    }

    #[test]
    fn a_service_that_answers_200_is_healthy() {
        ask(answering("HTTP/1.1 200 OK\r\n\r\n")).expect("healthy");
    }

    #[test]
    fn a_service_on_all_addresses_is_asked_through_loopback() {
        let port = answering("HTTP/1.1 200 OK\r\n\r\n").port();
        ask(SocketAddr::from(([0, 0, 0, 0], port))).expect("healthy");
        assert_eq!(
            reachable("[::]:1".parse().expect("an address")),
            "[::1]:1".parse().expect("an address")
        );
    }

    #[test]
    fn any_other_answer_is_not_healthy() {
        let error = ask(answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")).expect_err("stuck");
        assert_eq!(error.to_string(), "/livez answered HTTP/1.1 503");
        ask(answering("")).expect_err("no answer");
    }

    #[test]
    fn a_service_that_does_not_listen_is_not_healthy() {
        let address = TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("an address");
        ask(address).expect_err("nobody listens");
    }
}
