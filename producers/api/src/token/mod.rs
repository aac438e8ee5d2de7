//! Access tokens: JWTs signed with Ed25519. Whoever has the public keys (`/.well-known/jwks.json`) can check them.

pub mod foreign;
mod keys;
mod verified;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use keys::KeyRing;
pub use keys::{KeyError, SigningKey};
use verified::Verified;

/// How tokens are made.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// `JWT_PRIVATE_KEY` (or `JWT_PRIVATE_KEY_FILE`): Ed25519, PEM of PKCS#8, as `openssl genpkey -algorithm ed25519`
    /// writes it. What signs is derived from it, or is this key itself where keys do not rotate.
    pub key: SigningKey,
    /// `JWT_ROTATION_DAYS`: how long a derived key signs; `None` (0) for a key that stays. It is longer than `ttl`, so that
    /// a token's key is published for as long as the token is good.
    pub rotation: Option<Duration>,
    /// `JWT_ISSUER`: the claim `iss`.
    pub issuer: String,
    /// `JWT_AUDIENCE`: the claim `aud`.
    pub audience: String,
    /// `JWT_TTL_SECONDS`: how long a token is good for.
    pub ttl: Duration,
}

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    config: TokenConfig,
    validation: Validation,
    /// The keys of now, or of when they were last asked for.
    ring: RwLock<Arc<KeyRing>>,
    verified: Verified,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bearer {
    /// The person.
    #[serde(rename = "sub")]
    pub user_id: Uuid,
    /// The person's time zone. It travels in the token so that making a task asks the database once, not twice.
    #[serde(rename = "zoneinfo")]
    pub timezone: String,
    /// The session that it belongs to, if there is one: when that ends, so does the token.
    #[serde(rename = "sid", default)]
    pub session: Option<Uuid>,
}

/// What is read of a token.
#[derive(Debug, Deserialize)]
struct Checked {
    #[serde(flatten)]
    bearer: Bearer,
    exp: u64,
}

#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    iat: u64,
    exp: u64,
    jti: Uuid,
    zoneinfo: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
}

impl Tokens {
    /// Ready to make and check tokens of that configuration.
    ///
    /// # Errors
    /// When the key cannot be used, which reading it has ruled out.
    pub fn new(config: TokenConfig) -> Result<Self, jsonwebtoken::errors::Error> {
        // One algorithm, ours, whatever a token claims to be signed with.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        // Tokens are made and checked by replicas of one service: there is no clock of others to be lenient with.
        validation.leeway = 0;
        let ring = KeyRing::of(
            &config.key,
            config.rotation,
            jsonwebtoken::get_current_timestamp(),
        )?;
        Ok(Self {
            config,
            validation,
            ring: RwLock::new(Arc::new(ring)),
            verified: Verified::default(),
        })
    }

    /// A new token of a person, good from now on, that belongs to no session.
    ///
    /// # Errors
    /// When the key cannot sign, which reading the key has ruled out.
    pub fn issue(&self, user_id: Uuid, timezone: &str) -> Result<String, jsonwebtoken::errors::Error> {
        self.issue_at(jsonwebtoken::get_current_timestamp(), user_id, timezone, None)
    }

    /// A new token of a session.
    ///
    /// # Errors
    /// When the key cannot sign, which reading the key has ruled out.
    pub fn issue_for_session(
        &self,
        user_id: Uuid,
        timezone: &str,
        session: Uuid,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.issue_at(
            jsonwebtoken::get_current_timestamp(),
            user_id,
            timezone,
            Some(session),
        )
    }

