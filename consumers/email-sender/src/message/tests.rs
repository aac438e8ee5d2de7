use std::sync::LazyLock;
use std::time::{Duration, Instant};

use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

use super::*;
use crate::config::MailConfig;
use crate::deliveries::{AccountMail, Message, Purpose, Rung};
use crate::language::Language;

fn config(from_name: &str) -> MailConfig {
    MailConfig {
        from_email: "bell@carillon.example".parse().unwrap(),
        from_name: from_name.to_owned(),
        message_id_domain: "mail.example".to_owned(),
        template_dir: None,
        public_url: "https://carillon.example".to_owned(),
    }
}

fn keys() -> Keys {
    Keys::parse("a-key-of-tests-for-links-in-mails").unwrap()
}

fn writer() -> Writer {
    Writer::new(&config("Carillon"), keys()).unwrap()
}

fn claim(title: &str, description: Option<&str>) -> Claim {
    let now = schemas::now();
    let task = Task {
        id: Uuid::from_u128(1),
        version: 1,
        title: title.to_owned(),
        description: description.map(ToOwned::to_owned),
        priority: schemas::Priority::High,
        tags: vec!["home".to_owned()],
        due_at: Some(now),
        due_on: None,
        timezone: "Europe/Berlin".to_owned(),
        floating: false,
        whole_day_minute: schemas::WHOLE_DAY_MINUTE,
        reminders: Vec::new(),
        depends_on: Vec::new(),
        series_id: None,
        occurrence: None,
        recurrence: None,
        created_at: now,
        updated_at: now,
        completed_at: None,
        deleted_at: None,
    };
    Claim {
        id: Uuid::from_u128(7),
        user_id: Uuid::from_u128(2),
        attempt: 1,
        age: Duration::ZERO,
        claimed: Instant::now(),
        traces: Vec::new(),
        message: Message {
            what: What::Reminder(Rung {
                reminder_id: Uuid::from_u128(3),
                task_id: task.id,
                fire_at: now,
                fired_at: now,
                task: serde_json::to_value(task).unwrap(),
                late: Duration::ZERO,
                missed: false,
                held_until: None,
            }),
            recipient: None,
            moot: None,
            place: None,
            refused: None,
        },
    }
}

fn recipient(name: &str) -> Recipient {
    Recipient {
        email: "ada@example.com".to_owned(),
        name: name.to_owned(),
        timezone: "UTC".to_owned(),
        verified: true,
        language: Language::English,
        attach_ics: false,
        suppressed: None,
    }
}

static WRITER: LazyLock<Writer> = LazyLock::new(writer);

fn write(title: &str, description: Option<&str>, name: &str) -> String {
    let mail = WRITER
        .write(&claim(title, description), &recipient(name))
        .unwrap();
    assert!(mail.is_ascii());
    String::from_utf8(mail.bytes).unwrap()
}

/// The names of the headers, folded lines joined, and the rest.
fn headers(mail: &str) -> (Vec<(String, String)>, &str) {
    let (head, rest) = mail.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers = unfolded
        .split("\r\n")
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("{line:?} is no header"));
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    (headers, rest)
}

