//! What a refusal says about an address, and what a report of non-delivery (RFC 3464) says. An address is suppressed only where
//! the other side says that it is the address: a full mailbox, a mail that is too big or a sender that somebody does not like
//! is no reason to never write again.

use mail_parser::{MessageParser, MimeHeaders, PartType};
use uuid::Uuid;

use crate::message::plain_line;

/// The most recipients of one report that are looked at. Our mails have one.
const MAX_RECIPIENTS: usize = 20;
/// Longer reasons are cut.
const MAX_REASON_CHARS: usize = 300;

/// An enhanced status code (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// The first one in a text.
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split('.');
        let status = Self {
            class: parts.next()?.parse().ok()?,
            subject: parts.next()?.parse().ok()?,
            detail: parts.next()?.parse().ok()?,
        };
        let good = parts.next().is_none() && matches!(status.class, 2 | 4 | 5) && status.subject < 8;
        good.then_some(status)
    }
}

/// Whether mail to the address will never arrive, as far as codes tell: there is no such mailbox or domain, or it is closed.
pub fn is_dead(code: Option<u16>, status: Option<Status>) -> bool {
    match status.map(|status| (status.class, status.subject, status.detail)) {
        // 5.1.7 and 5.1.8 are about the sender's address.
        Some((5, 1, detail)) => !matches!(detail, 7 | 8),
        Some((5, 2, 1)) => true,
        // It says no more than that it is final: what the other code says, counts.
        Some((5, 0, _)) | None => matches!(code, Some(550 | 551 | 553)),
        Some(_) => false,
    }
}

/// Whether an answer is about the recipient's address or mailbox, which says nothing of other mail to the same domain.
pub fn is_about_recipient(status: Option<Status>) -> bool {
    status.is_some_and(|status| matches!(status.subject, 1 | 2))
}

/// A report that a mail of ours did not arrive.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// The delivery that the returned mail was of.
    pub delivery: Uuid,
    /// The recipients that it says will never get mail.
    pub dead: Vec<Dead>,
}

/// An address that mail does not arrive at.
#[derive(Debug, PartialEq, Eq)]
pub struct Dead {
    /// As the mail server knows it, and as we may have written it.
    pub addresses: Vec<String>,
    /// One line, without the address.
    pub reason: String,
}

/// Why a mail is no report that we can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is another kind of mail.
    #[error(
        "the body is no delivery report: a mail of the type multipart/report, with a part message/delivery-status"
    )]
    NoReport,
    /// It returns no mail of ours.
    #[error("the report returns no headers with a Message-ID of ours")]
    NotOurs,
}

impl Report {
    /// Reads a report about a mail with a Message-ID of that domain.
    pub fn read(mail: &[u8], message_id_domain: &str) -> Result<Self, Unusable> {
        let mail = MessageParser::default().parse(mail).ok_or(Unusable::NoReport)?;
        let is = |part: &mail_parser::MessagePart<'_>, kind: &str, subtype: &str| {
            part.content_type().is_some_and(|given| {
                given.ctype().eq_ignore_ascii_case(kind)
                    && given
                        .subtype()
                        .is_some_and(|given| given.eq_ignore_ascii_case(subtype))
            })
        };
        let root = mail.parts.first().ok_or(Unusable::NoReport)?;
        if !is(root, "multipart", "report") {
            return Err(Unusable::NoReport);
        }
        let status = mail
            .parts
            .iter()
            .find(|part| {
                is(part, "message", "delivery-status") || is(part, "message", "global-delivery-status")
            })
            .ok_or(Unusable::NoReport)?;
        let delivery = mail
            .parts
            .iter()
            .find_map(|part| match &part.body {
                PartType::Message(returned) => returned.message_id().map(ToOwned::to_owned),
                _ if is(part, "text", "rfc822-headers") || is(part, "message", "global-headers") => {
                    field(&String::from_utf8_lossy(part.contents()), "Message-ID")
                }
                _ => None,
            })
            .and_then(|id| ours(&id, message_id_domain))
            .ok_or(Unusable::NotOurs)?;
        let text = String::from_utf8_lossy(status.contents()).replace("\r\n", "\n");
        // The first block is about the mail, each other one about a recipient.
        let blocks = text.split("\n\n").skip(1).take(MAX_RECIPIENTS);
        Ok(Self {
            delivery,
            dead: blocks.filter_map(dead).collect(),
        })
    }
}

