//! Secrets that we hand out once and keep only as hashes. They are 256 random bits, so a plain SHA-256 is all that is
//! needed: there is nothing to guess.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Characters of one secret: 32 bytes in base64url.
pub const CHARS: usize = 43;

/// A new secret, as text.
pub fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is kept of a secret.
pub fn hash(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}
