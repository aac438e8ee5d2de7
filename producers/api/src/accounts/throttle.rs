//! Against guessing passwords. Three buckets, each of which a wrong password takes a token from, and a right one gives it
//! back:
//!
//! - the address's: whoever tries many accounts from one place;
//! - the account's from this address: whoever tries one account from one place;
//! - the account's from all addresses on which nobody has logged in to it: whoever tries one account from many places.
//!
//! The last one is what could lock a person out, so it does not count where the person has logged in before; and a link
//! from "forgot password" opens every door, because the new password is set from the address that it is used from. The
//! first two an attacker can only empty at the attacker's own address.
//!
//! Each replica has buckets of its own: with n replicas a guesser has n times the guesses, which are few enough.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::problem::{Kind, Problem};

/// How much a bucket holds, and how long one token takes to come back.
#[derive(Debug, Clone, Copy)]
struct Limit {
    burst: u32,
    every: Duration,
}

const ADDRESS: Limit = Limit {
    burst: 50,
    every: Duration::from_secs(5),
};
const ACCOUNT_FROM_ADDRESS: Limit = Limit {
    burst: 10,
    every: Duration::from_secs(60),
};
const ACCOUNT: Limit = Limit {
    burst: 100,
    every: Duration::from_secs(60),
};
/// Mails that one address may ask for, for accounts that it need not have.
const MAILS: Limit = Limit {
    burst: 20,
    every: Duration::from_secs(30),
};
/// How long an address is remembered as one of a person's own.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);
/// The most that is remembered, some 10 MiB.
const MAX_ENTRIES: usize = 200_000;

