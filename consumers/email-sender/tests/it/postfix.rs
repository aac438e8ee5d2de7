//! A real mail server: Postfix, with an instance of the test's own in a folder. It wants TLS and a password, knows a few
//! mailboxes, lists some greyly, and sends back what it cannot deliver.

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use mail_parser::MessageParser;
use reqwest::StatusCode;
use serde_json::json;
use support::{Database, eventually};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::bounces::{TOKEN, hand_over, suppressed};
use crate::catcher::free_port;
use crate::fixture::{Running, arm, config, no_topics, until_state};
use crate::tls::SelfSigned;

/// How often a recipient that is listed greyly is put off.
const PUT_OFF: u32 = 2;

struct Postfix {
    folder: PathBuf,
    port: u16,
    certificate: SelfSigned,
    master: Child,
}

fn run(command: &mut Command) -> String {
    let done = command
        .stdin(Stdio::null())
        .output()
        .expect("it is installed: scripts/tools packages");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        text(&done.stdout),
        text(&done.stderr)
    );
    text(&done.stdout).trim().to_owned()
}

fn id_of(user: &str, which: &str) -> u32 {
    run(Command::new("id").args([which, user])).parse().unwrap()
}

impl Postfix {
    async fn start(policy_port: u16) -> Self {
        assert_eq!(
            run(Command::new("id").arg("-u")),
            "0",
            "Postfix starts as root only: run this test as root, or leave it out (--skip postfix)"
        );
        let folder = std::env::temp_dir().join(format!("postfix-{}", Uuid::new_v4()));
        let (port, certificate) = (free_port(), SelfSigned::new());
        let (postfix, nobody) = (id_of("postfix", "-u"), id_of("nobody", "-u"));
        for (name, owner) in [
            ("etc/sasl", None),
            ("queue", None),
            ("data", Some(postfix)),
            ("mail", Some(nobody)),
        ] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            chown(&folder, owner, None).unwrap();
        }
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        let passwords = folder.join("passwords");
        let mut password = Command::new("saslpasswd2");
        password
            .args(["-p", "-c", "-u", "mx.example", "-f"])
            .arg(&passwords)
            .arg("bell");
        let mut child = password
            .stdin(Stdio::piped())
            .spawn()
            .expect("it is installed: scripts/tools packages");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hush hush").unwrap();
        assert!(child.wait().unwrap().success());
        chown(&passwords, Some(postfix), None).unwrap();
        let root = folder.display();
        std::fs::write(
            folder.join("etc/sasl/smtpd.conf"),
            format!("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {root}/passwords\nmech_list: PLAIN LOGIN\n"),
        )
        .unwrap();
        std::fs::write(
            folder.join("etc/main.cf"),
            format!(
                "compatibility_level = 3.6\nqueue_directory = {root}/queue\ndata_directory = {root}/data\n\
                 maillog_file = /dev/stdout\nmyhostname = mx.example\nmydestination =\nmynetworks =\n\
                 inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nalias_maps =\n\
                 virtual_mailbox_domains = people.example, carillon.example\n\
                 virtual_mailbox_maps = inline:{{ ada@people.example=ada/, grey@people.example=grey/, bell@carillon.example=bell/ }}\n\
                 virtual_alias_maps = inline:{{ moved@people.example=moved@nowhere.example }}\n\
                 transport_maps = inline:{{ {{ nowhere.example = error:5.1.1 no such user }} }}\n\
                 virtual_mailbox_base = {root}/mail\nvirtual_uid_maps = static:{nobody}\nvirtual_gid_maps = static:{gid}\n\
                 virtual_minimum_uid = 1\nvirtual_mailbox_limit = 0\nmailbox_size_limit = 0\nmessage_size_limit = 20480\n\
                 smtpd_tls_cert_file = {cert}/cert.pem\nsmtpd_tls_key_file = {cert}/key.pem\nsmtpd_tls_security_level = encrypt\n\
                 smtpd_sasl_auth_enable = yes\nsmtpd_sasl_local_domain = mx.example\n\
                 smtpd_client_restrictions = permit_sasl_authenticated, reject\nsmtpd_relay_restrictions = reject_unauth_destination\n\
                 smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:{policy_port}\n",
                gid = id_of("nobody", "-g"),
                cert = certificate.folder.display(),
            ),
        )
        .unwrap();
        std::fs::write(
            folder.join("etc/master.cf"),
            format!(
                "127.0.0.1:{port} inet n - n - - smtpd\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
                 rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
                 proxymap unix - - n - - proxymap\nerror unix - - n - - error\nretry unix - - n - - error\n\
                 virtual unix - n n - - virtual\ntlsmgr unix - - n 1000? 1 tlsmgr\nanvil unix - - n - 1 anvil\n\
                 postlog unix-dgram n - n - 1 postlogd\n"
            ),
        )
        .unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let master = Command::new("postfix")
            .arg("-c")
            .arg(folder.join("etc"))
            .arg("start-fg")
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .expect("it is installed: scripts/tools packages");
        let server = Self {
            folder,
            port,
            certificate,
            master,
        };
        eventually("Postfix listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        server
    }