/// The delivery of a Message-ID of ours.
fn ours(message_id: &str, domain: &str) -> Option<Uuid> {
    let id = message_id.trim().trim_start_matches('<').trim_end_matches('>');
    let (delivery, of) = id.split_once('@')?;
    // Only as we write it: the parser would take other spellings.
    let delivery = delivery
        .parse()
        .ok()
        .filter(|id: &Uuid| id.to_string() == delivery)?;
    of.eq_ignore_ascii_case(domain).then_some(delivery)
}

/// What a block says, if it is that the recipient's address is dead.
fn dead(block: &str) -> Option<Dead> {
    if !field(block, "Action")?.eq_ignore_ascii_case("failed") {
        return None;
    }
    let diagnostic = field(block, "Diagnostic-Code").unwrap_or_default();
    let said = diagnostic.split_once(';').map_or("", |(_, said)| said.trim());
    let code = said.get(..3).and_then(|code| code.parse().ok());
    let status = field(block, "Status").and_then(|status| Status::find(&status))?;
    if status.class != 5
        || !is_dead(
            code,
            Some(status)
                .filter(|status| status.subject != 0)
                .or_else(|| Status::find(said)),
        )
    {
        return None;
    }
    let address = |name| {
        let value = field(block, name)?;
        let (_, address) = value.split_once(';')?;
        let address = address.trim().trim_start_matches('<').trim_end_matches('>');
        (!address.is_empty()).then(|| address.to_owned())
    };
    let addresses: Vec<String> = ["Final-Recipient", "Original-Recipient"]
        .into_iter()
        .filter_map(address)
        .collect();
    let mut reason = format!("{}.{}.{} {said}", status.class, status.subject, status.detail);
    for address in &addresses {
        reason = crate::smtp::without_address(&reason, address);
    }
    Some(Dead {
        addresses,
        reason: plain_line(&reason, MAX_REASON_CHARS),
    })
}

