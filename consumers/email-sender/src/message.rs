//! A claim becomes a mail: lettre puts it together, and everything that a person typed is made harmless before.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lettre::address::Envelope;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart};
use lettre::{Address, message};
use links::{Action, Keys, Link};
use schemas::{Task, Timestamp};
use uuid::Uuid;

use crate::MailConfig;
use crate::calendar;
use crate::deliveries::{Claim, Recipient, Rung, What};
use crate::template::{Account, Content, Digest, Line, Links, Reminder, Templates};

/// Longer subjects are cut: what lists of mails show is far shorter, and the whole title stands in the text.
const MAX_SUBJECT_CHARS: usize = 200;
/// The same for names.
const MAX_NAME_CHARS: usize = 100;

/// A mail as it goes to the server.
#[derive(Debug, Clone)]
pub struct Mail {
    pub from: Address,
    pub to: Address,
    pub message_id: String,
    pub bytes: Vec<u8>,
}

impl Mail {
    /// Whether every server can take it.
    pub fn is_ascii(&self) -> bool {
        let (from, to): (&str, &str) = (self.from.as_ref(), self.to.as_ref());
        from.is_ascii() && to.is_ascii() && self.bytes.is_ascii()
    }
}

/// Why no mail can be written for a delivery, at no attempt. It names no address.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// The address cannot be used.
    #[error("the person's address is not valid")]
    Address,
    /// The stored task is none that this version knows.
    #[error("the stored task cannot be read: {0}")]
    Task(#[from] serde_json::Error),
    /// A template does not work for this task.
    #[error("the text cannot be rendered: {0}")]
    Template(#[from] minijinja::Error),
    /// lettre does not put it together.
    #[error("the mail cannot be put together: {0}")]
    Message(String),
}

/// Writes mails.
#[derive(Debug)]
pub struct Writer {
    templates: Templates,
    from: Mailbox,
    message_id_domain: String,
    public_url: String,
    links: Keys,
}

/// What a mail has beside its words.
#[derive(Debug, Default)]
struct More {
    /// Where a mail program sends that the person wants no more of these (RFC 8058).
    unsubscribe: Option<String>,
    /// A file for the calendar.
    calendar: Option<String>,
}

impl Writer {
    /// Loads the templates and writes a sample, so that a configuration that makes no mail is found at start.
    pub fn new(config: &MailConfig, links: Keys) -> anyhow::Result<Self> {
        let writer = Self {
            templates: Templates::load(config.template_dir.as_deref())?,
            from: mailbox(&config.from_name, config.from_email.clone()),
            message_id_domain: config.message_id_domain.clone(),
            public_url: config.public_url.clone(),
            links,
        };
        let sample = Content {
            subject: "Sample".to_owned(),
            text: "Sample".to_owned(),
            html: "Sample".to_owned(),
        };
        writer.build(
            mailbox("Ada", config.from_email.clone()),
            "sample",
            &sample,
            More::default(),
        )?;
        Ok(writer)
    }

    /// Who sends.
    pub fn from(&self) -> &Address {
        &self.from.email
    }

    /// The Message-ID of a delivery: the same at every attempt, which makes a second copy known as one.
    pub fn message_id(&self, delivery: Uuid) -> String {
        format!("<{delivery}@{}>", self.message_id_domain)
    }

    /// Writes the mail for a delivery.
    pub fn write(&self, claim: &Claim, recipient: &Recipient) -> Result<Mail, Unwritable> {
        let address = address(&recipient.email).ok_or(Unwritable::Address)?;
        // Anybody can register with another person's address and any text for a name: until the address is verified, that text
        // is not mailed there.
        let name = match &claim.message.what {
            What::Account(_) if !recipient.verified => String::new(),
            _ => plain_line(&recipient.name, MAX_NAME_CHARS),
        };
        let mut more = More::default();
        let content = match &claim.message.what {
            What::Reminder(rung) => {
                let task: Task = serde_json::from_value(rung.task.clone())?;
                let links = self.links(claim.user_id, rung);
                let content = self.templates.render(Reminder {
                    task: &task,
                    name: &name,
                    language: recipient.language,
                    timezone: &recipient.timezone,
                    late: rung.late,
                    missed: rung.missed,
                    held_until: rung.held_until,
                    links: &links,
                })?;
                more.unsubscribe = Some(links.unsubscribe);
                more.calendar = recipient
                    .attach_ics
                    .then(|| calendar::of(&task, &self.message_id_domain))
                    .flatten();
                content
            }
            What::Digest(collection) => {
                let lines = collection
                    .items
                    .iter()
                    .filter_map(|item| Some((item, item.task.clone()?)))
                    .map(|(item, task)| {
                        Ok(Line {
                            task: serde_json::from_value(task)?,
                            fire_at: item.fire_at,
                            missed: item.missed,
                        })
                    })
                    .collect::<Result<Vec<_>, serde_json::Error>>()?;
                let unsubscribe = self.url(Action::Unsubscribe, claim.user_id, collection.due_at);
                let content = self.templates.render_digest(&Digest {
                    more: collection.items.len() - lines.len(),
                    lines,
                    name: &name,
                    language: recipient.language,
                    timezone: &recipient.timezone,
                    unsubscribe: &unsubscribe,
                })?;
                more.unsubscribe = Some(unsubscribe);
                content
            }
            What::Account(mail) => self.templates.render_account(Account {
                language: recipient.language,
                purpose: mail.purpose,
                name: &name,
                public_url: &self.public_url,
                token: mail.token.as_deref(),
                good_for: mail.good_for,
                // Somebody's text too.
                detail: mail.detail.as_deref().filter(|_| recipient.verified),
            })?,
        };
        let message_id = self.message_id(claim.id);
        let to = mailbox(&name, address.clone());
        let bytes = self.build(to, &message_id, &content, more)?;
        Ok(Mail {
            from: self.from.email.clone(),
            to: address,
            message_id,
            bytes,
        })
    }

    /// The links of a mail about a reminder: the same in every copy, for they count from when it rang.
    fn links(&self, user_id: Uuid, rung: &Rung) -> Links {
        let url = |action| self.url(action, user_id, rung.fired_at);
        Links {
            complete: url(Action::Complete {
                task_id: rung.task_id,
            }),
            snooze: url(Action::Snooze {
                reminder_id: rung.reminder_id,
            }),
            unsubscribe: url(Action::Unsubscribe),
        }
    }

    fn url(&self, action: Action, user_id: Uuid, at: Timestamp) -> String {
        self.links.url(&self.public_url, &Link::of(action, user_id, at))
    }

    fn build(
        &self,
        to: Mailbox,
        message_id: &str,
        content: &Content,
        more: More,
    ) -> Result<Vec<u8>, Unwritable> {
        // lettre panics on names that it cannot print. Those that we know of never get here; one that we don't must cost
        // one mail and not the process, again and again.
        catch_unwind(AssertUnwindSafe(|| {
            let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()])?;
            let mut message = Message::builder()
                .envelope(envelope)
                .from(self.from.clone())
                .to(to)
                .subject(plain_line(&content.subject, MAX_SUBJECT_CHARS))
                .message_id(Some(message_id.to_owned()))
                .date_now()
                .header(AutoSubmitted);
            if let Some(url) = more.unsubscribe {
                message = message.header(ListUnsubscribe(url)).header(ListUnsubscribePost);
            }
            let words = MultiPart::alternative_plain_html(body(&content.text), body(&content.html));
            let message = match more.calendar {
                None => message.multipart(words)?,
                Some(calendar) => {
                    let kind = ContentType::parse("text/calendar; charset=utf-8; method=PUBLISH");
                    let kind = kind.unwrap_or(ContentType::TEXT_PLAIN);
                    let file = Attachment::new("task.ics".to_owned()).body(calendar, kind);
                    message.multipart(MultiPart::mixed().multipart(words).singlepart(file))?
                }
            };
            Ok::<_, lettre::error::Error>(message.formatted())
        }))
        .map_err(|_| Unwritable::Message("it has characters that it must not have".to_owned()))?
        .map_err(|error| Unwritable::Message(error.to_string()))
    }
}

