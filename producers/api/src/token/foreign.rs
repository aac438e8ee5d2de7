//! Tokens of other issuers: checked by the keys that the issuer publishes. Which key is asked for is the token's to say;
//! what the key is good for (its algorithm) is the key's.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// For how long fetched keys are used without asking again: a key that the issuer takes back is gone here after that.
const FRESH: Duration = Duration::from_mins(10);
/// For how long they are used while the issuer does not answer.
const USABLE: Duration = Duration::from_hours(24);
/// Whatever tokens come, an issuer is asked no more often.
const PAUSE: Duration = Duration::from_secs(10);
/// How long an issuer may take to answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The most that an issuer may send.
const MAX_BYTES: usize = 256 * 1024;
/// The most keys that are looked at.
const MAX_KEYS: usize = 100;
/// How far an issuer's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);
/// OpenID Connect Core section 2: the longest subject.
const MAX_SUBJECT_CHARS: usize = 255;

/// Whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The claim `iss`.
    pub issuer: String,
    /// What the claim `aud` must name.
    pub audience: String,
    /// Where its keys are (RFC 7517).
    pub jwks_url: Url,
}

impl FromStr for Issuer {
    type Err = String;

    /// `issuer audience url`, with blanks between them, of which none of the three has any.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [issuer, audience, url] = parts[..] else {
            return Err(
                "accepted are an issuer, an audience and the URL of its keys, with blanks between them"
                    .to_owned(),
            );
        };
        let jwks_url = Url::parse(url).map_err(|error| format!("{url} is no URL: {error}"))?;
        let local = matches!(jwks_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        // Whoever can change the keys on their way here can be anybody.
        if jwks_url.scheme() != "https" && !(jwks_url.scheme() == "http" && local) {
            return Err(format!(
                "{url} must begin with https (http only for this machine)"
            ));
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            jwks_url,
        })
    }
}

/// What another issuer says of a person. `(issuer, subject)` is who it is; the rest is for a new account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Who says it.
    pub issuer: String,
    /// The person, as the issuer knows them.
    pub subject: String,
    /// The address, if the issuer has verified it.
    pub verified_email: Option<String>,
    /// What to call the person.
    pub name: Option<String>,
    /// IANA zone.
    pub timezone: Option<String>,
}

/// The issuers whose tokens are accepted, with what is known of their keys.
#[derive(Debug)]
pub struct Issuers {
    known: Vec<KeySource>,
    client: Client,
}

impl Issuers {
    /// Nothing is fetched before it is needed.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(issuers: &[Issuer]) -> Result<Self, reqwest::Error> {
        // A redirect would lead to where the operator has not said that keys are.
        let client = Client::builder()
            .timeout(TIME_LIMIT)
            .redirect(redirect::Policy::none())
            .build()?;
        Ok(Self {
            known: issuers.iter().cloned().map(KeySource::new).collect(),
            client,
        })
    }

    /// Who this token says it is; `None` when it is not from one of the issuers, or not good.
    pub async fn verify(&self, token: &str) -> Option<Subject> {
        #[derive(Deserialize)]
        struct Origin {
            iss: String,
        }
        if self.known.is_empty() {
            return None;
        }
        let key_id = jsonwebtoken::decode_header(token).ok()?.kid?;
        // Read before anything is verified, only to know whose keys to try.
        let Origin { iss } = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
        let source = self.known.iter().find(|source| source.issuer.issuer == iss)?;
        let key = source.key(&self.client, &key_id).await?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &key.validation)
            .ok()?
            .claims;
        claims.into_subject(iss)
    }
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    email: Value,
    #[serde(default)]
    email_verified: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    zoneinfo: Value,
}

impl Claims {
    fn into_subject(self, issuer: String) -> Option<Subject> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let plain = !self.sub.is_empty()
            && self.sub.chars().count() <= MAX_SUBJECT_CHARS
            && !self.sub.chars().any(char::is_control);
        // Some issuers write the boolean as a string.
        let verified = self.email_verified == true || self.email_verified == "true";
        plain.then(|| Subject {
            issuer,
            verified_email: text(&self.email).filter(|_| verified),
            name: text(&self.name),
            timezone: text(&self.zoneinfo),
            subject: self.sub,
        })
    }
}

/// A key of an issuer and what a token must be to be verified by it.
#[derive(Debug)]
struct Key {
    decoding: DecodingKey,
    validation: Validation,
}

type Keys = Arc<HashMap<String, Arc<Key>>>;

