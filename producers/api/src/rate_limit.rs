//! How much one person, and one address, may ask for. Each has a bucket of a minute's worth of requests, which fills as
//! time passes (GCRA: the bucket is one number, the time at which it will be full again). A replica counts for itself.
//!
//! Every request to `/api`, and every use of a link in a mail, counts by the address that it comes from, before anything of it is believed, so guessing tokens
//! or passwords does too; one with a good token counts by its person as well.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::client_address::{client_address, network};
use crate::config::HttpConfig;
use crate::problem::{Kind, Problem};

/// draft-ietf-httpapi-ratelimit-headers: what is left, and until when.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The same draft: what there is at most.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const WINDOW: Duration = Duration::from_mins(1);

/// How many buckets a generation holds. Two generations are kept: about 10 MB at most for each limit.
const GENERATION: usize = 100_000;

/// The limits of this process.
#[derive(Debug)]
pub struct Limits {
    user: Option<Limit>,
    address: Option<Limit>,
    trusted_proxies: usize,
}

/// Where a request's token, once it is checked, leaves how its person stands.
#[derive(Debug, Clone, Default)]
struct OfUser(Arc<OnceLock<Standing>>);

impl Limits {
    /// The limits that are configured.
    pub fn new(config: &HttpConfig) -> Self {
        Self {
            user: Limit::new("user", config.user_per_minute),
            address: Limit::new("address", config.address_per_minute),
            trusted_proxies: config.trusted_proxies,
        }
    }

    /// Counts a request for the person whose token it carries.
    ///
    /// # Errors
    /// [`Kind::RateLimited`] when it is one too many.
    pub fn count_user(&self, extensions: &Extensions, user_id: Uuid) -> Result<(), Problem> {
        let Some(limit) = &self.user else {
            return Ok(());
        };
        let standing = limit.count(user_id.as_u128());
        if let Some(OfUser(slot)) = extensions.get() {
            slot.get_or_init(|| standing);
        }
        standing.admitted()
    }

    fn count_address(&self, address: IpAddr) -> Option<Standing> {
        self.address.as_ref().map(|limit| limit.count(network(address)))
    }
}

/// Counts requests to the API, refuses those that are too many, and tells how things stand in every answer.
pub async fn enforce(State(limits): State<Arc<Limits>>, mut request: Request, next: Next) -> Response {
    // Links in mails are guessed at like tokens.
    let counted = ["/api/", "/l/", "/unsubscribe/"];
    if !counted
        .iter()
        .any(|folder| request.uri().path().starts_with(folder))
    {
        return next.run(request).await;
    }
    let address = client_address(request.extensions(), request.headers(), limits.trusted_proxies);
    let of_address = limits.count_address(address);
    let of_user = OfUser::default();
    request.extensions_mut().insert(of_user.clone());
    let mut response = match of_address.map_or(Ok(()), |standing| standing.admitted()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let standings: Vec<Standing> = of_user.0.get().copied().into_iter().chain(of_address).collect();
    let list = |show: fn(&Standing) -> String| {
        let items: Vec<_> = standings.iter().map(show).collect();
        HeaderValue::try_from(items.join(", "))
            .ok()
            .filter(|_| !items.is_empty())
    };
    for (name, value) in [
        (RATE_LIMIT, list(Standing::limit)),
        (RATE_LIMIT_POLICY, list(Standing::policy)),
    ] {
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    response
}

/// One limit, and the buckets of those that it is for.
#[derive(Debug)]
struct Limit {
    name: &'static str,
    quota: u32,
    began: Instant,
    buckets: Mutex<Buckets>,
}

impl Limit {
    /// `None` for 0, which is no limit.
    fn new(name: &'static str, per_minute: u32) -> Option<Self> {
        (per_minute > 0).then(|| Self {
            name,
            quota: per_minute,
            began: Instant::now(),
            buckets: Mutex::default(),
        })
    }

    fn count(&self, whose: u128) -> Standing {
        self.count_at(whose, self.began.elapsed())
    }

    fn count_at(&self, whose: u128, now: Duration) -> Standing {
        let each = WINDOW / self.quota;
        // A panic under this lock leaves whole numbers behind.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.get(whose).max(now);
        let full_then = full_at + each;
        let over = (full_then - now)
            .checked_sub(each * self.quota)
            .filter(|over| !over.is_zero());
        let full_at = if over.is_some() { full_at } else { full_then };
        buckets.set(whose, full_at);
        let left = (each * self.quota).saturating_sub(full_at - now);
        Standing {
            name: self.name,
            quota: self.quota,
            remaining: u32::try_from(left.as_nanos() / each.as_nanos().max(1)).unwrap_or(self.quota),
            full_in: full_at - now,
            over,
        }
    }
}

/// When each bucket is full again. One that is full needs no entry, so of a bounded number those go first that nobody has
/// asked for since the last two turns of a generation: an attacker from many addresses takes no more memory than this,
/// and one that goes on asking is not forgotten.
#[derive(Debug, Default)]
struct Buckets {
    young: HashMap<u128, Duration>,
    old: HashMap<u128, Duration>,
}

impl Buckets {
    fn get(&self, whose: u128) -> Duration {
        let found = self.young.get(&whose).or_else(|| self.old.get(&whose));
        found.copied().unwrap_or_default()
    }

    fn set(&mut self, whose: u128, full_at: Duration) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&whose) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(whose, full_at);
    }
}

