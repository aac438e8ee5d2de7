//! Seals over what is in the trail: an edit, a removal or an addition shows afterwards (docs/adr/0017). Every sink runs this,
//! and one at a time does it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit::{COLUMNS, GENESIS, Hash, Kind, LEAF_BYTES, Seal, SealKey, hex, leaf};
use chrono::{DateTime, Days, NaiveDate, Utc};
use prometheus::{Gauge, IntCounterVec};
use service::metrics;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Rows of one seal, and so what is in memory at once.
const ROWS_PER_SEAL: usize = 10_000;
/// A round comes at least so often, to seal what other reasons have closed.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// So many rows close a segment before its time: a backlog makes more segments, not larger ones.
const ROWS_PER_SEGMENT: u64 = 50_000;

static SEALS: LazyLock<IntCounterVec> =
    LazyLock::new(|| metrics::counter_vec("audit_seals_total", "Seals made by this process", &["kind"]));
static SEALED_AT: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::gauge(
        "audit_newest_seal_timestamp_seconds",
        "When the newest seal of the audit trail was made",
    )
});
static UNSEALED_AGE: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::gauge(
        "audit_unsealed_age_seconds",
        "Age of the oldest row that no seal holds yet; 0 without any",
    )
});

/// Told by the handler how much was added.
#[derive(Debug, Default)]
pub struct Added {
    rows: AtomicU64,
    enough: Notify,
}

impl Added {
    /// Notes that rows were added.
    pub(crate) fn note(&self, rows: u64) {
        if self.rows.fetch_add(rows, Ordering::Relaxed) + rows >= ROWS_PER_SEGMENT {
            self.enough.notify_one();
        }
    }
}

/// Seals until `shutdown`.
///
/// # Errors
/// Never: what does not work is logged and tried again.
pub async fn run(
    pool: PgPool,
    sealer: Sealer,
    added: std::sync::Arc<Added>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut next_round = Instant::now();
    loop {
        let result = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            // Closing is cheap. Sealing can wait until its time: a backlog has other worries.
            () = added.enough.notified() => {
                added.rows.store(0, Ordering::Relaxed);
                sealer.close(&pool, Duration::ZERO).await.map(|_| ())
            }
            () = sleep_until(next_round) => {
                next_round = Instant::now() + sealer.interval.min(LONGEST_PAUSE);
                sealer.round(&pool, sealer.interval).await
            }
        };
        if let Err(error) = result {
            tracing::warn!(error = %error, "the audit trail could not be sealed; tried again soon");
        }
    }
}

/// How seals are made.
#[derive(Debug, Clone)]
pub struct Sealer {
    /// `AUDIT_SEAL_SECONDS`: how long a segment takes rows.
    pub interval: Duration,
    /// `AUDIT_SEAL_KEY`.
    pub key: Option<SealKey>,
    /// Days before today that are kept.
    pub retention_days: i32,
}

impl Sealer {
    /// Closes the open segment if it is that old, and seals every segment that is closed and not sealed.
    ///
    /// # Errors
    /// When the database does not answer or refuses, or a lock is not to be had at once.
    pub async fn round(&self, pool: &PgPool, least_age: Duration) -> Result<(), sqlx::Error> {
        LazyLock::force(&SEALS);
        let open = self.close(pool, least_age).await?;
        let sealed: i64 = sqlx::query_scalar("select sealed_segment from audit.chain")
            .fetch_one(pool)
            .await?;
        for segment in sealed + 1..open {
            self.seal_segment(pool, segment).await?;
        }
        self.seal_drop(pool).await?;
        report(pool).await
    }

    /// Closes the open segment if it is that old; returns the one that is open then.
    async fn close(&self, pool: &PgPool, least_age: Duration) -> Result<i64, sqlx::Error> {
        let mut tx = pool.begin().await?;
        // Whoever writes keeps us from closing, and while we wait nobody else begins to write.
        sqlx::query("set local lock_timeout = '2s'")
            .execute(&mut *tx)
            .await?;
        let open: i64 = sqlx::query_scalar("select audit.close_segment($1 * interval '1 second')")
            .bind(least_age.as_secs_f64())
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(open)
    }

