//! Tokens whose signature was found good a moment ago. Checking one takes more of a processor than anything else that is done
//! for a short answer, and a client sends the same token with every request for minutes.

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use super::Bearer;

/// How many are remembered: those that are used least make room.
const REMEMBERED: usize = 4096;

/// What the tokens said, by their hashes: whoever reads our memory finds no token here.
#[derive(Debug)]
pub struct Verified(Cache<[u8; 32], Said>);

/// What a token says, and until when, in seconds since 1970.
#[derive(Debug, Clone)]
struct Said {
    bearer: Bearer,
    exp: u64,
}

impl Default for Verified {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Verified {
    /// What this very token said when it was checked, unless it has expired since.
    pub fn get(&self, now: u64, token: &str) -> Option<Bearer> {
        let said = self.0.get(&hash(token)?)?;
        (said.exp >= now).then_some(said.bearer)
    }

    /// Remembers a token that was found good.
    pub fn remember(&self, token: &str, bearer: &Bearer, exp: u64) {
        if let Some(hash) = hash(token) {
            let bearer = bearer.clone();
            self.0.insert(hash, Said { bearer, exp });
        }
    }
}

fn hash(token: &str) -> Option<[u8; 32]> {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_and_no_other_is() {
        let bearer = Bearer {
            user_id: Uuid::now_v7(),
            timezone: "Europe/Berlin".to_owned(),
            session: None,
        };
        let verified = Verified::default();
        assert_eq!(verified.get(100, "a.b.c"), None);
        verified.remember("a.b.c", &bearer, 100);
        assert_eq!(verified.get(100, "a.b.c"), Some(bearer));
        assert_eq!(verified.get(101, "a.b.c"), None);
        assert_eq!(verified.get(100, "a.b.d"), None);
    }

    #[test]
    fn those_that_are_used_least_make_room() {
        let bearer = Bearer {
            user_id: Uuid::nil(),
            timezone: "UTC".to_owned(),
            session: None,
        };
        let verified = Verified::default();
        for n in 0..10 * REMEMBERED {
            verified.remember(&n.to_string(), &bearer, u64::MAX);
        }
        let known = (0..10 * REMEMBERED).filter(|n| verified.get(0, &n.to_string()).is_some());
        assert!((1..=REMEMBERED).contains(&known.count()));
    }
}