/// How a person or an address stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    name: &'static str,
    quota: u32,
    remaining: u32,
    full_in: Duration,
    /// By how much too early the request came, if it did.
    over: Option<Duration>,
}

impl Standing {
    fn admitted(&self) -> Result<(), Problem> {
        let Some(over) = self.over else {
            return Ok(());
        };
        let detail = format!(
            "There were more than {} requests a minute of this {}: wait, then go on more slowly.",
            self.quota, self.name
        );
        Err(Problem::new(Kind::RateLimited, detail).with_retry_after(over))
    }

    fn limit(&self) -> String {
        format!(
            "\"{}\";r={};t={}",
            self.name,
            self.remaining,
            whole_seconds(self.full_in)
        )
    }

    fn policy(&self) -> String {
        format!("\"{}\";q={};w={}", self.name, self.quota, WINDOW.as_secs())
    }
}

/// Rounded up, so that whoever waits that long has waited long enough.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_at_a_time() {
        let limit = Limit::new("user", 60).unwrap();
        for n in 1..=60 {
            let standing = limit.count_at(1, at(5.0));
            assert_eq!((standing.over, standing.remaining), (None, 60 - n));
            assert_eq!(standing.full_in, at(f64::from(n)));
        }
        let refused = limit.count_at(1, at(5.25));
        assert_eq!((refused.over, refused.remaining), (Some(at(0.75)), 0));
        assert_eq!(
            limit.count_at(1, at(5.999)).over,
            Some(at(0.001)),
            "a refusal costs nothing"
        );
        assert_eq!(limit.count_at(1, at(6.0)).over, None);
        assert!(limit.count_at(1, at(6.0)).over.is_some());
        assert_eq!(
            limit.count_at(2, at(6.0)).remaining,
            59,
            "another one has a bucket of their own"
        );
        assert_eq!(
            limit.count_at(1, at(1000.0)).remaining,
            59,
            "it fills, and no further"
        );
    }

    #[test]
    fn any_quota_works() {
        for quota in [1, 7, 1_000_000] {
            let limit = Limit::new("user", quota).unwrap();
            for _ in 0..quota.min(1000) {
                assert_eq!(limit.count_at(1, Duration::ZERO).over, None, "{quota}");
            }
            let next = limit.count_at(1, Duration::ZERO);
            assert_eq!(next.over.is_some(), quota <= 1000, "{quota}");
        }
        assert!(Limit::new("user", 0).is_none());
    }

    #[test]
    fn many_addresses_take_bounded_memory_and_one_that_goes_on_is_remembered() {
        let limit = Limit::new("address", 1).unwrap();
        let attacker = u128::MAX;
        assert_eq!(limit.count_at(attacker, Duration::ZERO).over, None);
        for address in 0..5 * GENERATION {
            limit.count_at(address as u128, Duration::ZERO);
            if address % (GENERATION / 2) == 0 {
                assert!(
                    limit.count_at(attacker, Duration::ZERO).over.is_some(),
                    "{address}"
                );
            }
        }
        let buckets = limit.buckets.lock().unwrap();
        assert!(buckets.young.len() + buckets.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn standings_are_written_as_the_draft_says() {
        let limit = Limit::new("user", 60).unwrap();
        let standing = limit.count_at(1, Duration::ZERO);
        assert_eq!(standing.limit(), "\"user\";r=59;t=1");
        assert_eq!(standing.policy(), "\"user\";q=60;w=60");
    }
}