    fn issue_at(
        &self,
        now: u64,
        user_id: Uuid,
        timezone: &str,
        session: Option<Uuid>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            iss: &self.config.issuer,
            aud: &self.config.audience,
            sub: user_id,
            iat: now,
            exp: now + self.config.ttl.as_secs(),
            jti: Uuid::now_v7(),
            zoneinfo: timezone,
            sid: session,
        };
        let ring = self.ring(now)?;
        let key = ring
            .signing()
            .ok_or(jsonwebtoken::errors::ErrorKind::InvalidEddsaKey)?;
        jsonwebtoken::encode(&key.header, &claims, &key.encoding)
    }

    /// Whose token this is; `None` when it is not one of ours or has expired. Whether its session has ended meanwhile is
    /// not for this to know.
    pub fn verify(&self, token: &str) -> Option<Bearer> {
        self.verify_at(jsonwebtoken::get_current_timestamp(), token)
    }

    fn verify_at(&self, now: u64, token: &str) -> Option<Bearer> {
        // Its key is published for longer than the token is good, so that needs no second look.
        if let Some(bearer) = self.verified.get(now, token) {
            return Some(bearer);
        }
        let key_id = jsonwebtoken::decode_header(token).ok()?.kid?;
        let ring = self.ring(now).ok()?;
        let key = ring.find(&key_id)?;
        let checked = jsonwebtoken::decode::<Checked>(token, &key.decoding, &self.validation).ok()?;
        let Checked { bearer, exp } = checked.claims;
        self.verified.remember(token, &bearer, exp);
        Some(bearer)
    }

    /// How long a new token is good for.
    pub fn ttl(&self) -> Duration {
        self.config.ttl
    }

    /// The public keys, as `/.well-known/jwks.json` shows them (RFC 7517).
    ///
    /// # Errors
    /// When the keys cannot be derived, which reading the key has ruled out.
    pub fn jwks(&self) -> Result<JwkSet, jsonwebtoken::errors::Error> {
        Ok(self.ring(jsonwebtoken::get_current_timestamp())?.jwks())
    }

    fn ring(&self, now: u64) -> Result<Arc<KeyRing>, jsonwebtoken::errors::Error> {
        // A panic elsewhere leaves a whole ring behind.
        let current = Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner));
        if current.is_of(self.config.rotation, now) {
            return Ok(current);
        }
        let next = Arc::new(KeyRing::of(&self.config.key, self.config.rotation, now)?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(next)
    }
}