/// Those of a mail about a reminder; one about the account has no two last.
const HEADERS: [&str; 10] = [
    "From",
    "To",
    "Subject",
    "Message-ID",
    "Date",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

#[test]
fn a_mail_has_the_headers_that_it_should() {
    let mail = write("Water the plants", Some("The fern."), "Ada Lovelace");
    let (headers, body) = headers(&mail);
    let value = |name: &str| &headers.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(value("From"), "Carillon <bell@carillon.example>");
    assert_eq!(value("To"), "\"Ada Lovelace\" <ada@example.com>");
    assert_eq!(value("Subject"), "Reminder: Water the plants");
    assert_eq!(
        value("Message-ID"),
        "<00000000-0000-0000-0000-000000000007@mail.example>"
    );
    assert_eq!(value("Auto-Submitted"), "auto-generated");
    assert!(value("Content-Type").starts_with("multipart/alternative"));
    assert!(body.contains("Content-Type: text/plain; charset=utf-8"));
    assert!(body.contains("Content-Type: text/html; charset=utf-8"));
    // RFC 8058, and that it is this person whom it unsubscribes.
    assert_eq!(value("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click");
    let token = value("List-Unsubscribe")
        .strip_prefix("<https://carillon.example/unsubscribe/")
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap();
    let link = keys().open(token, schemas::now()).unwrap();
    assert_eq!(
        (link.action, link.user_id),
        (Action::Unsubscribe, Uuid::from_u128(2))
    );
}

#[test]
fn the_links_of_a_mail_are_for_its_task_and_the_same_in_every_copy() {
    let claim = claim("x", None);
    let ada = recipient("Ada");
    let links = |mail: &Mail| -> Vec<Link> {
        let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
        let text = parsed.body_text(0).unwrap().into_owned();
        let html = parsed.body_html(0).unwrap().into_owned();
        let found: Vec<String> = text
            .split_whitespace()
            .filter(|word| word.starts_with("https://"))
            .map(ToOwned::to_owned)
            .collect();
        assert!(
            found.iter().all(|url| html.contains(&format!("href=\"{url}\""))),
            "{html}"
        );
        let open = |url: &String| {
            keys()
                .open(url.rsplit('/').next().unwrap(), schemas::now())
                .unwrap()
        };
        found.iter().map(open).collect()
    };
    let first = links(&WRITER.write(&claim, &ada).unwrap());
    let (task_id, reminder_id) = (Uuid::from_u128(1), Uuid::from_u128(3));
    assert_eq!(
        first.iter().map(|link| link.action).collect::<Vec<_>>(),
        [
            Action::Complete { task_id },
            Action::Snooze { reminder_id },
            Action::Unsubscribe
        ]
    );
    assert!(first.iter().all(|link| link.user_id == claim.user_id));
    let again = Claim {
        attempt: 5,
        ..claim.clone()
    };
    assert_eq!(links(&WRITER.write(&again, &ada).unwrap()), first);
}

#[test]
fn what_is_due_is_attached_for_the_calendar_of_who_wants_it() {
    let wants = Recipient {
        attach_ics: true,
        ..recipient("Ada")
    };
    let file = |claim: &Claim| {
        let mail = WRITER.write(claim, &wants).unwrap();
        let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
        assert!(parsed.body_text(0).is_some() && parsed.body_html(0).is_some());
        parsed.attachment(0).map(|part| {
            assert_eq!(part.attachment_name(), Some("task.ics"));
            let kind = part.content_type().unwrap();
            assert_eq!(
                (kind.ctype(), kind.subtype(), kind.attribute("method")),
                ("text", Some("calendar"), Some("PUBLISH"))
            );
            String::from_utf8(part.contents().to_vec()).unwrap()
        })
    };
    let nasty = claim(
        "Plants; a,b\\ \r\nATTENDEE:mailto:eve@example.com",
        Some("one\rX:two\nEND:VEVENT\u{2028}\0"),
    );
    let calendar = file(&nasty).unwrap();
    let lines: Vec<&str> = calendar.split("\r\n").filter(|line| !line.is_empty()).collect();
    let names: Vec<&str> = lines
        .iter()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split([':', ';']).next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "BEGIN",
            "VERSION",
            "PRODID",
            "METHOD",
            "BEGIN",
            "DESCRIPTION",
            "DTSTAMP",
            "DTSTART",
            "SEQUENCE",
            "SUMMARY",
            "UID",
            "END",
            "END"
        ],
        "{calendar}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line.len() <= 75 && !line.contains(['\r', '\n', '\0'])),
        "{calendar}"
    );
    let whole = calendar.replace("\r\n ", "");
    assert!(
        whole.contains("UID:00000000-0000-0000-0000-000000000001@mail.example\r\n"),
        "{whole}"
    );
    assert!(
        whole.contains("SUMMARY:Plants\\; a\\,b\\\\ ATTENDEE:mailto:eve@example.com\r\n"),
        "{whole}"
    );
    assert!(
        whole.contains("DESCRIPTION:one\\nX:two\\nEND:VEVENT\r\n"),
        "{whole}"
    );
    // A whole day; and nothing for a calendar.
    let due_on = |days: Option<i32>| {
        let mut claim = claim("x", None);
        if let What::Reminder(rung) = &mut claim.message.what {
            rung.task["due_at"] = serde_json::Value::Null;
            rung.task["due_on"] = serde_json::json!(days);
        }
        claim
    };
    assert!(
        file(&due_on(Some(20_939)))
            .unwrap()
            .contains("DTSTART;VALUE=DATE:20270501\r\n")
    );
    assert_eq!(file(&due_on(None)), None);
    assert!(!write("x", None, "Ada").contains("calendar"));
}