/// One issuer and its keys.
#[derive(Debug)]
struct KeySource {
    issuer: Issuer,
    fetched: Mutex<Option<(Keys, Instant)>>,
    /// When the issuer was last asked. Held while it is, so that one asks and the others wait for the answer.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer is no JWK set: {0}")]
    Json(#[from] serde_json::Error),
}

impl KeySource {
    fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            fetched: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
        }
    }

    /// What was fetched last, and whether that was lately.
    fn at_hand(&self) -> Option<(Keys, bool)> {
        // A panic elsewhere leaves whole keys behind.
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, at) = fetched.as_ref()?;
        let age = at.elapsed();
        (age < USABLE).then(|| (Arc::clone(keys), age < FRESH))
    }

    async fn key(&self, client: &Client, key_id: &str) -> Option<Arc<Key>> {
        let known = match self.at_hand() {
            Some((keys, fresh)) => match keys.get(key_id).cloned() {
                Some(key) if fresh => return Some(key),
                known => known,
            },
            None => None,
        };
        let mut asked = match &known {
            // Somebody asks already: what is at hand is good enough meanwhile.
            Some(_) => match self.asked.try_lock() {
                Ok(asked) => asked,
                Err(_) => return known,
            },
            None => self.asked.lock().await,
        };
        // Whoever held the lock before us may have fetched it.
        let missing = !matches!(self.at_hand(), Some((keys, true)) if keys.contains_key(key_id));
        if missing && asked.is_none_or(|at| at.elapsed() >= PAUSE) {
            *asked = Some(Instant::now());
            match self.fetch(client).await {
                Ok(keys) => {
                    *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some((Arc::new(keys), Instant::now()));
                }
                Err(error) => {
                    tracing::warn!(issuer = self.issuer.issuer, %error, "the keys of an issuer cannot be fetched");
                }
            }
        }
        drop(asked);
        self.at_hand()?.0.get(key_id).cloned()
    }

    async fn fetch(&self, client: &Client) -> Result<HashMap<String, Arc<Key>>, FetchError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let mut response = client
            .get(self.issuer.jwks_url.clone())
            .send()
            .await?
            .error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let set: Set = serde_json::from_slice(&body)?;
        // Keys that we cannot use are left out one by one: an issuer may have others for others.
        Ok(set
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(|key| self.usable(&key))
            .collect())
    }

    fn usable(&self, jwk: &Jwk) -> Option<(String, Arc<Key>)> {
        let key_id = jwk.common.key_id.clone()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let mut validation = Validation::new(algorithm(jwk)?);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&self.issuer.issuer]);
        validation.set_audience(&[&self.issuer.audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        Some((key_id, Arc::new(Key { decoding, validation })))
    }
}

/// The one algorithm that a key is good for. Keys that verifiers would have to keep secret are good for none.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let said = match jwk.common.key_algorithm {
        Some(said) => Some(Algorithm::from_str(&said.to_string()).ok()?),
        None => None,
    };
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        _ => &[],
    };
    match said {
        Some(said) => fitting.contains(&said).then_some(said),
        None => fitting.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_named_with_its_audience_and_where_its_keys_are() {
        let issuer: Issuer = " https://id.example  carillon https://id.example/jwks.json "
            .parse()
            .unwrap();
        assert_eq!(issuer.issuer, "https://id.example");
        assert_eq!(issuer.audience, "carillon");
        assert_eq!(issuer.jwks_url.as_str(), "https://id.example/jwks.json");
        assert!("i a http://127.0.0.1:9/jwks".parse::<Issuer>().is_ok());
        for text in [
            "",
            "https://id.example",
            "i a nowhere",
            "i a http://id.example/jwks",
            "i a ftp://localhost/jwks",
            "i a https://x/ more",
        ] {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_good_for_one_algorithm_that_fits_it() {
        let algorithm = |jwk: Value| algorithm(&serde_json::from_value(jwk).unwrap());
        let (rsa, p256) = (
            serde_json::json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            serde_json::json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}),
        );
        let with = |jwk: &Value, alg: &str| {
            let mut jwk = jwk.clone();
            jwk["alg"] = alg.into();
            jwk
        };
        assert_eq!(algorithm(rsa.clone()), Some(Algorithm::RS256));
        assert_eq!(algorithm(with(&rsa, "PS512")), Some(Algorithm::PS512));
        assert_eq!(algorithm(p256.clone()), Some(Algorithm::ES256));
        for jwk in [
            with(&rsa, "HS256"),
            with(&rsa, "ES256"),
            with(&rsa, "RSA-OAEP"),
            with(&p256, "ES384"),
            serde_json::json!({"kty": "oct", "k": "AQAB"}),
            serde_json::json!({"kty": "oct", "k": "AQAB", "alg": "HS256"}),
            serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB", "alg": "HS256"}),
        ] {
            assert_eq!(algorithm(jwk.clone()), None, "{jwk}");
        }
    }
}
