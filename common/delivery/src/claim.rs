//! A claim, what may become of it, and how that is written to a channel's table.

use std::time::{Duration, Instant};

use service::trace::Trace;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// A delivery that is ours until the lease ends.
#[derive(Debug, Clone)]
pub struct Claim<M> {
    /// Identity of the delivery.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Counts from 1.
    pub attempt: i32,
    /// How old the cause was when it was claimed.
    pub age: Duration,
    /// Just before it was claimed, so the lease ends no earlier than counted from here.
    pub claimed: Instant,
    /// The traces of what caused it: one of a reminder's delivery, many of a digest's. Once it was sent, the place where.
    pub traces: Vec<Trace>,
    /// What is to be sent, and where to.
    pub message: M,
}

impl<M> Claim<M> {
    /// The trace that it goes on with, if it is one.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        match *self.traces {
            [trace] => Some(trace),
            _ => None,
        }
    }
}

/// What became of a claim.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The other side took responsibility.
    Sent {
        /// What the other side knows it by, where that is not the delivery's id.
        message_id: Option<String>,
        /// When it was accepted.
        at: Instant,
    },
    /// No attempt will succeed.
    Failed(String),
    /// There is nobody to send it to.
    Suppressed(String),
    /// Another attempt may succeed, after that delay.
    Retry {
        /// How long to wait.
        after: Duration,
        /// What happened.
        reason: String,
    },
    /// It was not tried: it is due again at once, and the attempt does not count.
    GivenBack,
    /// It was not tried: it is due again after that delay, and the attempt does not count. Whoever says so sees to the deadline.
    PutOff {
        /// How long to wait.
        after: Duration,
        /// What it waits for, unless what happened last tells more.
        reason: Option<String>,
    },
}

impl Verdict {
    /// The column `state`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Failed(_) => "failed",
            Self::Suppressed(_) => "suppressed",
            Self::Retry { .. } | Self::GivenBack | Self::PutOff { .. } => "pending",
        }
    }

    /// What metrics call it; nothing when it was not tried.
    #[must_use]
    pub fn status(&self) -> Option<&'static str> {
        match self {
            Self::GivenBack | Self::PutOff { .. } => None,
            Self::Retry { .. } => Some("retried"),
            ended => Some(ended.state()),
        }
    }

    /// Why it was not sent.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Sent { .. } | Self::GivenBack => None,
            Self::Failed(reason) | Self::Suppressed(reason) | Self::Retry { reason, .. } => Some(reason),
            Self::PutOff { reason, .. } => reason.as_deref(),
        }
    }

    /// What the other side knows it by, once it has it.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        match self {
            Self::Sent { message_id, .. } => message_id.as_deref(),
            _ => None,
        }
    }

    /// How many attempts the claim counted that were none.
    fn untried(&self) -> i32 {
        i32::from(matches!(
            self,
            Self::GivenBack | Self::PutOff { .. } | Self::Suppressed(_)
        ))
    }

    fn wait_ms(&self) -> i64 {
        match self {
            Self::Retry { after, .. } | Self::PutOff { after, .. } => milliseconds(*after),
            _ => 0,
        }
    }

    /// Recording may have had to wait for the database: the message was accepted so long ago.
    fn ago_ms(&self) -> i64 {
        match self {
            Self::Sent { at, .. } => milliseconds(at.elapsed()),
            _ => 0,
        }
    }
}

/// A claim and what became of it.
#[derive(Debug)]
pub struct Outcome<M> {
    /// The claim.
    pub claim: Claim<M>,
    /// What became of it.
    pub verdict: Verdict,
}

/// An outcome that is written down.
#[derive(Debug)]
pub struct Recorded {
    /// Its index in what was given.
    pub index: usize,
    /// From the cause to the end, for what has ended and is measured.
    pub took: Option<Duration>,
}

/// An outcome could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The database does not answer or refuses.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// An event cannot be written.
    #[error("an event cannot be encoded")]
    Encode(#[from] schemas::EncodeError),
}

/// The text of a query that [`write()`] runs: what outcomes `o` change in a table of deliveries `d`, what changes there beside it, and
/// what is returned of each row beside its outcome's number. An outcome counts for a row that its claim still holds. An end is so
/// long ago as the statement was sent; when the transaction began, which `now()` says, it may not have been yet.
#[macro_export]
macro_rules! outcome_update {
    (update $table:literal, set $more:literal, returning $($columns:literal)?) => {
        concat!(
            "update ",
            $table,
            " d set state = o.state,
             attempts = d.attempts - o.untried,
             next_attempt_at = case when o.state = 'pending' then now() + o.wait_ms * interval '1 millisecond'
                                    else d.next_attempt_at end,
             last_error = coalesce(o.reason, d.last_error),
             finished_at = case when o.state <> 'pending'
                                then clock_timestamp() - o.ago_ms * interval '1 millisecond' end, ",
            $more,
            " from unnest($1::int8[], $2::uuid[], $3::int4[], $4::text[], $5::int4[], $6::int8[], $7::int8[], $8::text[], $9::text[])
              as o (n, id, attempt, state, untried, wait_ms, ago_ms, message_id, reason)
             where d.id = o.id and d.state = 'pending' and (d.attempts = o.attempt or o.state = 'sent')
             returning o.n",
            $(", ", $columns)?
        )
    };
}

/// Runs a query that writes outcomes and returns their number as `n`, and tells which outcome each row is of. Each comes
/// with its index in what the caller has.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn write<M>(
    tx: &mut PgConnection,
    query: &'static str,
    outcomes: &[(usize, &Outcome<M>)],
) -> Result<Vec<(usize, PgRow)>, sqlx::Error> {
    let column = |index: usize| i64::try_from(index).unwrap_or(i64::MAX);
    let of = || outcomes.iter().map(|(_, outcome)| outcome);
    let rows = sqlx::query(query)
        .bind(
            outcomes
                .iter()
                .map(|(index, _)| column(*index))
                .collect::<Vec<_>>(),
        )
        .bind(of().map(|o| o.claim.id).collect::<Vec<_>>())
        .bind(of().map(|o| o.claim.attempt).collect::<Vec<_>>())
        .bind(of().map(|o| o.verdict.state()).collect::<Vec<_>>())
        .bind(of().map(|o| o.verdict.untried()).collect::<Vec<_>>())
        .bind(of().map(|o| o.verdict.wait_ms()).collect::<Vec<_>>())
        .bind(of().map(|o| o.verdict.ago_ms()).collect::<Vec<_>>())
        .bind(of().map(|o| o.verdict.message_id()).collect::<Vec<_>>())
        .bind(of().map(|o| o.verdict.reason()).collect::<Vec<_>>())
        .fetch_all(tx)
        .await?;
    rows.into_iter()
        .map(|row| {
            let number: i64 = row.try_get("n")?;
            Ok((usize::try_from(number).unwrap_or(usize::MAX), row))
        })
        .collect()
}

/// A span for the database.
#[must_use]
pub fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A span that the database measured. Below zero, which is in the future, counts as zero.
#[must_use]
pub fn since(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
