//! A mail as people see it: in a browser, light and dark.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use support::{Database, eventually};
use tokio::net::TcpListener;
use tokio::process::Command;
use uuid::Uuid;

use crate::catcher::Catcher;
use crate::fixture::{Running, arm, config, no_topics, until_state};

/// Says what is to be seen of the mail in the frame: its text, its links with their places, its colours.
const PAGE: &str = "<!doctype html><meta charset=utf-8><meta name=color-scheme content='light dark'>
<iframe style='width:600px;height:900px' srcdoc=\"MAIL\"></iframe><pre id=seen></pre><script>
onload = () => {
  const mail = document.querySelector('iframe').contentDocument;
  const links = [...mail.links].map((a) => ({href: a.href, text: a.innerText, area: a.offsetWidth * a.offsetHeight}));
  const seen = {text: mail.body.innerText, links, width: mail.documentElement.scrollWidth,
    colour: getComputedStyle(mail.body).color, loads: mail.querySelectorAll('[src],link,script,style').length};
  document.getElementById('seen').textContent = encodeURIComponent(JSON.stringify(seen));
};
</script>";

async fn seen(folder: &Path, html: &str, scheme: &str) -> Value {
    // Whatever is asked of elsewhere would come to this port.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = folder.join("mail.html");
    let mail = html.replace('&', "&amp;").replace('"', "&quot;");
    std::fs::write(&file, PAGE.replace("MAIL", &mail)).unwrap();
    let shown = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--proxy-server=http://{}", proxy.local_addr().unwrap()))
        .arg(format!("--user-data-dir={}", folder.join(scheme).display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("it is installed: scripts/tools packages");
    let dom = String::from_utf8_lossy(&shown.stdout).into_owned();
    let json = dom
        .split_once("<pre id=\"seen\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .unwrap_or_else(|| panic!("{dom}\n{}", String::from_utf8_lossy(&shown.stderr)))
        .0;
    serde_json::from_str(&decoded(json)).unwrap_or_else(|error| panic!("{error}: {dom}"))
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_is_readable_in_a_browser_light_and_dark_and_loads_nothing() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let user = database.user("ada@example.com").await;
    let title = "Blumen gießen <b>heute</b> ".to_owned() + &"w".repeat(300);
    let id = arm(&database, user, &title).await;
    sqlx::query("update accounts.users set language = 'de', attach_ics = true")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    until_state(&database, id, "sent").await;
    service.stop().await;
    let mail = eventually("the mail", async || catcher.mails().await.pop()).await;
    assert!(
        mail.subject.starts_with("Erinnerung: Blumen gießen"),
        "{}",
        mail.subject
    );
    assert!(mail.text.starts_with("Guten Tag Ada Lovelace,"), "{}", mail.text);
    let folder: PathBuf = std::env::temp_dir().join(format!("rendered-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    for (scheme, colour) in [("1", "rgb(0, 0, 0)"), ("0", "rgb(255, 255, 255)")] {
        let seen = seen(&folder, &mail.html, scheme).await;
        let text = seen["text"].as_str().unwrap();
        for word in [
            "Guten Tag Ada Lovelace,",
            &title,
            "Priorität",
            "Erledigt",
            "Später",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let links = seen["links"].as_array().unwrap();
        assert_eq!(links.len(), 3);
        assert!(
            links.iter().all(|link| link["area"].as_f64().unwrap() > 100.0),
            "{links:?}"
        );
        assert!(
            links
                .iter()
                .all(|link| mail.text.contains(link["href"].as_str().unwrap())),
            "{links:?}"
        );
        assert_eq!(seen["colour"], colour);
        assert_eq!(
            seen["loads"], 0,
            "nothing is loaded, so nobody learns that the mail was opened"
        );
        assert!(
            seen["width"].as_f64().unwrap() <= 600.0,
            "nothing is wider than the window"
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
