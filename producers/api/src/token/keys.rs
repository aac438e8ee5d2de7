//! Ed25519 keys, and how they follow each other. docs/adr/0008 says why they are derived and not stored.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

/// What stands before the 32 bytes of an Ed25519 private key in DER (PKCS#8, RFC 8410 section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Keeps what is derived here apart from whatever else is ever derived from the same key.
const PURPOSE: &[u8] = b"carillon access tokens";

/// An Ed25519 private key and its public half.
#[derive(Clone)]
pub struct SigningKey {
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    /// The header of the tokens that it signs.
    pub(super) header: Header,
    /// The public key, with `kid` (its RFC 7638 thumbprint), `alg` and `use`.
    public: Jwk,
    pub(super) key_id: String,
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
        Ok(Self::new(EncodingKey::from_ed_pem(pem.as_bytes())?)?)
    }

    fn new(encoding: EncodingKey) -> Result<Self, jsonwebtoken::errors::Error> {
        let mut public = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA)?;
        let key_id = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(key_id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            decoding: DecodingKey::from_jwk(&public)?,
            header: Header {
                kid: Some(key_id.clone()),
                ..Header::new(Algorithm::EdDSA)
            },
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

    /// The key that signs in a period. Whoever holds this key gets the same ones; from one of those follows neither this
    /// key nor the next.
    fn derive(&self, period: u64) -> Result<Self, jsonwebtoken::errors::Error> {
        use jsonwebtoken::errors::{Error, ErrorKind};
        let broken = |_| Error::from(ErrorKind::InvalidEddsaKey);
        let mut der = [0; PKCS8_HEAD.len() + 32];
        let (head, seed) = der.split_at_mut(PKCS8_HEAD.len());
        head.copy_from_slice(&PKCS8_HEAD);
        Salt::new(HKDF_SHA256, PURPOSE)
            .extract(self.encoding.as_bytes())
            .expand(&[&period.to_be_bytes()], HKDF_SHA256)
            .map_err(broken)?
            .fill(seed)
            .map_err(broken)?;
        Self::new(EncodingKey::from_ed_der(&der))
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

/// The keys of one period: those that are published, of which one signs.
#[derive(Debug)]
pub(super) struct KeyRing {
    period: Option<u64>,
    /// The one that signs comes first.
    keys: Vec<SigningKey>,
}

/// Which period a time (in seconds since 1970) lies in; `None` when keys do not rotate.
fn period(rotation: Option<Duration>, now: u64) -> Option<u64> {
    rotation.map(|rotation| now / rotation.as_secs().max(1))
}

impl KeyRing {
    /// The ring of that time. The key of the period before stays, for tokens that were signed just before the change; the
    /// one of the period after is there already, for verifiers that keep what they fetched, and for replicas whose clocks
    /// are ahead.
    pub fn of(
        root: &SigningKey,
        rotation: Option<Duration>,
        now: u64,
    ) -> Result<Self, jsonwebtoken::errors::Error> {
        let period = period(rotation, now);
        let keys = match period {
            None => vec![root.clone()],
            Some(now) => [now, now.saturating_sub(1), now + 1]
                .into_iter()
                .map(|period| root.derive(period))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { period, keys })
    }

    /// Whether it still is the ring of that time.
    pub fn is_of(&self, rotation: Option<Duration>, now: u64) -> bool {
        self.period == period(rotation, now)
    }

    /// The key that signs.
    pub fn signing(&self) -> Option<&SigningKey> {
        self.keys.first()
    }

    /// The key of that id.
    pub fn find(&self, key_id: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.key_id == key_id)
    }

    /// What is published (RFC 7517).
    pub fn jwks(&self) -> JwkSet {
        JwkSet {
            keys: self.keys.iter().map(|key| key.public.clone()).collect(),
        }
    }
}
