//! How far a shard is published, and what comes next. docs/adr/0002 is the why.
//!
//! Rows are read in *windows*: everything that became visible between the snapshot `done` and the snapshot `target`. A
//! row is in the window if `target` sees its transaction and `done` does not, which is exact whatever order transactions
//! commit in: a transaction that was still open at `done` is in a later window, with all of its rows, however low their
//! numbers are. Within a window rows go out by `seq`. Writers take `seq` under their task's lock, so of two changes to one
//! task the later has the higher `seq` in one window, or is in a later window: per-task order holds.
//!
//! The window is found by index ranges, and rows published before are not looked at, however many there are. What
//! `done` cannot see belongs to the transactions that it lists as open (`xip`) and to those from its `xmax` on, some of
//! which may have been open, too: PostgreSQL lists no transaction above the last one that completed. Their rows with
//! numbers above `done_seq` are found by `seq`; those few with lower numbers, written before `done` and committed after,
//! are found by `xid`, once at the beginning of a window. `done_seq` may be any number: it only says which index serves.

use db::outbox::RELAY_LOCK_CLASS;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// How many shards there are. `outbox.events.shard` computes the same number: it takes a migration to change it.
pub(crate) const SHARDS: i16 = 2;

/// A row of the outbox.
#[derive(Debug)]
pub(crate) struct OutboxRow {
    pub(crate) seq: i64,
    pub(crate) topic: String,
    pub(crate) user_id: Uuid,
    pub(crate) fingerprint: Uuid,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: String,
    pub(crate) created_at: chrono::DateTime<chrono::Utc>,
}

/// How far a shard is published: all of `done`, and of the window up to `target` all rows up to `published_seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    shard: i16,
    done: String,
    done_seq: i64,
    target: String,
    target_seq: i64,
    published_seq: i64,
}

/// What is visible now.
#[derive(Debug)]
pub(crate) struct Peek {
    snapshot: String,
    last_seq: i64,
}

/// Becomes the one relay of the shard, as long as the connection lives. False when another one is.
pub(crate) async fn try_lock(connection: &mut PgConnection, shard: i16) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
        .bind(RELAY_LOCK_CLASS)
        .bind(i32::from(shard))
        .fetch_one(connection)
        .await
}