/// A field of a block, unfolded.
fn field(block: &str, name: &str) -> Option<String> {
    let mut lines = block.lines();
    let first = lines.by_ref().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.trim().eq_ignore_ascii_case(name).then_some(value)
    })?;
    let folded = lines.take_while(|line| line.starts_with([' ', '\t']));
    let value: Vec<&str> = std::iter::once(first).chain(folded).map(str::trim).collect();
    Some(value.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: Uuid = Uuid::from_u128(7);

    fn report(status: &str, returned: &str) -> String {
        format!(
            "From: MAILER-DAEMON@mx.example\r\nTo: bell@carillon.example\r\nSubject: Undelivered Mail\r\n\
             MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; mx.example\r\nArrival-Date: Sat, 21 Nov 2026 17:30:00 +0000\r\n\r\n{status}\r\n\
             --b\r\n{returned}\r\n--b--\r\n"
        )
    }

    fn returned(message_id: &str) -> String {
        format!("Content-Type: message/rfc822\r\n\r\nSubject: x\r\nMessage-ID: {message_id}\r\n\r\nhello\r\n")
    }

    fn ours() -> String {
        returned(&format!("<{DELIVERY}@mail.example>"))
    }

    const DEAD: &str = "Final-Recipient: rfc822; ada@example.com\r\nOriginal-Recipient: rfc822;Ada@Example.com\r\n\
        Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 <ada@example.com>:\r\n    no such user\r\n";

    #[test]
    fn a_report_names_the_mail_and_the_addresses_that_are_dead() {
        let read = Report::read(report(DEAD, &ours()).as_bytes(), "mail.example").unwrap();
        let expected = Dead {
            addresses: vec!["ada@example.com".to_owned(), "Ada@Example.com".to_owned()],
            reason: "5.1.1 550 5.1.1 <(recipient)>: no such user".to_owned(),
        };
        assert_eq!((read.delivery, read.dead), (DELIVERY, vec![expected]));
        // Only the headers came back.
        let headers = ours().replace("message/rfc822", "text/rfc822-headers");
        let read = Report::read(report(DEAD, &headers).as_bytes(), "MAIL.example").unwrap();
        assert_eq!((read.delivery, read.dead.len()), (DELIVERY, 1));
    }

    #[test]
    fn what_is_no_fault_of_the_address_kills_none() {
        for (block, dead) in [
            (DEAD.replace("failed", "delayed"), 0),
            (DEAD.replace("failed", "delivered"), 0),
            (DEAD.replace("5.1.1", "4.1.1"), 0),
            (DEAD.replace("5.1.1", "5.2.2"), 0),
            (DEAD.replace("5.1.1", "5.7.1"), 0),
            (DEAD.replace("5.1.1", "5.3.4"), 0),
            (DEAD.replace("Status: 5.1.1", "Status: 5.0.0"), 1),
            (DEAD.replace("5.1.1", "5.0.0"), 1),
            (DEAD.replace("5.1.1", "5.0.0").replace("550", "554"), 0),
            (
                DEAD.replace("Status: 5.1.1", "Status: 5.0.0")
                    .replace("5.1.1", "5.7.1"),
                0,
            ),
            (DEAD.replace("5.1.1", "5.2.1"), 1),
            (DEAD.replace("Status", "Stadium"), 0),
            (DEAD.replace("Action", "Auction"), 0),
        ] {
            let read = Report::read(report(&block, &ours()).as_bytes(), "mail.example").unwrap();
            assert_eq!(read.dead.len(), dead, "{block}");
        }
    }

    #[test]
    fn only_a_report_that_returns_a_mail_of_ours_is_taken() {
        let good = report(DEAD, &ours());
        for (mail, why) in [
            (String::new(), Unusable::NoReport),
            (
                "Subject: hello\r\n\r\nI am on holiday.\r\n".to_owned(),
                Unusable::NoReport,
            ),
            (
                good.replace("multipart/report", "multipart/mixed"),
                Unusable::NoReport,
            ),
            (
                good.replace("message/delivery-status", "text/plain"),
                Unusable::NoReport,
            ),
            (report(DEAD, &returned("<x@mail.example>")), Unusable::NotOurs),
            (
                report(DEAD, &returned(&format!("<{DELIVERY}@other.example>"))),
                Unusable::NotOurs,
            ),
            (
                report(DEAD, &returned(&format!("<{}@mail.example>", DELIVERY.simple()))),
                Unusable::NotOurs,
            ),
            (
                report(DEAD, "Content-Type: text/plain\r\n\r\nnothing\r\n"),
                Unusable::NotOurs,
            ),
        ] {
            assert_eq!(Report::read(mail.as_bytes(), "mail.example"), Err(why), "{mail}");
        }
    }

    #[test]
    fn a_code_is_about_the_address_or_it_is_not() {
        let status = |text| is_dead(None, Status::find(text));
        for text in [
            "5.1.1",
            "550 5.1.2 no such domain",
            "5.1.10 (null MX)",
            "5.2.1 disabled",
        ] {
            assert!(status(text), "{text}");
        }
        for text in [
            "5.1.8",
            "5.2.2 full",
            "5.7.1",
            "4.2.1",
            "2.1.5",
            "5.1",
            "5.1.1.1",
            "1.1.1",
        ] {
            assert!(!status(text), "{text}");
        }
        assert!([550, 551, 553].into_iter().all(|code| is_dead(Some(code), None)));
        assert!(
            [452, 500, 552, 554, 521]
                .into_iter()
                .all(|code| !is_dead(Some(code), None))
        );
        assert!(!is_dead(Some(550), Status::find("5.7.1 blocked")));
    }

    #[test]
    fn no_cut_and_no_changed_byte_of_a_report_is_more_than_refused() {
        let mail = report(DEAD, &ours()).into_bytes();
        for at in 0..mail.len() {
            let _ = Report::read(&mail[..at], "mail.example");
            for byte in [0, b'\n', b';', 0xff] {
                let mut changed = mail.clone();
                changed[at] = byte;
                let _ = Report::read(&changed, "mail.example");
            }
        }
    }
}
