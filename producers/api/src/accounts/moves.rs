//! What follows a person who moves: to another zone, or to another hour for whole days. The account changes at once; open
//! tasks and series are rewritten in bites, each a transaction. A row of `accounts.moves`, written with the account, stays
//! until nothing is left: what a crash interrupts goes on in the background, on whichever replica looks first.
//!
//! Nothing is left behind. Whoever writes a task that follows has read where the person is in the same transaction, and
//! holds the person's row meanwhile ([`person`]); the account is changed by one who waits for all of them ([`ask`]). A bite
//! takes what is not where the person is: done twice, the second finds nothing.

use std::time::Duration;

use schemas::{Encoded, Task};
use sqlx::{PgConnection, PgPool, Row};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Accounts;
use crate::tasks::Person;
use crate::tasks::following::{self, Place};

/// How many tasks are rewritten in one transaction. The open instances of one series go together, with it.
const TASKS_PER_BITE: i64 = 500;
/// How long a request goes on with it before it leaves the rest to the background.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the background looks when nobody rings.
const ROUND: Duration = Duration::from_secs(10);
/// People that one look finds.
const PEOPLE_PER_ROUND: i64 = 1000;

/// Where the person is, for whoever writes a task that follows: it stays so until the transaction ends.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn person(tx: &mut PgConnection, user_id: Uuid) -> Result<Option<Person>, sqlx::Error> {
    // The lock that a new task takes anyway, for its foreign key.
    let row =
        sqlx::query("select timezone, whole_day_minute from accounts.users where id = $1 for key share")
            .bind(user_id)
            .fetch_optional(tx)
            .await?;
    row.map(|row| {
        Ok(Person {
            timezone: row.try_get("timezone")?,
            whole_day_minute: row.try_get("whole_day_minute")?,
        })
    })
    .transpose()
}

/// Writes down that the person moves, before the account is changed in the same transaction. Waits for those who write tasks
/// by what the account says now.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn ask(tx: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("select from accounts.users where id = $1 for update")
        .bind(user_id)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "insert into accounts.moves (user_id) values ($1) on conflict (user_id) do update set asked_at = now()",
    )
    .bind(user_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes along what follows the person, for as long as a client may wait. What is left then goes on in the background.
pub async fn begin(pool: &PgPool, user_id: Uuid) {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match bite(pool, user_id).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(user.id = %user_id, %error, "tasks follow their person later");
                return;
            }
        }
    }
}

/// Finishes what was begun and not finished, until `shutdown`.
pub async fn finish(pool: PgPool, accounts: std::sync::Arc<Accounts>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = round(&pool, &shutdown).await {
            tracing::warn!(%error, "who is moving cannot be looked up");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = accounts.moved.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn round(pool: &PgPool, shutdown: &CancellationToken) -> Result<(), sqlx::Error> {
    let people: Vec<Uuid> =
        sqlx::query_scalar("select user_id from accounts.moves order by asked_at limit $1")
            .bind(PEOPLE_PER_ROUND)
            .fetch_all(pool)
            .await?;
    for user_id in people {
        loop {
            if shutdown.is_cancelled() {
                return Ok(());
            }
            match bite(pool, user_id).await {
                Ok(true) => {}
                Ok(false) => break,
                // One who cannot be taken along must not hold up the others.
                Err(error) => {
                    tracing::error!(user.id = %user_id, %error, "tasks do not follow their person for now");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Takes a bite out of what is to follow the person. False when nothing is left, or somebody else is at it.
async fn bite(pool: &PgPool, user_id: Uuid) -> anyhow::Result<bool> {
    let mut tx = pool.begin().await?;
    // The person first, then the row of the move: the order of whoever asks for one.
    let Some(person) = person(&mut tx, user_id).await? else {
        return Ok(false);
    };
    let ours = sqlx::query("select from accounts.moves where user_id = $1 for update skip locked")
        .bind(user_id)
        .fetch_optional(&mut *tx)
        .await?;
    if ours.is_none() {
        return Ok(false);
    }
    let more = series(&mut tx, user_id, &person).await? || tasks(&mut tx, user_id, &person).await?;
    if !more {
        sqlx::query("delete from accounts.moves where user_id = $1")
            .bind(user_id)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(more)
}

/// Takes one series along, and its open instances with it: nobody may find it here and them there, and make an occurrence
/// twice. False when there is none.
async fn series(tx: &mut PgConnection, user_id: Uuid, person: &Person) -> anyhow::Result<bool> {
    let found = db::series::lock_following(tx, user_id, &person.timezone, person.whole_day_minute).await?;
    let Some(series) = found else {
        return Ok(false);
    };
    let followed = following::follow_series(&series, person, schemas::now());
    db::series::update(tx, user_id, &followed).await?;
    let open = db::tasks::lock_open_instances(tx, user_id, series.id).await?;
    write(tx, user_id, &open, person).await?;
    Ok(true)
}

/// Takes tasks along. False when there are none.
async fn tasks(tx: &mut PgConnection, user_id: Uuid, person: &Person) -> anyhow::Result<bool> {
    let found = db::tasks::lock_following(
        tx,
        user_id,
        &person.timezone,
        person.whole_day_minute,
        TASKS_PER_BITE,
    )
    .await?;
    write(tx, user_id, &found, person).await?;
    Ok(!found.is_empty())
}

async fn write(tx: &mut PgConnection, user_id: Uuid, found: &[Task], person: &Person) -> anyhow::Result<()> {
    let places: Vec<Place> = found
        .iter()
        .filter_map(|task| following::new_place(task, person))
        .collect();
    let taken = db::series::occurrences_among(tx, user_id, &places).await?;
    let changes = following::follow_all(found, person, taken.into_iter().collect(), schemas::now());
    if changes.is_empty() {
        return Ok(());
    }
    let events: Vec<Encoded> = changes
        .iter()
        .map(|change| change.event(user_id))
        .collect::<Result<_, _>>()?;
    let tasks: Vec<Task> = changes.into_iter().map(|change| change.task).collect();
    Ok(db::tasks::update(tx, user_id, &tasks, &events).await?)
}