/// Settings of a relay's session.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for setting in [
        // Losing the last stored cursor in a crash of Postgres only sends some events twice.
        "set synchronous_commit = off",
        // Every query here has its index. The planner, misled by the statistics of a table that fills and empties, must
        // not think otherwise.
        "set enable_seqscan = off",
        "set enable_bitmapscan = off",
        // Planning the page over all slots takes longer than running it.
        "set plan_cache_mode = force_generic_plan",
        // A relay whose host vanished must not hold its lock for the two hours that TCP takes to notice.
        "set tcp_keepalives_idle = 10",
        "set tcp_keepalives_interval = 5",
        "set tcp_keepalives_count = 3",
    ] {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The stored cursor, after making it fit the cluster if this is not the one that it was stored in.
pub(crate) async fn load(connection: &mut PgConnection, shard: i16) -> Result<Cursor, sqlx::Error> {
    let same: bool = sqlx::query_scalar(
        "select c.system_identifier = s.system_identifier from outbox.cursors c, pg_control_system() s where shard = $1",
    )
    .bind(shard)
    .fetch_one(&mut *connection)
    .await?;
    if !same {
        tracing::warn!(
            "the outbox comes from another cluster, whose transaction ids mean nothing here: re-basing it"
        );
        sqlx::query("select outbox.rebase()")
            .execute(&mut *connection)
            .await?;
    }
    let row = sqlx::query(
        "select done::text, done_seq, target::text, target_seq, published_seq from outbox.cursors where shard = $1",
    )
    .bind(shard)
    .fetch_one(connection)
    .await?;
    Ok(Cursor {
        shard,
        done: row.try_get(0)?,
        done_seq: row.try_get(1)?,
        target: row.try_get(2)?,
        target_seq: row.try_get(3)?,
        published_seq: row.try_get(4)?,
    })
}

/// Looks what is visible now.
pub(crate) async fn peek(connection: &mut PgConnection) -> Result<Peek, sqlx::Error> {
    let row = sqlx::query("select pg_current_snapshot()::text, last_value from outbox.events_seq")
        .fetch_one(connection)
        .await?;
    Ok(Peek {
        snapshot: row.try_get(0)?,
        last_seq: row.try_get(1)?,
    })
}

impl Cursor {
    /// Opens the window up to what `now` sees, if it sees anything new.
    pub(crate) fn open(&mut self, now: Peek) {
        self.target = now.snapshot;
        self.target_seq = now.last_seq;
        self.published_seq = 0;
    }

    /// Whether a window is open.
    pub(crate) fn is_open(&self) -> bool {
        self.done != self.target
    }

    /// The next rows of the open window. `shard + 0` keeps the first two parts from the index on `(shard, seq)`, by which
    /// they would walk everything that is published already.
    pub(crate) async fn page(
        &self,
        connection: &mut PgConnection,
        limit: i64,
    ) -> Result<Vec<OutboxRow>, sqlx::Error> {
        let rows = sqlx::query(
            "(select seq, topic, user_id, fingerprint, body, headers::text, created_at
              from outbox.events
              where $5 < $3 and shard + 0 = $1 and xid = any (array(select pg_snapshot_xip($2::pg_snapshot)))
                and seq > $5 and seq <= $3 and pg_visible_in_snapshot(xid, $4::pg_snapshot)
              order by seq limit $6)
             union all
             (select seq, topic, user_id, fingerprint, body, headers::text, created_at
              from outbox.events
              where $5 < $3 and shard + 0 = $1 and xid >= pg_snapshot_xmax($2::pg_snapshot)
                and seq > $5 and seq <= $3 and pg_visible_in_snapshot(xid, $4::pg_snapshot)
              order by seq limit $6)
             union all
             (select seq, topic, user_id, fingerprint, body, headers::text, created_at
              from outbox.events
              where shard = $1 and seq > greatest($3, $5)
                and not pg_visible_in_snapshot(xid, $2::pg_snapshot) and pg_visible_in_snapshot(xid, $4::pg_snapshot)
              order by seq limit $6)
             order by seq limit $6",
        )
        .bind(self.shard)
        .bind(&self.done)
        .bind(self.done_seq)
        .bind(&self.target)
        .bind(self.published_seq)
        .bind(limit)
        .fetch_all(connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OutboxRow {
                    seq: row.try_get(0)?,
                    topic: row.try_get(1)?,
                    user_id: row.try_get(2)?,
                    fingerprint: row.try_get(3)?,
                    body: row.try_get(4)?,
                    headers: row.try_get(5)?,
                    created_at: row.try_get(6)?,
                })
            })
            .collect()
    }

    /// Moves past a page. One that was not full was the window's last.
    pub(crate) fn advance(&mut self, rows: &[OutboxRow], limit: i64) {
        if i64::try_from(rows.len()).is_ok_and(|count| count < limit) {
            self.done.clone_from(&self.target);
            self.done_seq = self.target_seq;
            self.published_seq = 0;
        } else if let Some(last) = rows.last() {
            self.published_seq = last.seq;
        }
    }

    /// Stores it. Everything that it covers must be acknowledged.
    pub(crate) async fn store(
        &self,
        connection: &mut PgConnection,
        published: i64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update outbox.cursors
             set done = $2::pg_snapshot, done_seq = $3, target = $4::pg_snapshot, target_seq = $5, published_seq = $6,
                 published_total = published_total + $7, updated_at = clock_timestamp()
             where shard = $1",
        )
        .bind(self.shard)
        .bind(&self.done)
        .bind(self.done_seq)
        .bind(&self.target)
        .bind(self.target_seq)
        .bind(self.published_seq)
        .bind(published)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The schema with that fingerprint, from the table that `carillon migrate` fills: (subject without prefix, JSON).
pub(crate) async fn schema(
    connection: &mut PgConnection,
    fingerprint: Uuid,
) -> Result<Option<(String, String)>, sqlx::Error> {
    sqlx::query_as("select topic || '-' || fullname, schema_json from outbox.schemas where fingerprint = $1")
        .bind(fingerprint)
        .fetch_optional(connection)
        .await
}
