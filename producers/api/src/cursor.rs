//! Cursors: where in a list the next page starts, in the hands of a client. One is sealed for its person and its list, so
//! that what comes back is what was given: a forged or edited one, another person's, or one of another list is refused.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::problem::Problem;
use crate::token::SigningKey;

/// Raised when positions change their meaning: cursors of before are refused then.
const VERSION: u8 = 1;

/// No cursor is longer. The longest holds a title's beginning, with every character escaped.
pub const MAX_CHARS: usize = 2000;

/// Seals and opens cursors.
pub struct Cursors {
    sealing: EncodingKey,
    opening: DecodingKey,
}

/// The list that a cursor belongs to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct List<'a> {
    /// Which resource is listed.
    pub resource: &'static str,
    /// Whose.
    pub user_id: Uuid,
    /// What is asked for, in one text: its filters and its order.
    pub query: &'a str,
}

impl Cursors {
    /// With a key of their own, the same for all who have the signing key.
    ///
    /// # Errors
    /// When the key cannot sign, which reading the key has ruled out.
    pub fn new(key: &SigningKey) -> Result<Self, jsonwebtoken::errors::Error> {
        let secret = key.secret("cursors")?;
        Ok(Self {
            sealing: EncodingKey::from_secret(&secret),
            opening: DecodingKey::from_secret(&secret),
        })
    }

    /// The cursor of a position in a list.
    ///
    /// # Errors
    /// When the position cannot be written as JSON: a bug of this crate.
    pub fn seal(&self, list: List<'_>, position: &impl Serialize) -> Result<String, Problem> {
        let position = serde_json::to_vec(position).map_err(Problem::internal)?;
        let position = BASE64_URL_SAFE_NO_PAD.encode(position);
        let message = message(list, &position).map_err(Problem::internal)?;
        let seal = crypto::sign(&message, &self.sealing, Algorithm::HS256).map_err(Problem::internal)?;
        Ok(format!("{position}.{seal}"))
    }

    /// The position that a cursor stands for, if it is one of this list.
    pub fn open<P: DeserializeOwned>(&self, list: List<'_>, cursor: &str) -> Option<P> {
        if cursor.len() > MAX_CHARS {
            return None;
        }
        let (position, seal) = cursor.split_once('.')?;
        let message = message(list, position).ok()?;
        let genuine = crypto::verify(seal, &message, &self.opening, Algorithm::HS256).ok()?;
        let position = genuine.then(|| BASE64_URL_SAFE_NO_PAD.decode(position))?.ok()?;
        serde_json::from_slice(&position).ok()
    }
}

// Not derived: the keys are secrets.
impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursors").finish_non_exhaustive()
    }
}

/// What is sealed. JSON, so that no two lists and positions run together into one text.
fn message(list: List<'_>, position: &str) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&(VERSION, list, position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::RFC_8037_KEY;

    const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIEzNCJso/5baho4sGpf4qGzHXCbHjVc4FLOKOmKe2MQ9\n\
        -----END PRIVATE KEY-----\n";

    fn cursors(pem: &str) -> Cursors {
        Cursors::new(&SigningKey::from_pem(pem).unwrap()).unwrap()
    }

    fn list(user_id: Uuid, query: &str) -> List<'_> {
        List {
            resource: "tasks",
            user_id,
            query,
        }
    }

    #[test]
    fn a_cursor_opens_for_its_person_and_list_with_any_replica() {
        let ada = Uuid::now_v7();
        let position = ("a title", 7_i64);
        let cursor = cursors(RFC_8037_KEY).seal(list(ada, "q"), &position).unwrap();
        assert!(cursor.len() < MAX_CHARS);
        let replica = cursors(RFC_8037_KEY);
        let opened: Option<(String, i64)> = replica.open(list(ada, "q"), &cursor);
        assert_eq!(opened, Some(("a title".to_owned(), 7)));

        let open = |cursors: &Cursors, list, cursor: &str| cursors.open::<(String, i64)>(list, cursor);
        assert_eq!(open(&replica, list(Uuid::now_v7(), "q"), &cursor), None);
        assert_eq!(open(&replica, list(ada, "r"), &cursor), None);
        let tags = List {
            resource: "tags",
            ..list(ada, "q")
        };
        assert_eq!(open(&replica, tags, &cursor), None);
        assert_eq!(open(&cursors(OTHER_KEY), list(ada, "q"), &cursor), None);
    }

    #[test]
    fn an_edited_cursor_does_not_open_whatever_character_was_changed() {
        let list = list(Uuid::nil(), "q");
        let cursors = cursors(RFC_8037_KEY);
        let cursor = cursors.seal(list, &(1, 2)).unwrap();
        assert_eq!(cursors.open(list, &cursor), Some((1, 2)));
        for (index, old) in cursor.char_indices() {
            for new in ["A", "B", "-", ".", "=", ""] {
                let mut edited = cursor.clone();
                edited.replace_range(index..=index, new);
                if new != old.to_string() {
                    assert_eq!(cursors.open::<(i32, i32)>(list, &edited), None, "{edited}");
                }
            }
        }
        for text in ["", ".", "x", "x.y", "\u{0}", "ä.ö", &"x".repeat(MAX_CHARS + 1)] {
            assert_eq!(cursors.open::<(i32, i32)>(list, text), None, "{text}");
        }
    }
}