    /// The mails in a mailbox.
    fn mails(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let folder = self.folder.join("mail").join(mailbox).join("new");
        std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let etc: &Path = &self.folder.join("etc");
        let stopped = Command::new("postfix").arg("-c").arg(etc).arg("stop").output();
        if std::thread::panicking() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
        }
        if stopped.is_ok_and(|stopped| stopped.status.success()) && self.master.wait().is_ok() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Lists one recipient greyly, as Postfix' policy protocol has it. Returns where it listens.
async fn greylist(recipient: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut asked: HashMap<String, String> = HashMap::new();
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
                    if let Some((name, value)) = line.trim().split_once('=') {
                        asked.insert(name.to_owned(), value.to_owned());
                    } else {
                        let put_off = asked.remove("recipient").as_deref() == Some(recipient) && {
                            let mut seen = seen.lock().unwrap();
                            *seen += 1;
                            *seen <= PUT_OFF
                        };
                        let action = if put_off { "450 4.7.1 Greylisted" } else { "DUNNO" };
                        stream
                            .write_all(format!("action={action}\n\n").as_bytes())
                            .await
                            .unwrap();
                        asked.clear();
                    }
                    line.clear();
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_mail_server_takes_refuses_puts_off_and_sends_back() {
    let database = Database::create().await;
    let postfix = Postfix::start(greylist("grey@people.example").await).await;
    let (ada, moved) = (
        database.user("ada@people.example").await,
        database.user("Moved@people.example").await,
    );
    let taken = arm(&database, ada, "Water the plants").await;
    let big = arm(&database, ada, "x").await;
    sqlx::query("update delivery.deliveries set task = jsonb_set(task, '{description}', to_jsonb(repeat('long ', 2000))) where id = $1")
        .bind(big)
        .execute(database.admin())
        .await
        .unwrap();
    let grey = arm(&database, database.user("grey@people.example").await, "x").await;
    let unknown = arm(&database, database.user("nobody@people.example").await, "x").await;
    let relayed = arm(&database, database.user("eve@elsewhere.example").await, "x").await;
    let lost = arm(&database, moved, "x").await;

    let (port, ca) = (free_port(), postfix.certificate.cert());
    let settings = [
        ("SMTP_TLS", "starttls"),
        ("SMTP_CA_FILE", &ca),
        ("SMTP_USERNAME", "bell"),
        ("SMTP_PASSWORD", "hush hush"),
        ("HTTP_PORT", &*port.to_string()),
        ("BOUNCE_TOKEN", TOKEN),
    ];
    let service = Running::start(config(&database, &no_topics(), postfix.port, &settings));
    for (id, reason) in [
        (
            unknown,
            "550 5.1.1 <(recipient)>: Recipient address rejected: User unknown in virtual mailbox table",
        ),
        (relayed, "554 5.7.1 <(recipient)>: Relay access denied"),
        (big, "552 5.3.4 Error: message file too big"),
    ] {
        let failed = until_state(&database, id, "failed").await;
        assert_eq!((failed.attempts, failed.last_error.as_deref()), (1, Some(reason)));
    }
    assert_eq!(
        until_state(&database, grey, "sent").await.attempts,
        1 + i32::try_from(PUT_OFF).unwrap()
    );
    let sent = until_state(&database, taken, "sent").await;
    let mail = eventually("the mail is in its mailbox", async || postfix.mails("ada").pop()).await;
    let mail = MessageParser::default().parse(&mail).unwrap();
    assert_eq!(mail.message_id().map(|id| format!("<{id}>")), sent.message_id);
    assert_eq!(mail.subject(), Some("Reminder: Water the plants"));
    assert!(mail.body_text(0).unwrap().contains("Water the plants") && mail.body_html(0).is_some());
    let unsubscribe = mail.header_raw("List-Unsubscribe").unwrap().trim();
    assert!(
        unsubscribe.starts_with("<http://localhost:8000/unsubscribe/"),
        "{unsubscribe}"
    );
    // Over TLS, and with a password.
    assert!(mail.header_raw("Received").unwrap().contains("with ESMTPSA"));

    // Postfix took it, and found out later.
    until_state(&database, lost, "sent").await;
    let report = eventually("the report", async || postfix.mails("bell").pop()).await;
    let answer = hand_over(port, TOKEN, report).await;
    assert_eq!(answer, (StatusCode::OK, json!({"suppressed": 1})));
    let addresses = [
        ("moved@people.example", "report"),
        ("nobody@people.example", "refusal"),
    ];
    assert_eq!(
        suppressed(&database).await,
        addresses.map(|(address, source)| (address.to_owned(), source.to_owned()))
    );
    let next = until_state(&database, arm(&database, moved, "y").await, "suppressed").await;
    assert_eq!(
        next.last_error.as_deref(),
        Some("mail does not arrive at the address: 5.1.1 no such user")
    );
    service.stop().await;
}
