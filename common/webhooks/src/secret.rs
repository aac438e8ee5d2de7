//! Secrets and what is signed with them: Standard Webhooks, symmetric signatures.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What a secret in text begins with.
const PREFIX: &str = "whsec_";
/// What a signature begins with: HMAC-SHA256.
const VERSION: &str = "v1";
/// How many bytes a secret has.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many one of ours has.
const OWN_BYTES: usize = 32;

/// What an endpoint's requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be whsec_ followed by 24 to 64 bytes in base64")]
pub struct SecretProblem;

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = vec![0; OWN_BYTES];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// One in text, as people hand it over.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretProblem)?;
        Self::from_bytes(BASE64_STANDARD.decode(encoded).map_err(|_| SecretProblem)?)
    }

    /// One as it is kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SecretProblem> {
        if BYTES.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(SecretProblem)
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As people hand it over.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }
}

// Not derived: it is a secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The header `webhook-signature`: one signature a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(String);

impl Signature {
    /// Signs a request with every secret.
    #[must_use]
    pub fn of(secrets: &[Secret], id: &str, timestamp: i64, body: &str) -> Self {
        let signatures: Vec<String> = secrets
            .iter()
            .map(|secret| {
                let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0));
                context.update(format!("{id}.{timestamp}.").as_bytes());
                context.update(body.as_bytes());
                format!("{VERSION},{}", BASE64_STANDARD.encode(context.sign()))
            })
            .collect();
        Self(signatures.join(" "))
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's own libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = Signature::of(
            std::slice::from_ref(&secret),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signature.as_str(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(secret.reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn secrets_in_rotation_sign_side_by_side() {
        let secrets = [Secret::generate().unwrap(), Secret::generate().unwrap()];
        assert_ne!(secrets[0], secrets[1]);
        let both = Signature::of(&secrets, "m", 1, "b");
        let each = secrets
            .each_ref()
            .map(|secret| Signature::of(std::slice::from_ref(secret), "m", 1, "b"));
        assert_eq!(
            both.as_str(),
            format!("{} {}", each[0].as_str(), each[1].as_str())
        );
    }

    #[test]
    fn what_is_no_secret_is_refused_and_none_is_shown_by_accident() {
        for text in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa",
            "whsec_not base64 at all, is it now",
        ] {
            assert_eq!(Secret::parse(text), Err(SecretProblem), "{text}");
        }
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
        assert_eq!(Secret::parse(&long), Err(SecretProblem));
        assert!(Secret::parse(&format!("whsec_{}", BASE64_STANDARD.encode([7; 64]))).is_ok());
        assert_eq!(format!("{:?}", Secret::generate().unwrap()), "Secret(…)");
    }
}