/// What nobody means well with, and anything at all.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => any::<char>().prop_map(String::from),
        4 => proptest::sample::select(NASTY).prop_map(ToOwned::to_owned),
        1 => "[ -~]{0,90}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mail_reads_as_one_to_one_person_with_the_parts_that_it_should_have_whatever_is_typed(
        title in text(), description in text(), tag in text(), name in text(), ics in any::<bool>(),
    ) {
        let mut claim = claim(&title, Some(&description));
        if let What::Reminder(rung) = &mut claim.message.what {
            rung.task["tags"] = serde_json::json!([tag]);
        }
        let recipient = Recipient { attach_ics: ics, ..recipient(&name) };
        let mail = WRITER.write(&claim, &recipient).unwrap();
        let bytes = String::from_utf8(mail.bytes.clone()).unwrap();
        // As it goes over the wire: whole lines, and no end of the mail before its end.
        prop_assert!(bytes.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0'])));
        let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
        let mut names: Vec<&str> = parsed.headers().iter().map(|header| header.name()).collect();
        names.sort_unstable();
        let mut expected = HEADERS;
        expected.sort_unstable();
        prop_assert_eq!(names, expected);
        prop_assert_eq!(parsed.to().unwrap().iter().filter_map(|to| to.address()).collect::<Vec<_>>(), ["ada@example.com"]);
        prop_assert_eq!(parsed.parts.len(), if ics { 5 } else { 3 });
        let plain = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
        prop_assert!(parsed.subject().unwrap_or_default().chars().all(plain));
        prop_assert!(parsed.body_text(0).unwrap().lines().all(|line| line.chars().all(|c| plain(c) || c == '\t')));
    }
}

/// What people may type to make the mail say more than it should.
const NASTY: &[&str] = &[
    "x\r\nBcc: eve@example.com",
    "x\nBcc: eve@example.com",
    "x\rBcc: eve@example.com",
    "x\r\n\r\nbody",
    "\r\n.\r\nMAIL FROM:<eve@example.com>\r\n",
    "\n.\nMAIL FROM:<eve@example.com>\n",
    "\r.\rQUIT\r",
    ".",
    "..",
    ".\r\n.",
    "x\0y",
    "\0",
    "\u{1b}[2J",
    "\u{7f}\u{80}\u{9f}",
    "\u{2028}Bcc: eve@example.com\u{2029}",
    "\u{202e}evil\u{202c}",
    "\"quoted\" <eve@example.com>",
    "a\\",
    "\\\"",
    "<eve@example.com>",
    "=?utf-8?q?x=0D=0ABcc:_eve?=",
    "name, other@example.com",
    "(comment",
    ";:@,",
    "Ünïcödé 🎉 漢字",
    "🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉",
    "",
    " ",
    "\t",
];

#[test]
fn nothing_that_a_person_types_adds_a_header_or_ends_the_mail() {
    let long = "long ".repeat(2000);
    let wide = "w".repeat(10_000);
    for nasty in NASTY.iter().copied().chain([long.as_str(), wide.as_str()]) {
        for (title, description, name) in [
            (nasty, Some(nasty), nasty),
            (nasty, None, "Ada"),
            ("x", Some(nasty), "Ada"),
            ("x", None, nasty),
        ] {
            let mail = write(title, description, name);
            let (headers, body) = headers(&mail);
            let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.len(), HEADERS.len(), "{nasty:?}: {names:?}");
            assert!(
                HEADERS.iter().all(|name| names.contains(name)),
                "{nasty:?}: {names:?}"
            );
            let to = &headers.iter().find(|(name, _)| name == "To").unwrap().1;
            assert!(
                to.ends_with("ada@example.com>") || to == "ada@example.com",
                "{nasty:?}: {to}"
            );
            assert_eq!(body.matches("Content-Type: ").count(), 2, "{nasty:?}");
            for line in mail.split("\r\n") {
                assert!(line.len() <= 998, "{nasty:?}: a line of {} bytes", line.len());
                assert!(!line.contains(['\r', '\n', '\0']), "{nasty:?}: {line:?}");
            }
        }
    }
}

