//! A place in a trace, and how others are told of it.

use std::fmt;

/// The header of a request, and of an event (W3C Trace Context, section 3.2).
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Trace;
}

/// A place in a trace: a trace, and the span in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace {
    pub(super) id: u128,
    pub(super) span: u64,
    pub(super) sampled: bool,
}

impl Trace {
    /// Reads what [`Display`](fmt::Display) writes. Of later versions of the header than ours, what they have in common
    /// with it.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let mut hex = |digits: usize| {
            let lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            parts
                .next()
                .filter(|part| part.len() == digits && part.as_bytes().iter().all(lower))
                .and_then(|part| u128::from_str_radix(part, 16).ok())
        };
        let (version, id, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let rest = parts.next().is_some();
        let valid = version != 0xff && !(version == 0 && rest) && id != 0 && span != 0;
        valid.then_some(Self {
            id,
            span: u64::try_from(span).ok()?,
            // Of the flags only this one is defined.
            sampled: flags & 1 == 1,
        })
    }

    /// A new place, below that one or in a trace of its own.
    #[must_use]
    pub fn below(parent: Option<Self>) -> Self {
        Self {
            id: parent.map_or_else(|| rand::random_range(1..=u128::MAX), |parent| parent.id),
            span: rand::random_range(1..=u64::MAX),
            sampled: parent.is_some_and(|parent| parent.sampled),
        }
    }

    /// The identity of the whole trace, as logs show it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The identity of the span in it, as logs show it.
    #[must_use]
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// The header by which an event goes on with it.
    #[must_use]
    pub fn header(&self) -> (String, String) {
        (TRACEPARENT.to_owned(), self.to_string())
    }

    /// Does work as part of this trace: what it logs carries the trace's id.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// The same for work that does not wait.
    pub fn within<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
    }

    /// The trace that this is part of.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|trace| *trace).ok()
    }
}

/// As an event or a request to somebody else names its parent.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.id,
            self.span,
            u8::from(self.sampled)
        )
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0xb749_6b71_6920_3331;

    #[test]
    fn a_valid_parent_is_taken_over_and_anything_else_is_not() {
        let trace = |sampled| {
            Some(Trace {
                id: ID,
                span: SPAN,
                sampled,
            })
        };
        for (text, expected) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01",
                trace(true),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-00",
                trace(false),
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-03-more",
                trace(true),
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
            assert_eq!(Trace::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_place() {
        for sampled in [true, false] {
            let trace = Trace {
                sampled,
                ..Trace::below(None)
            };
            assert_eq!(Trace::parse(&trace.to_string()), Some(trace));
            assert_eq!(trace.header(), (TRACEPARENT.to_owned(), trace.to_string()));
        }
    }

    #[tokio::test]
    async fn what_is_spawned_belongs_to_the_trace_of_the_work() {
        let trace = Trace::below(None);
        let spawned = || tokio::spawn(carried(async { Trace::current() }));
        let seen = trace.scope(async { spawned().await.expect("it ends") }).await;
        assert_eq!(seen, Some(trace));
        assert_eq!(spawned().await.expect("it ends"), None);
    }
}