/// What a bucket is of.
#[derive(Debug, Clone, Copy, Hash)]
enum Bucket<'a> {
    Address(IpAddr),
    AccountFromAddress(&'a str, IpAddr),
    Account(&'a str),
    Mails(IpAddr),
    /// No bucket: that the account is at home at the address.
    Home(&'a str, IpAddr),
}

/// The buckets.
#[derive(Debug, Default)]
pub struct Throttle {
    /// When each bucket is full again (GCRA: the theoretical arrival time), by a hash that nobody outside can predict; a full
    /// bucket needs no entry.
    full_at: Mutex<HashMap<u64, Instant>>,
    hasher: RandomState,
}

impl Throttle {
    /// Counts an attempt at an account's password. `account` is its address in any capitalisation, whether there is one or
    /// not: the answer must not tell.
    ///
    /// # Errors
    /// [`Kind::TooManyAttempts`].
    pub fn attempt(&self, account: &str, address: IpAddr) -> Result<(), Problem> {
        let (account, address) = (account.to_lowercase(), network(address));
        let mut asked = vec![
            (Bucket::Address(address), ADDRESS),
            (
                Bucket::AccountFromAddress(&account, address),
                ACCOUNT_FROM_ADDRESS,
            ),
        ];
        let now = Instant::now();
        let home = self.hasher.hash_one(Bucket::Home(&account, address));
        if self.entries().get(&home).is_none_or(|until| *until <= now) {
            asked.push((Bucket::Account(&account), ACCOUNT));
        }
        self.take(&asked, now)
    }

    /// The attempt was the person's own: gives back what it took, and remembers the address.
    pub fn welcome(&self, account: &str, address: IpAddr) {
        let (account, address) = (account.to_lowercase(), network(address));
        let now = Instant::now();
        let home = self.hasher.hash_one(Bucket::Home(&account, address));
        let own = self
            .hasher
            .hash_one(Bucket::AccountFromAddress(&account, address));
        let mut given_back = vec![(Bucket::Address(address), ADDRESS)];
        let mut entries = self.entries();
        entries.remove(&own);
        if entries
            .insert(home, now + REMEMBERED)
            .is_none_or(|until| until <= now)
        {
            given_back.push((Bucket::Account(&account), ACCOUNT));
        }
        for (bucket, limit) in given_back {
            let key = self.hasher.hash_one(bucket);
            if let Some(full_at) = entries.get_mut(&key) {
                *full_at = full_at.checked_sub(limit.every).unwrap_or(now);
            }
        }
    }

    /// Counts a mail that somebody asks for.
    ///
    /// # Errors
    /// [`Kind::TooManyAttempts`].
    pub fn mail(&self, address: IpAddr) -> Result<(), Problem> {
        self.take(&[(Bucket::Mails(network(address)), MAILS)], Instant::now())
    }

    /// Takes one token from each bucket, or from none if one of them is empty.
    fn take(&self, asked: &[(Bucket<'_>, Limit)], now: Instant) -> Result<(), Problem> {
        let mut entries = self.entries();
        make_room(&mut entries, now);
        let taken: Vec<(u64, Instant, Duration)> = asked
            .iter()
            .map(|(bucket, limit)| {
                let key = self.hasher.hash_one(bucket);
                let full_at = entries.get(&key).copied().unwrap_or(now).max(now) + limit.every;
                let wait = (full_at - now).saturating_sub(limit.every * limit.burst);
                (key, full_at, wait)
            })
            .collect();
        let wait = taken.iter().map(|(.., wait)| *wait).max().unwrap_or_default();
        if wait.is_zero() {
            entries.extend(taken.into_iter().map(|(key, full_at, _)| (key, full_at)));
            return Ok(());
        }
        let detail = "Too many attempts from here or at this account. If you have forgotten the password, ask for a mail.";
        Err(Problem::new(Kind::TooManyAttempts, detail).with_retry_after(wait))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        // A panic elsewhere leaves whole entries behind.
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Full buckets need no entry. Where that makes no room, half of the entries go, whichever: it takes an attacker with very
/// many addresses to come here, whom forgetting gives a few more guesses.
fn make_room(entries: &mut HashMap<u64, Instant>, now: Instant) {
    if entries.len() < MAX_ENTRIES {
        return;
    }
    entries.retain(|_, full_at| *full_at > now);
    if entries.len() >= MAX_ENTRIES / 2 {
        let mut keep = false;
        entries.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
}

/// Whoever has one address of an IPv6 network has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "ada@example.org";

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// How many attempts in a row pass.
    fn passes(throttle: &Throttle, account: &str, address: IpAddr) -> u32 {
        (0..1000)
            .take_while(|_| throttle.attempt(account, address).is_ok())
            .count()
            .try_into()
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_at_one_account_from_one_address_ends_soon_and_tokens_come_back() {
        let throttle = Throttle::default();
        assert_eq!(passes(&throttle, ADA, address(1)), ACCOUNT_FROM_ADDRESS.burst);
        assert_eq!(passes(&throttle, "ADA@example.ORG", address(1)), 0);
        assert!(throttle.attempt(ADA, address(2)).is_ok());
        assert!(throttle.attempt("bob@example.org", address(1)).is_ok());
        tokio::time::advance(ACCOUNT_FROM_ADDRESS.every).await;
        assert_eq!(passes(&throttle, ADA, address(1)), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_at_many_accounts_from_one_address_or_network_ends_too() {
        let throttle = Throttle::default();
        let passed = (0..200)
            .filter(|n| throttle.attempt(&format!("{n}@example.org"), address(1)).is_ok())
            .count();
        assert_eq!(passed, 50);
        let throttle = Throttle::default();
        let passed = (0..200_u16)
            .filter(|n| {
                let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, *n]);
                throttle.attempt(&format!("{n}@example.org"), address).is_ok()
            })
            .count();
        assert_eq!(passed, 50);
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_from_many_addresses_ends_and_does_not_lock_the_person_out() {
        let throttle = Throttle::default();
        throttle.attempt(ADA, address(200)).unwrap();
        throttle.welcome(ADA, address(200));
        let passed: u32 = (0..100).map(|last| passes(&throttle, ADA, address(last))).sum();
        assert_eq!(passed, ACCOUNT.burst);
        assert!(throttle.attempt(ADA, address(201)).is_err());
        assert!(throttle.attempt(ADA, address(200)).is_ok());
        // As after a password that was set by mail.
        throttle.welcome(ADA, address(201));
        assert!(throttle.attempt(ADA, address(201)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_knows_the_password_never_runs_out() {
        let throttle = Throttle::default();
        for _ in 0..1000 {
            throttle.attempt(ADA, address(1)).unwrap();
            throttle.welcome(ADA, address(1));
        }
        for n in 0..1000 {
            let account = format!("{n}@example.org");
            throttle.attempt(&account, address(1)).unwrap();
            throttle.welcome(&account, address(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..u32::try_from(2 * MAX_ENTRIES).unwrap() {
            throttle.mail(IpAddr::from(n.to_be_bytes())).unwrap();
        }
        assert!(throttle.entries().len() <= MAX_ENTRIES);
        // What has filled up again goes first, and takes nobody else's place.
        let throttle = Throttle::default();
        throttle.welcome(ADA, address(1));
        for n in 0..u32::try_from(MAX_ENTRIES + 1).unwrap() {
            throttle.mail(IpAddr::from(n.to_be_bytes())).unwrap();
            if n == 1000 {
                tokio::time::advance(MAILS.every).await;
            }
        }
        assert!(throttle.entries().len() <= MAX_ENTRIES);
    }
}
