//! Seals, each with the hash of the one before.

use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::hmac;
use chrono::{DateTime, NaiveDate, Utc};
use secrecy::{ExposeSecret, SecretString};
use service::config::Env;

/// A SHA-256, or an HMAC of it.
pub type Hash = [u8; 32];

/// What the first seal has instead of a hash before it.
pub const GENESIS: Hash = [0; 32];

/// What a seal tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// That rows were there.
    Rows,
    /// That the days before its day were dropped when their retention was over.
    Drop,
}

impl Kind {
    /// As the database has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Drop => "drop",
        }
    }
}

/// A seal, but for its leaves and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its place in the chain: 1, 2, 3.
    pub number: i64,
    /// What it tells of.
    pub kind: Kind,
    /// The day of its rows; of a drop the first day that is kept.
    pub day: NaiveDate,
    /// The segment of its rows.
    pub segment: i64,
    /// How many rows.
    pub rows: i32,
    /// The SHA-256 of the leaves.
    pub leaves_hash: Hash,
    /// The hash of the seal before.
    pub previous: Hash,
    /// When it was made.
    pub sealed_at: DateTime<Utc>,
}

impl Seal {
    /// Its hash, with the key if there is one.
    #[must_use]
    pub fn hash(&self, key: Option<&SealKey>) -> Hash {
        let mut bytes = b"carillon.audit.seal.1".to_vec();
        bytes.extend(self.previous);
        bytes.extend(self.number.to_be_bytes());
        bytes.push(match self.kind {
            Kind::Rows => 1,
            Kind::Drop => 2,
        });
        bytes.extend(self.day.to_epoch_days().to_be_bytes());
        bytes.extend(self.segment.to_be_bytes());
        bytes.extend(self.rows.to_be_bytes());
        bytes.extend(self.leaves_hash);
        bytes.extend(self.sealed_at.timestamp_micros().to_be_bytes());
        match key {
            Some(key) => array(hmac::sign(&key.key, &bytes).as_ref()),
            None => sha256(&bytes),
        }
    }
}

/// The SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    let digest: Digest = digest(&SHA256, bytes);
    array(digest.as_ref())
}

fn array(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(bytes);
    hash
}

impl Seal {
    /// The hash of leaves.
    #[must_use]
    pub fn hash_of_leaves(leaves: &[u8]) -> Hash {
        sha256(leaves)
    }
}

/// Without it no seal can be made that passes for one made with it.
#[derive(Clone)]
pub struct SealKey {
    key: hmac::Key,
    id: String,
}

impl SealKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let named = [b"carillon.audit.key.1".as_slice(), bytes].concat();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
            id: hex(sha256(&named).get(..8).unwrap_or_default()),
        }
    }

    /// Tells keys apart, and nothing of what they are.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Reads `AUDIT_SEAL_KEY`, or the file that `AUDIT_SEAL_KEY_FILE` names. `Some(None)` without either.
    pub fn from_env(env: &mut Env) -> Option<Option<Self>> {
        let key: Option<SecretString> = env.optional_secret("AUDIT_SEAL_KEY")?;
        let Some(key) = key else {
            return Some(None);
        };
        let bytes = key.expose_secret().as_bytes();
        if !(32..=1024).contains(&bytes.len()) {
            env.reject(
                "AUDIT_SEAL_KEY",
                "must have 32 to 1024 bytes, such as those of: openssl rand -hex 32",
            );
            return None;
        }
        Some(Some(Self::new(bytes)))
    }
}

// Not derived: it is a secret.
impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

/// Bytes as people compare them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal {
            number: 2,
            kind: Kind::Rows,
            day: NaiveDate::from_ymd_opt(2026, 11, 21).unwrap(),
            segment: 3,
            rows: 4,
            leaves_hash: [5; 32],
            previous: [6; 32],
            sealed_at: DateTime::from_timestamp_micros(7).unwrap(),
        }
    }

    #[test]
    fn every_part_of_a_seal_is_in_its_hash_and_so_is_the_key() {
        let (one, other) = (SealKey::new(&[1; 32]), SealKey::new(&[2; 32]));
        let changes: [fn(&mut Seal); 8] = [
            |s| s.number += 1,
            |s| s.kind = Kind::Drop,
            |s| s.day = s.day.succ_opt().unwrap(),
            |s| s.segment += 1,
            |s| s.rows += 1,
            |s| s.leaves_hash[0] ^= 1,
            |s| s.previous[31] ^= 1,
            |s| s.sealed_at += chrono::TimeDelta::microseconds(1),
        ];
        let mut hashes = vec![
            seal().hash(None),
            seal().hash(Some(&one)),
            seal().hash(Some(&other)),
        ];
        for change in changes {
            let mut changed = seal();
            change(&mut changed);
            hashes.push(changed.hash(None));
        }
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        // Fixed for good: a build that hashes otherwise would find every seal forged.
        assert_eq!(
            hex(&seal().hash(None)),
            "83e58f680607402c16917367483eaab2f2fcb26dc50618395a0940627fcc274b"
        );
    }

    #[test]
    fn a_key_shows_its_id_and_nothing_else_and_a_short_one_is_refused() {
        let key = SealKey::new(b"0123456789abcdef0123456789abcdef");
        assert_eq!(format!("{key:?}"), format!("SealKey({})", key.id()));
        let read = |text: &str| {
            service::config::load_from(Env::from_pairs([("AUDIT_SEAL_KEY", text)]), SealKey::from_env)
        };
        let problems = read("a short secret").unwrap_err().to_string();
        assert!(
            problems.contains("AUDIT_SEAL_KEY") && !problems.contains("short secret"),
            "{problems}"
        );
        assert!(read("0123456789abcdef0123456789abcdef").unwrap().is_some());
    }
}
