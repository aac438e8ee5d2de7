//! Against a server that says what a script tells it: what the mail catcher would never say.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::Tls;

const GREETING: &[(&str, &str)] = &[("", "220 ready\r\n"), ("EHLO", "250-me\r\n250 8BITMIME\r\n")];
const HANG: (&str, &str) = ("HANG", "");
const ACCEPTED: &[(&str, &str)] = &[
    ("MAIL", "250 ok\r\n"),
    ("RCPT", "250 ok\r\n"),
    ("DATA", "354 go\r\n"),
    (".", "250 ok\r\n"),
];

/// One script for each connection, in their order: pairs of how a line starts and the answer to it. The lines between,
/// such as those of a mail, are skipped. A script that ends closes the connection; `HANG` keeps it open and silent.
async fn server(scripts: Vec<Vec<(&'static str, &'static str)>>) -> SmtpConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            for (start, answer) in script {
                if start == HANG.0 {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                while !start.is_empty() {
                    line.clear();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line.starts_with(start) {
                        break;
                    }
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    SmtpConfig {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::Off,
        ca_file: None,
        credentials: None,
        timeout: Duration::from_millis(500),
        max_connections: 2,
        max_connections_per_domain: 2,
        max_mails_per_second_per_domain: None,
    }
}

async fn smtp(scripts: Vec<Vec<(&'static str, &'static str)>>) -> Smtp {
    Smtp::new(server(scripts).await).unwrap()
}

fn script(parts: &[&[(&'static str, &'static str)]]) -> Vec<(&'static str, &'static str)> {
    parts.concat()
}

fn mail() -> Mail {
    Mail {
        from: "bell@example.com".parse().unwrap(),
        to: "ada@example.com".parse().unwrap(),
        message_id: "<1@example.com>".to_owned(),
        bytes: b"Subject: x\r\n\r\nx\r\n..\r\n".to_vec(),
    }
}

async fn send(smtp: &Smtp) -> Result<(), SendError> {
    smtp.turn().await.send(&mail()).await
}

fn transient(reason: &str, about: About, ambiguous: bool) -> Result<(), SendError> {
    Err(SendError::Transient {
        reason: reason.to_owned(),
        about,
        ambiguous,
    })
}

#[tokio::test]
async fn a_connection_is_used_for_the_next_mail() {
    let smtp = smtp(vec![script(&[GREETING, ACCEPTED, ACCEPTED])]).await;
    assert_eq!(send(&smtp).await, Ok(()));
    assert_eq!(send(&smtp).await, Ok(()));
}

#[tokio::test]
async fn a_refused_recipient_leaves_the_connection_in_order() {
    let refused = [
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "550 no ADA@example.com here\r\n"),
        ("RSET", "250 ok\r\n"),
    ];
    let smtp = smtp(vec![script(&[GREETING, &refused, ACCEPTED])]).await;
    let permanent = Err(SendError::Permanent {
        reason: "550 no (recipient) here".to_owned(),
        dead: true,
    });
    assert_eq!(send(&smtp).await, permanent);
    assert_eq!(send(&smtp).await, Ok(()));
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced_whatever_it_says_at_last() {
    let goodbye = [("MAIL", "421 idle for too long\r\n")];
    let full = [
        ("MAIL", "452 too many mails over this connection\r\n"),
        ("QUIT", ""),
    ];
    let later = [("MAIL", "250 ok\r\n"), ("RCPT", "")];
    for end in [&[][..], &goodbye, &full, &later] {
        let scripts = vec![script(&[GREETING, ACCEPTED, end]), script(&[GREETING, ACCEPTED])];
        let smtp = smtp(scripts).await;
        assert_eq!(send(&smtp).await, Ok(()));
        assert_eq!(send(&smtp).await, Ok(()), "{end:?}");
    }
}

#[tokio::test]
async fn what_the_server_may_have_taken_is_not_sent_again_at_once() {
    let lost = script(&[GREETING, ACCEPTED, &ACCEPTED[..3], &[(".", "")]]);
    let smtp = smtp(vec![lost, script(&[GREETING, ACCEPTED])]).await;
    assert_eq!(send(&smtp).await, Ok(()));
    let Err(SendError::Transient { about, ambiguous, .. }) = send(&smtp).await else {
        panic!("it is for the next attempt")
    };
    assert_eq!((about, ambiguous), (About::Server, true));
}

#[tokio::test]
async fn a_server_that_closes_after_the_mail_with_an_answer_is_not_ambiguous() {
    let closing = script(&[GREETING, &ACCEPTED[..3], &[(".", "421 shutting down\r\n")]]);
    let smtp = smtp(vec![closing]).await;
    assert_eq!(
        send(&smtp).await,
        transient("421 shutting down", About::Domain, false)
    );
}

#[tokio::test]
async fn what_is_put_off_is_told_apart_by_whether_others_at_the_domain_may_be_too() {
    for (answer, about) in [
        ("450 4.7.1 greylisted", About::Domain),
        ("451 try later", About::Domain),
        ("452 4.3.1 no space on disk", About::Domain),
        ("452 4.2.2 mailbox full", About::Recipient),
        ("450 4.1.2 no such domain just now", About::Recipient),
    ] {
        let line: &'static str = format!("{answer}\r\n").leak();
        let smtp = smtp(vec![script(&[
            GREETING,
            &ACCEPTED[..1],
            &[("RCPT", line), ("RSET", "250 ok\r\n")],
        ])])
        .await;
        assert_eq!(send(&smtp).await, transient(answer, about, false));
    }
}

#[tokio::test]
async fn no_answer_in_time_is_told_apart_by_where_it_is_missing() {
    for (stage, ambiguous) in [(1, false), (2, false), (3, true)] {
        let smtp = smtp(vec![script(&[GREETING, &ACCEPTED[..stage], &[HANG]])]).await;
        let expected = transient("the answer did not come in time", About::Server, ambiguous);
        assert_eq!(send(&smtp).await, expected, "{stage}");
    }
}

#[tokio::test]
async fn a_mail_is_not_poured_into_a_server_that_did_not_ask_for_it() {
    let odd = script(&[GREETING, &ACCEPTED[..2], &[("DATA", "250 ok\r\n"), ("QUIT", "")]]);
    let smtp = smtp(vec![odd]).await;
    assert_eq!(
        send(&smtp).await,
        transient("unexpected answer 250", About::Server, false)
    );
}

#[tokio::test]
async fn what_is_said_before_the_recipient_is_about_us() {
    for (script, why) in [
        (vec![("", "554 go away\r\n")], "554"),
        (vec![("", "")], "does not greet"),
        (
            script(&[GREETING, &[("MAIL", "451 not now\r\n")]]),
            "the server takes no mail from us: 451 not now",
        ),
        (
            script(&[GREETING, &[("MAIL", "530 log in\r\n")]]),
            "the server takes no mail from us: 530 log in",
        ),
        (
            script(&[GREETING, &ACCEPTED[..1], &[("RCPT", "530 log in\r\n")]]),
            "530 log in",
        ),
    ] {
        let result = send(&smtp(vec![script]).await).await;
        let Err(SendError::Unavailable(reason)) = result else {
            panic!("{why}: {result:?}")
        };
        assert!(reason.contains(why), "{why}: {reason}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_one_more_connection_is_probed_over_one_that_we_have() {
    let mailed = [("MAIL", "250 ok\r\n"), ("RSET", "250 ok\r\n")];
    let smtp = smtp(vec![
        script(&[GREETING, ACCEPTED, &mailed]),
        vec![("", "421 too many\r\n")],
    ])
    .await;
    assert_eq!(send(&smtp).await, Ok(()));
    assert_eq!(smtp.turn().await.probe(&mail().from).await, Ok(()));
}

#[tokio::test]
async fn what_is_slipped_in_before_tls_is_not_taken_for_the_servers_words() {
    // In one segment: the answer to STARTTLS, and what lettre would read after the handshake as answer to its EHLO.
    let injected = [
        ("", "220 ready\r\n"),
        ("EHLO", "250-me\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go\r\n250-me\r\n250 AUTH PLAIN\r\n"),
        HANG,
    ];
    let config = SmtpConfig {
        tls: Tls::Starttls,
        ..server(vec![injected.to_vec()]).await
    };
    let smtp = Smtp::new(config).unwrap();
    let result = send(&smtp).await;
    let Err(SendError::Unavailable(reason)) = result else {
        panic!("{result:?}")
    };
    // The handshake itself meets the words, and takes them for what they are. Otherwise it would wait for a server.
    assert!(reason.contains("STARTTLS failed"), "{reason}");
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let hang = script(&[GREETING, &[HANG]]);
    let smtp = smtp(vec![hang.clone(), hang.clone(), hang]).await;
    let (_first, _second) = (smtp.turn().await, smtp.turn().await);
    assert!(timeout(Duration::from_millis(50), smtp.turn()).await.is_err());
}

#[test]
fn an_address_is_found_in_a_reason_however_it_is_written() {
    let address = "Ada@Example.com";
    assert_eq!(
        without_address("550 <ada@EXAMPLE.com> and ada@example.com: no", address),
        "550 <(recipient)> and (recipient): no"
    );
    assert_eq!(without_address("550 İ no", address), "550 İ no");
}
