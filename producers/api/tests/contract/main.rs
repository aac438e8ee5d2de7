//! The description against the API: a contract fuzzer (schemathesis) asks what the description allows and what it does
//! not, and holds every answer to it; and a browser shows the page that is made of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]
#![expect(dead_code, reason = "shared with the other tests")]

#[path = "../it/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;
use server::{Answer, Server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Most cases of one operation in each phase; `CONTRACT_EXAMPLES` asks for more.
const EXAMPLES: &str = "60";
/// Where the cases start; `CONTRACT_SEED` asks for others. The same every time, so that a change is blamed for what it
/// brought.
const SEED: &str = "20261121";

/// Hosts that Chromium asks whatever page it shows.
const BROWSERS_OWN: &str = "update.googleapis.com;accounts.google.com;clients2.google.com;content-autofill.googleapis.com;optimizationguide-pa.googleapis.com;android.clients.google.com";

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

async fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_one_that_the_description_promises() {
    let server = Server::start().await;
    // Neither a password that the description's examples know nor a session that an operation could end: the account would
    // be gone after the first examples, and everything after that a 401.
    let account = json!({"email": "ada@example.org", "password": "nobody's example", "name": "Ada", "timezone": "Europe/London"});
    let account = server.post("/api/auth/register", &account).await.json();
    let id = account["user"]["id"].as_str().unwrap().parse().unwrap();
    let token = server.tokens.issue(id, "Europe/London").unwrap();
    let requirements = checkout().join("producers/api/tests/contract/requirements.txt");
    let made = run(Command::new(checkout().join("scripts/venv")).arg(&requirements)).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let schemathesis = Path::new(text(&made.stdout).trim()).join("bin/schemathesis");
    let examples = std::env::var("CONTRACT_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let seed = std::env::var("CONTRACT_SEED").unwrap_or_else(|_| SEED.to_owned());
    let folder = checkout().join(".stack/contract");
    std::fs::create_dir_all(&folder).unwrap();
    let fuzzed = run(Command::new(schemathesis)
        .current_dir(folder)
        .args(["run", "--no-color", "--header"])
        .arg(format!("Authorization: Bearer {token}"))
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
             response_schema_conformance,unsupported_method,use_after_free,ensure_resource_availability",
        ])
        .args(["--max-examples", &examples, "--seed", &seed])
        .args(["--generation-database", "none", "--suppress-health-check", "all"])
        .args(["--request-timeout", "35", "--continue-on-failure", "--warnings", "off"])
        .arg(format!("http://{}/openapi.json", server.address)))
    .await;
    let report = text(&fuzzed.stdout);
    println!("{report}");
    assert!(fuzzed.status.success(), "{report}\n{}", text(&fuzzed.stderr));
    let me = Answer::to(
        server
            .request(reqwest::Method::GET, "/api/me")
            .bearer_auth(&token),
    )
    .await;
    assert_eq!(
        me.status,
        reqwest::StatusCode::OK,
        "the token was good to the end: {}",
        me.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_operation_and_asks_nobody_else() {
    let server = Server::start().await;
    // Whatever is not on this machine goes through this proxy, so it sees every request to elsewhere.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_address = proxy.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let listener = tokio::spawn(async move {
        loop {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let count = stream.read(&mut head).await.unwrap_or(0);
            seen.lock().unwrap().push(text(&head[..count]));
        }
    });
    let profile = checkout().join(".stack/contract/chromium");
    let _ = std::fs::remove_dir_all(&profile);
    std::fs::create_dir_all(&profile).unwrap();
    let shown = run(Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        // What this browser asks for itself is not the page's doing.
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--proxy-bypass-list={BROWSERS_OWN}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--proxy-server=http://{proxy_address}"))
        // Until the page has nothing more to do, however fast the machine is.
        .args(["--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("http://{}/docs/", server.address)))
    .await;
    listener.abort();
    let page = text(&shown.stdout);
    let document = server.get("/openapi.json").await.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for operation in operations.as_object().unwrap().values() {
            let summary = operation["summary"].as_str().expect("an operation has a summary");
            assert!(
                page.contains(&format!("data-path=\"{path}\"")),
                "{path} is not shown: {page}"
            );
            assert!(page.contains(summary), "{summary:?} of {path} is not shown");
        }
    }
    let asked = asked.lock().unwrap();
    assert!(asked.is_empty(), "{asked:?}");
}