#[cfg(test)]
pub mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    /// The published key of RFC 8037 appendix A, wrapped in PKCS#8.
    pub const RFC_8037_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
        -----END PRIVATE KEY-----\n";

    fn config() -> TokenConfig {
        TokenConfig {
            key: SigningKey::from_pem(RFC_8037_KEY).unwrap(),
            rotation: None,
            issuer: "carillon".to_owned(),
            audience: "carillon".to_owned(),
            ttl: Duration::from_mins(15),
        }
    }

    /// A token of arbitrary header and claims, with an arbitrary signature.
    fn forged(header: &serde_json::Value, claims: &serde_json::Value, signature: &[u8]) -> String {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (header, claims) = (header.to_string(), claims.to_string());
        format!(
            "{}.{}.{}",
            part(header.as_bytes()),
            part(claims.as_bytes()),
            part(signature)
        )
    }

    fn good_claims() -> serde_json::Value {
        json!({"iss": "carillon", "aud": "carillon", "sub": Uuid::nil(), "exp": 4_000_000_000_u64, "zoneinfo": "UTC"})
    }

    #[test]
    fn a_token_says_whose_it_is() {
        let tokens = Tokens::new(config()).unwrap();
        let user_id = Uuid::now_v7();
        let token = tokens.issue(user_id, "Europe/Berlin").unwrap();
        let bearer = Bearer {
            user_id,
            timezone: "Europe/Berlin".to_owned(),
            session: None,
        };
        assert_eq!(tokens.verify(&token), Some(bearer.clone()));
        let session = Uuid::now_v7();
        let token = tokens
            .issue_for_session(user_id, "Europe/Berlin", session)
            .unwrap();
        let of_session = Bearer {
            session: Some(session),
            ..bearer
        };
        assert_eq!(tokens.verify(&token), Some(of_session));
    }

    #[test]
    fn the_public_key_is_the_one_of_the_rfc_with_its_thumbprint() {
        let jwks = serde_json::to_value(Tokens::new(config()).unwrap().jwks().unwrap()).unwrap();
        let key = json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "alg": "EdDSA",
            "use": "sig",
        });
        assert_eq!(jwks, json!({"keys": [key]}));
    }

    #[test]
    fn tokens_of_another_issuer_audience_or_time_are_refused() {
        let tokens = Tokens::new(config()).unwrap();
        let sign = |claims: &serde_json::Value| {
            jsonwebtoken::encode(&tokens.config.key.header, claims, &tokens.config.key.encoding).unwrap()
        };
        assert!(tokens.verify(&sign(&good_claims())).is_some());
        for (claim, value) in [
            ("iss", json!("other")),
            ("iss", json!(null)),
            ("aud", json!("other")),
            ("aud", json!(null)),
            ("exp", json!(jsonwebtoken::get_current_timestamp() - 1)),
            ("exp", json!(null)),
            ("exp", json!("4000000000")),
            ("sub", json!("not a uuid")),
            ("sub", json!(null)),
        ] {
            let mut claims = good_claims();
            claims[claim] = value;
            assert_eq!(tokens.verify(&sign(&claims)), None, "{claims}");
        }
    }

    #[test]
    fn a_forged_token_is_refused_whatever_algorithm_it_names() {
        let tokens = Tokens::new(config()).unwrap();
        let good = tokens.issue(Uuid::nil(), "UTC").unwrap();
        let (body, _) = good.rsplit_once('.').unwrap();
        assert_eq!(tokens.verify(&format!("{body}.")), None);
        let public_key = BASE64_URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        for algorithm in ["none", "None", "HS256", "EdDSA", "RS256", "ES256", "?"] {
            let token = forged(
                &json!({"alg": algorithm, "typ": "JWT", "kid": tokens.config.key.key_id}),
                &good_claims(),
                &public_key,
            );
            assert_eq!(tokens.verify(&token), None, "{algorithm}");
        }
        // HMAC with the public key as the secret: what verifiers that believe the header fall for.
        let claims = good_claims();
        let hmac = EncodingKey::from_secret(&public_key);
        let header = Header {
            kid: Some(tokens.config.key.key_id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let confused = jsonwebtoken::encode(&header, &claims, &hmac).unwrap();
        assert_eq!(tokens.verify(&confused), None);
        for token in ["", ".", "..", "a.b.c", "\u{e4}.b.c"] {
            assert_eq!(tokens.verify(token), None, "{token}");
        }
    }

    #[test]
    fn other_keys_are_refused_without_being_shown() {
        let ec = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        for text in ["", "secret", ec, public] {
            let error = SigningKey::from_pem(text).unwrap_err().to_string();
            assert!(error.starts_with("is no Ed25519 private key"), "{error}");
        }
        assert!(!format!("{:?}", config()).contains("MC4C"));
        assert!(!format!("{:?}", Tokens::new(config()).unwrap()).contains("MC4C"));
    }

    const DAY: u64 = 24 * 60 * 60;

    fn rotating() -> TokenConfig {
        TokenConfig {
            rotation: Some(Duration::from_secs(DAY)),
            ..config()
        }
    }

    fn key_ids(jwks: &JwkSet) -> Vec<String> {
        jwks.keys
            .iter()
            .map(|key| key.common.key_id.clone().unwrap())
            .collect()
    }

    #[test]
    fn keys_rotate_and_are_published_a_period_before_and_a_period_after_they_sign() {
        let tokens = Tokens::new(rotating()).unwrap();
        let now = jsonwebtoken::get_current_timestamp();
        let published = |at: u64| key_ids(&tokens.ring(at).unwrap().jwks());
        let signs = |at: u64| tokens.ring(at).unwrap().signing().unwrap().key_id.clone();
        let (yesterday, tomorrow) = (signs(now - DAY), signs(now + DAY));
        assert_eq!(published(now), [signs(now), yesterday, tomorrow]);
        let all: std::collections::HashSet<String> = (0..100).map(|day| signs(now + day * DAY)).collect();
        assert_eq!(all.len(), 100, "no key signs twice");
        assert!(
            !all.contains(&config().key.key_id),
            "the key that they come from signs nothing"
        );

        let token = tokens.issue_at(now, Uuid::nil(), "UTC", None).unwrap();
        for (at, good) in [
            (now - DAY, true),
            (now, true),
            (now + DAY, true),
            (now + 2 * DAY, false),
        ] {
            assert_eq!(tokens.verify_at(at, &token).is_some(), good);
        }
    }

    #[test]
    fn replicas_agree_on_the_keys_without_talking_to_each_other() {
        let (one, other) = (Tokens::new(rotating()).unwrap(), Tokens::new(rotating()).unwrap());
        assert!(other.verify(&one.issue(Uuid::nil(), "UTC").unwrap()).is_some());
        let stranger = SigningKey::from_pem(
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB\n-----END PRIVATE KEY-----\n",
        );
        let stranger = Tokens::new(TokenConfig {
            key: stranger.unwrap(),
            ..rotating()
        })
        .unwrap();
        assert_eq!(other.verify(&stranger.issue(Uuid::nil(), "UTC").unwrap()), None);
        // Written out: another version of this program must derive the same keys.
        let first = KeyRing::of(&config().key, Some(Duration::from_secs(DAY)), 0).unwrap();
        assert_eq!(
            first.signing().unwrap().key_id,
            "L0N4cF6M3RqJ9q3bx0o0OTJH3sEm2wJoKdsY-G8skqw"
        );
    }
}