/// Tells other machines not to answer this one (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Where a mail program offers to unsubscribe (RFC 2369).
#[derive(Clone)]
struct ListUnsubscribe(String);

impl Header for ListUnsubscribe {
    fn name() -> HeaderName {
        message::header::HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        let value = format!("<{}>", self.0);
        // As it stands: the URL is ASCII, and an encoded word would be none.
        HeaderValue::dangerous_new_pre_encoded(Self::name(), value.clone(), value)
    }
}

/// What the mail program posts there, so that one click is enough (RFC 8058).
#[derive(Clone)]
struct ListUnsubscribePost;

impl Header for ListUnsubscribePost {
    fn name() -> HeaderName {
        message::header::HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}

fn address(email: &str) -> Option<Address> {
    // The parser is not all that stands between an address and the SMTP dialogue.
    let plain = !email
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>'));
    email.parse().ok().filter(|_| plain)
}

fn mailbox(name: &str, address: Address) -> Mailbox {
    let name = plain_line(name, MAX_NAME_CHARS);
    Mailbox::new((!name.is_empty()).then_some(name), address)
}

/// A text as one line of at most so many characters: without control characters, without those that turn the direction
/// of writing, without anything that reads as an encoded word (RFC 2047).
pub fn plain_line(text: &str, max_chars: usize) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || is_invisible(c))
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ").replace("=?", "= ?");
    match line.char_indices().nth(max_chars) {
        None => line,
        Some(_) => line
            .chars()
            .take(max_chars.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// A text with CRLF at the end of every line and nowhere else, and without control characters. lettre takes bare CR and
/// LF for what they are, and forgets to double the dot after them (RUSTSEC-2026-0561).
fn body(text: &str) -> String {
    let mut body = String::with_capacity(text.len() + text.len() / 32);
    for line in text.replace("\r\n", "\n").split(['\r', '\n']) {
        body.extend(line.chars().filter(|&c| c == '\t' || !is_invisible(c)));
        body.push_str("\r\n");
    }
    body
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests;