#[test]
fn the_secret_of_a_link_stands_behind_the_hash_where_no_server_sees_it() {
    for (purpose, subject, page) in [
        (
            Purpose::VerifyEmail,
            "Please confirm your email address",
            "verify-email",
        ),
        (Purpose::ResetPassword, "Set a new password", "reset-password"),
    ] {
        let link = AccountMail {
            purpose,
            token: Some("T-_0k3n".to_owned()),
            good_for: Duration::from_mins(60),
            detail: None,
        };
        assert!(!format!("{link:?}").contains("T-_0k3n"));
        let mut claim = claim("x", None);
        claim.message.what = What::Account(link);
        let mail = writer()
            .write(&claim, &recipient("<b>Ada</b>\r\nBcc: eve@example.com"))
            .unwrap();
        let mail = String::from_utf8(mail.bytes).unwrap();
        let (headers, body) = headers(&mail);
        assert_eq!(headers.len(), HEADERS.len() - 2);
        assert!(headers.contains(&("Subject".to_owned(), subject.to_owned())));
        // Quoted-printable: an = at the end of a line goes on in the next.
        let body = body.replace("=\r\n", "");
        let link = format!("https://carillon.example/{page}#T-_0k3n");
        assert_eq!(
            body.matches(&link).count(),
            3,
            "in the text, and twice in the HTML: {body}"
        );
        assert!(body.contains("60 minutes"), "{body}");
        let (text, html) = body.split_once("text/html").unwrap();
        assert!(text.contains("Hello <b>Ada</b> Bcc: eve@example.com,"), "{text}");
        assert!(html.contains("Hello &lt;b&gt;Ada"), "{html}");
        // Who registered is not yet known to be who reads.
        let stranger = Recipient {
            verified: false,
            ..recipient("Buy now")
        };
        let mail = String::from_utf8(writer().write(&claim, &stranger).unwrap().bytes).unwrap();
        assert!(mail.contains("Hello,\r\n") && !mail.contains("Buy now"), "{mail}");
    }
}

#[test]
fn any_character_at_all_makes_a_mail() {
    for c in ('\0'..='\u{2100}').chain(['\u{fdd0}', '\u{feff}', '\u{fffd}', '\u{10ffff}']) {
        let text = format!("a{c}b");
        let mail = write(&text, None, &text);
        assert_eq!(headers(&mail).0.len(), HEADERS.len(), "{c:?}");
    }
}

#[test]
fn the_message_id_is_the_same_at_every_attempt() {
    let (writer, ada) = (writer(), recipient("Ada"));
    let first = writer.write(&claim("x", None), &ada).unwrap();
    let second = writer
        .write(
            &Claim {
                attempt: 9,
                ..claim("x", None)
            },
            &ada,
        )
        .unwrap();
    assert_eq!(first.message_id, second.message_id);
}

#[test]
fn addresses_that_could_leave_the_dialogue_are_refused_without_being_told() {
    for email in [
        "",
        "ada",
        "ada@",
        "@example.com",
        "a b@example.com",
        "ada@example.com\r\nRCPT TO:<eve@example.com>",
    ] {
        let recipient = Recipient {
            email: email.to_owned(),
            ..recipient("Ada")
        };
        let error = writer().write(&claim("x", None), &recipient).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the person's address is not valid",
            "{email:?}"
        );
    }
}

#[test]
fn a_stored_task_that_is_none_is_an_error_and_no_panic() {
    let mut claim = claim("x", None);
    if let What::Reminder(rung) = &mut claim.message.what {
        rung.task = serde_json::json!({"title": 1});
    }
    assert!(matches!(
        writer().write(&claim, &recipient("Ada")),
        Err(Unwritable::Task(_))
    ));
}

#[test]
fn lines_end_with_crlf_whatever_they_ended_with() {
    assert_eq!(body("a\r\nb\nc\rd\n\re"), "a\r\nb\r\nc\r\nd\r\n\r\ne\r\n");
    assert_eq!(body("a\0b\u{b}c\td"), "abc\td\r\n");
}

#[test]
fn a_line_is_plain_and_bounded() {
    assert_eq!(plain_line(" a\r\n\tb\0c ", 10), "a b c");
    assert_eq!(plain_line("äöüß", 4), "äöüß");
    assert_eq!(plain_line("äöüßx", 4), "äöü…");
}

#[test]
fn a_sender_name_that_breaks_the_mail_is_found_at_start() {
    for name in [
        "Carillon",
        "Carillon (test)",
        "\"quoted\"",
        "Gl\u{f6}ckner",
        "a, b",
        "",
    ] {
        Writer::new(&config(name), keys()).unwrap_or_else(|error| panic!("{name:?}: {error:#}"));
    }
}
