//! Password hashes: Argon2id with the parameters that OWASP recommends, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::SaltString;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::problem::{Kind, Problem};

/// OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// How long a request waits for its turn. A hash takes some 20 ms, so who waits longer is behind hundreds of others.
const PATIENCE: Duration = Duration::from_secs(5);

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Each hash holds [`MEMORY_KIB`] and a core: without a bound a burst of logins would take all of both.
    turns: Arc<Semaphore>,
}

/// A password that could not be hashed, or a stored hash that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed or checked: {0}")]
struct HashError(argon2::password_hash::Error);

impl Passwords {
    /// At most `concurrency` hashes are computed at a time.
    pub fn new(concurrency: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(concurrency)),
        }
    }

    /// The hash of a new password, with its salt and parameters (PHC string).
    ///
    /// # Errors
    /// When too many others wait.
    pub async fn hash(&self, password: SecretString) -> Result<String, Problem> {
        self.in_turn(move || {
            let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>())?;
            Ok(argon2()?
                .hash_password(password.expose_secret().as_bytes(), &salt)?
                .to_string())
        })
        .await
    }

    /// Whether the password is the one that was hashed. Without a hash, for an address that has no account, the answer
    /// is no, after the same work: the time it takes must not tell who has an account.
    ///
    /// # Errors
    /// When too many others wait, or the hash cannot be read.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, Problem> {
        self.in_turn(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(decoy);
            let matches = argon2()?
                .verify_password(password.expose_secret().as_bytes(), &PasswordHash::new(&hash)?)
                .is_ok();
            Ok(matches && known)
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, argon2::password_hash::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || {
            Problem::new(
                Kind::Unavailable,
                "Too many people log in right now; please try again shortly.",
            )
        };
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, not with the request: a client that hangs up does not free the core.
            let _turn = turn;
            work()
        });
        done.await
            .map_err(Problem::internal)?
            .map_err(|error| Problem::internal(HashError(error)))
    }
}

fn argon2() -> Result<Argon2<'static>, argon2::password_hash::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// A hash that takes the usual work to check and that no password has.
fn decoy() -> String {
    let (salt, hash) = ("A".repeat(22), "A".repeat(43));
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let passwords = Passwords::new(1);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(
            hash,
            passwords.hash("correct horse".into()).await.unwrap(),
            "every hash has a salt of its own"
        );
        assert!(
            passwords
                .verify("correct horse".into(), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("correct Horse".into(), Some(hash))
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn without_an_account_the_same_work_is_done_and_the_answer_is_no() {
        let decoy = decoy();
        let decoy = PasswordHash::new(&decoy).unwrap();
        let real = Passwords::new(1).hash("correct horse".into()).await.unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(decoy.params, real.params);
        assert_eq!(decoy.hash.unwrap().len(), real.hash.unwrap().len());
        assert!(
            !Passwords::new(1)
                .verify("correct horse".into(), None)
                .await
                .unwrap()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_for_a_turn_is_sent_away() {
        let passwords = Passwords::new(1);
        let _turn = passwords.turns.acquire().await.unwrap();
        let problem = passwords.verify("x".into(), None).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::Unavailable);
    }
}
