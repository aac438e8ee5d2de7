//! Access tokens: JWTs signed with Ed25519. Whoever has the public key (`/.well-known/jwks.json`) can check them.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How tokens are made.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// `JWT_PRIVATE_KEY` (or `JWT_PRIVATE_KEY_FILE`): Ed25519, PEM of PKCS#8, as `openssl genpkey -algorithm ed25519`
    /// writes it.
    pub key: SigningKey,
    /// `JWT_ISSUER`: the claim `iss`.
    pub issuer: String,
    /// `JWT_AUDIENCE`: the claim `aud`.
    pub audience: String,
    /// `JWT_TTL_SECONDS`: how long a token is good for. It cannot be called back earlier, so keep it short.
    pub ttl: Duration,
}

/// An Ed25519 private key and its public half.
#[derive(Clone)]
pub struct SigningKey {
    encoding: EncodingKey,
    /// The public key, with `kid` (its RFC 7638 thumbprint), `alg` and `use`.
    public: Jwk,
    key_id: String,
}

/// A text that is no private key of the kind we use.
#[derive(Debug, thiserror::Error)]
#[error("is no Ed25519 private key in PEM (PKCS#8): make one with openssl genpkey -algorithm ed25519")]
pub struct KeyError(#[from] jsonwebtoken::errors::Error);

impl SigningKey {
    /// Reads a key.
    ///
    /// # Errors
    /// When it is of another kind or form. The error does not tell what was given.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let encoding = EncodingKey::from_ed_pem(pem.as_bytes())?;
        let mut public = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA)?;
        let key_id = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(key_id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            encoding,
            public,
            key_id,
        })
    }

    /// A secret for another purpose, the same wherever this key is: a signature of the purpose. Ed25519 makes the same one
    /// each time (RFC 8032), nobody makes it without the key, and no token's signature is of such a text.
    ///
    /// # Errors
    /// When the key cannot sign, which reading it has ruled out.
    pub fn secret(&self, purpose: &str) -> Result<Vec<u8>, jsonwebtoken::errors::Error> {
        let purpose = format!("carillon: {purpose}");
        jsonwebtoken::crypto::sign(purpose.as_bytes(), &self.encoding, Algorithm::EdDSA)
            .map(String::into_bytes)
    }
}

// Not derived: the key is a secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    config: TokenConfig,
    header: Header,
    decoding: DecodingKey,
    validation: Validation,
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
}

impl Tokens {
    /// Ready to make and check tokens of that configuration.
    ///
    /// # Errors
    /// When the public half of the key cannot be used, which reading the key has ruled out.
    pub fn new(config: TokenConfig) -> Result<Self, jsonwebtoken::errors::Error> {
        let header = Header {
            kid: Some(config.key.key_id.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let decoding = DecodingKey::from_jwk(&config.key.public)?;
        // One algorithm, ours, whatever a token claims to be signed with.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        // Tokens are made and checked by replicas of one service: there is no clock of others to be lenient with.
        validation.leeway = 0;
        Ok(Self {
            config,
            header,
            decoding,
            validation,
        })
    }

    /// A new token of a person, good from now on.
    ///
    /// # Errors
    /// When the key cannot sign, which reading the key has ruled out.
    pub fn issue(&self, user_id: Uuid, timezone: &str) -> Result<String, jsonwebtoken::errors::Error> {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = Claims {
            iss: &self.config.issuer,
            aud: &self.config.audience,
            sub: user_id,
            iat: now,
            exp: now + self.config.ttl.as_secs(),
            jti: Uuid::now_v7(),
            zoneinfo: timezone,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.config.key.encoding)
    }

    /// Whose token this is; `None` when it is not one of ours or has expired.
    pub fn verify(&self, token: &str) -> Option<Bearer> {
        jsonwebtoken::decode::<Bearer>(token, &self.decoding, &self.validation)
            .ok()
            .map(|token| token.claims)
    }

    /// How long a new token is good for.
    pub fn ttl(&self) -> Duration {
        self.config.ttl
    }

    /// The public key, as `/.well-known/jwks.json` shows it (RFC 7517).
    pub fn jwks(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.config.key.public.clone()],
        }
    }
}

#[cfg(test)]
pub mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    /// The published key of RFC 8037 appendix A, wrapped in PKCS#8.
    pub const RFC_8037_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
        -----END PRIVATE KEY-----\n";

    fn config() -> TokenConfig {
        TokenConfig {
            key: SigningKey::from_pem(RFC_8037_KEY).unwrap(),
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
        };
        assert_eq!(tokens.verify(&token), Some(bearer));
    }

    #[test]
    fn the_public_key_is_the_one_of_the_rfc_with_its_thumbprint() {
        let jwks = serde_json::to_value(Tokens::new(config()).unwrap().jwks()).unwrap();
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
            jsonwebtoken::encode(&tokens.header, claims, &tokens.config.key.encoding).unwrap()
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
                &json!({"alg": algorithm, "typ": "JWT"}),
                &good_claims(),
                &public_key,
            );
            assert_eq!(tokens.verify(&token), None, "{algorithm}");
        }
        // HMAC with the public key as the secret: what verifiers that believe the header fall for.
        let claims = good_claims();
        let hmac = EncodingKey::from_secret(&public_key);
        let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &hmac).unwrap();
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
}
