//! The trace that a request belongs to (W3C Trace Context): taken over from the client or begun here, written into the log
//! and into the headers of the events that the request causes, so that a mail can be followed back to a click.

use std::fmt;

use axum::http::HeaderMap;

/// The header of a request, and of an event.
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Trace;
}

/// A place in a trace: this request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

impl Trace {
    /// The place of a request with these headers. What cannot be read begins a new trace, as the standard asks.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let parent = values.next().filter(|_| values.next().is_none());
        let (id, flags) = parent
            .and_then(|value| parse(value.to_str().ok()?))
            .unwrap_or_else(|| (rand::random_range(1..=u128::MAX), 0));
        Self {
            id,
            span: rand::random_range(1..=u64::MAX),
            flags,
        }
    }

    /// The identity of the whole trace, as logs show it.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// Does work as part of this trace.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// The trace that this is part of.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|trace| *trace).ok()
    }
}

/// As an event or a request to somebody else names its parent.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }
}

/// Work that stays part of the current trace where it is spawned.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let trace = Trace::current();
    async move {
        match trace {
            Some(trace) => trace.scope(work).await,
            None => work.await,
        }
    }
}

/// Trace and flags of a `traceparent` (section 3.2). Of later versions than ours, what they have in common with it.
fn parse(text: &str) -> Option<(u128, u8)> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        parts
            .next()
            .filter(|part| part.len() == digits && part.as_bytes().iter().all(lower))
            .and_then(|part| u128::from_str_radix(part, 16).ok())
    };
    let (version, id, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let rest = parts.next().is_some();
    let valid = version != 0xff && !(version == 0 && rest) && id != 0 && parent != 0;
    // Of the flags only "sampled" is defined.
    valid.then(|| (id, u8::try_from(flags & 1).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

    #[test]
    fn a_valid_parent_is_taken_over_and_anything_else_is_not() {
        for (text, expected) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01",
                Some((ID, 1)),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-00",
                Some((ID, 0)),
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-03-more",
                Some((ID, 1)),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01-more",
                None,
            ),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01", None),
            ("00-00000000000000000000000000000000-b7496b7169203331-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-b7496b7169203331-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-b7496b7169203331-01", None),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01", None),
            ("00", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_spawned_belongs_to_the_trace_of_the_request() {
        let parent = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01");
        let mut headers = HeaderMap::from_iter([(TRACEPARENT.parse().unwrap(), parent.clone())]);
        let trace = Trace::of(&headers);
        let seen = trace.scope(async { tokio::spawn(carried(async { Trace::current() })).await.unwrap() });
        assert_eq!(seen.await, Some(trace));
        assert_eq!(
            tokio::spawn(carried(async { Trace::current() })).await.unwrap(),
            None
        );
        let text = trace.to_string();
        assert!(
            text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && text.ends_with("-01"),
            "{text}"
        );
        assert_ne!(text, parent.to_str().unwrap(), "the span is ours");
        headers.append(TRACEPARENT, parent);
        assert_ne!(Trace::of(&headers).id, trace.id, "two parents are none");
    }
}