    /// Seals a closed segment, a day at a time: stopped in between, it goes on with the next day.
    async fn seal_segment(&self, pool: &PgPool, segment: i64) -> Result<(), sqlx::Error> {
        let days: Vec<NaiveDate> = sqlx::query_scalar(
            "select distinct (occurred_at at time zone 'UTC')::date from audit.events
             where segment = $1 and occurred_at >= '0001-01-01T00:00:00Z' and occurred_at < '10000-01-01T00:00:00Z'
             order by 1",
        )
        .bind(segment)
        .fetch_all(pool)
        .await?;
        for day in days {
            let mut tx = pool.begin().await?;
            let mut head = Head::lock(&mut tx).await?;
            let there: bool = sqlx::query_scalar(
                "select exists (select from audit.seals where segment = $1 and day = $2 and kind = 'rows')",
            )
            .bind(segment)
            .bind(day)
            .fetch_one(&mut *tx)
            .await?;
            if there {
                continue;
            }
            // A cursor: sorted once, and read in pieces that each have the statement timeout to themselves. The columns are
            // a constant of ours, the numbers are numbers.
            sqlx::query(AssertSqlSafe(format!(
                "declare sealing no scroll cursor for
                 select {COLUMNS} from audit.events
                 where segment = {segment} and occurred_at >= '{day}T00:00:00Z' and occurred_at < timestamptz '{day}T00:00:00Z' + interval '1 day'
                 order by audit.events.event_id, audit.events.occurred_at"
            )))
            .execute(&mut *tx)
            .await?;
            let mut made = Vec::new();
            loop {
                let rows = sqlx::query(AssertSqlSafe(format!("fetch {ROWS_PER_SEAL} from sealing")))
                    .fetch_all(&mut *tx)
                    .await?;
                if rows.is_empty() {
                    break;
                }
                let mut leaves = Vec::with_capacity(rows.len() * LEAF_BYTES);
                for row in &rows {
                    leaves.extend(leaf(row)?.to_bytes());
                }
                made.push(
                    head.append(&mut tx, self.key.as_ref(), Kind::Rows, day, segment, Some(leaves))
                        .await?,
                );
                if rows.len() < ROWS_PER_SEAL {
                    break;
                }
            }
            tx.commit().await?;
            publish(&made);
        }
        // Another sink may have been faster, and be further by now.
        sqlx::query("update audit.chain set sealed_segment = $1 where sealed_segment = $1 - 1")
            .bind(segment)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// Says in the chain which days were dropped because their retention was over. What went before its time gets no such
    /// seal, whoever dropped it.
    async fn seal_drop(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let mut tx = pool.begin().await?;
        let mut head = Head::lock(&mut tx).await?;
        let dropped: Option<NaiveDate> = sqlx::query_scalar(
            "select max(day) from audit.seals s
             where kind = 'rows' and leaves is null and day < (now() at time zone 'UTC')::date - $1
               and not exists (select from audit.seals d where d.kind = 'drop' and d.number > s.number and d.day > s.day)",
        )
        .bind(self.retention_days)
        .fetch_one(&mut *tx)
        .await?;
        if let Some(day) = dropped {
            let kept = day + Days::new(1);
            let seal = head
                .append(&mut tx, self.key.as_ref(), Kind::Drop, kept, 0, None)
                .await?;
            tx.commit().await?;
            publish(&[seal]);
        }
        Ok(())
    }
}

/// The end of the chain, held by this transaction alone.
struct Head {
    number: i64,
    hash: Hash,
}

impl Head {
    async fn lock(tx: &mut PgConnection) -> Result<Self, sqlx::Error> {
        sqlx::query("set local lock_timeout = '2s'")
            .execute(&mut *tx)
            .await?;
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('audit.seals', 0))")
            .execute(&mut *tx)
            .await?;
        let last: Option<(i64, Vec<u8>)> =
            sqlx::query_as("select number, hash from audit.seals order by number desc limit 1")
                .fetch_optional(tx)
                .await?;
        let Some((number, hash)) = last else {
            return Ok(Self {
                number: 0,
                hash: GENESIS,
            });
        };
        Ok(Self {
            number,
            // Of another length only if somebody was at it, which the next seal then shows.
            hash: hash.try_into().unwrap_or(GENESIS),
        })
    }

    async fn append(
        &mut self,
        tx: &mut PgConnection,
        key: Option<&SealKey>,
        kind: Kind,
        day: NaiveDate,
        segment: i64,
        leaves: Option<Vec<u8>>,
    ) -> Result<(Seal, Hash), sqlx::Error> {
        let sealed_at: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&mut *tx)
            .await?;
        let bytes = leaves.as_deref().unwrap_or_default();
        let seal = Seal {
            number: self.number + 1,
            kind,
            day,
            segment,
            rows: i32::try_from(bytes.len() / LEAF_BYTES).unwrap_or(i32::MAX),
            leaves_hash: Seal::hash_of_leaves(bytes),
            previous: self.hash,
            sealed_at,
        };
        let hash = seal.hash(key);
        sqlx::query(
            "insert into audit.seals (number, kind, day, segment, rows, leaves, leaves_hash, previous, hash, key_id, sealed_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(seal.number)
        .bind(kind.as_str())
        .bind(day)
        .bind(segment)
        .bind(seal.rows)
        .bind(leaves)
        .bind(seal.leaves_hash)
        .bind(seal.previous)
        .bind(hash)
        .bind(key.map(SealKey::id))
        .bind(sealed_at)
        .execute(tx)
        .await?;
        (self.number, self.hash) = (seal.number, hash);
        Ok((seal, hash))
    }
}

/// A seal's hash goes where who can write to the database cannot take it back: into the log.
fn publish(seals: &[(Seal, Hash)]) {
    for (seal, hash) in seals {
        SEALS.with_label_values(&[seal.kind.as_str()]).inc();
        tracing::info!(
            audit.seal = %format_args!("{}:{}", seal.number, hex(hash)),
            audit.day = %seal.day,
            audit.segment = seal.segment,
            audit.rows = seal.rows,
            "sealed"
        );
    }
}

async fn report(pool: &PgPool) -> Result<(), sqlx::Error> {
    let (sealed_at, age): (f64, f64) = sqlx::query_as(
        "select coalesce((select extract(epoch from sealed_at) from audit.seals order by number desc limit 1), 0)::float8,
                coalesce((select extract(epoch from now() - min(recorded_at)) from audit.events
                          where segment > (select sealed_segment from audit.chain)), 0)::float8",
    )
    .fetch_one(pool)
    .await?;
    SEALED_AT.set(sealed_at);
    UNSEALED_AGE.set(age.max(0.0));
    Ok(())
}
