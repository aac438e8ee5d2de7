//! Mails of people who have very many of them due. They are set aside, bite by bite, in a state of their own, and claimed in
//! turns: the first of each person before the second of any, and few at a time. So a backlog of one person's stands before
//! nobody else's, and what a claim costs does not depend on how long it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use delivery::milliseconds;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::CHANNEL;
use super::reminders::claimed_rung;

/// How far a look at what is due goes.
const AHEAD: i64 = 1000;
/// Whoever has more than so many among these is a crowd.
const CROWD: i64 = 100;
/// So many are set aside at once: whoever commits meanwhile waits until all of it is on the disk.
const BITE: i64 = 250;
/// People that a claim asks at most.
const PEOPLE: i64 = 64;

/// What is set aside, and how many of it are under way.
pub struct Aside {
    places: Arc<Semaphore>,
    /// So many must be free before more is claimed, so that claims are not taken one by one.
    batch: usize,
    wake: Arc<Notify>,
    /// Whose turn it was last.
    last: Mutex<Uuid>,
}

/// A place among those under way.
#[derive(Debug)]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    wake: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // First it is free, and then the loop is told.
        self.permit = None;
        self.wake.notify_one();
    }
}

impl Aside {
    /// At most so many are under way; `wake` is told when there is room again.
    pub fn new(places: usize, wake: Arc<Notify>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            batch: places.div_ceil(2),
            wake,
            last: Mutex::new(Uuid::nil()),
        }
    }

    /// Whether any may be claimed.
    pub fn has_room(&self) -> bool {
        self.places.available_permits() >= self.batch
    }

    /// Claims what is set aside, at most so many, each with its place.
    pub async fn claim(
        &self,
        pool: &PgPool,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<(PgRow, Place)>, sqlx::Error> {
        if !self.has_room() {
            return Ok(Vec::new());
        }
        let room = limit.min(self.places.available_permits());
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = claim(pool, lease, room, last).await?;
        let (mut people, mut claims) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            people.push(row.try_get("user_id")?);
            let permit = Arc::clone(&self.places).try_acquire_owned().ok();
            let wake = Arc::clone(&self.wake);
            claims.push((row, Place { permit, wake }));
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last_turn(last, &people);
        Ok(claims)
    }
}

/// Whose turn was the last of those that were claimed for these people, when it was `last`'s before.
fn last_turn(last: Uuid, people: &[Uuid]) -> Uuid {
    let mut turns: HashMap<Uuid, usize> = HashMap::new();
    for person in people {
        *turns.entry(*person).or_default() += 1;
    }
    // Whoever had most had the last round; in it those behind `last` came before the others.
    let of = |(person, count): &(Uuid, usize)| (*count, *person <= last, *person);
    turns
        .into_iter()
        .max_by_key(of)
        .map_or(last, |(person, _)| person)
}

/// Sets a bite of the mails aside that stand before those of others, being very many of one person's, and returns who these are.
/// Those who are known to be such are so until nothing of theirs is left: otherwise the last hundred of each would go by age.
pub async fn set_crowds_aside(pool: &PgPool, known: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "with ahead as materialized (
             select id, user_id from delivery.deliveries
             where channel = $1 and state = 'pending' and next_attempt_at <= now()
             order by next_attempt_at limit $2
         ), crowd as materialized (
             select user_id from ahead group by user_id having count(*) > $3 or user_id = any($5)
         ), crowded as materialized (
             select d.id from ahead join crowd using (user_id) join delivery.deliveries d using (id)
             where d.state = 'pending' and d.next_attempt_at <= now()
             limit $4 for update of d skip locked
         ), moved as (
             update delivery.deliveries d set state = 'aside' from crowded where d.id = crowded.id returning d.id
         )
         select user_id from crowd where exists (select from moved)",
    )
    .bind(CHANNEL)
    .bind(AHEAD)
    .bind(CROWD)
    .bind(BITE)
    .bind(known)
    .fetch_all(pool)
    .await
}

/// Claims what is due of others than these, at both ends of the line: in the middle nobody knows whose it is.
pub async fn claim_of_others(
    pool: &PgPool,
    lease: Duration,
    limit: usize,
    crowd: &[Uuid],
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(concat!(
        "with first as materialized (
             select id, user_id from delivery.deliveries
             where channel = $1 and state = 'pending' and next_attempt_at <= now() order by next_attempt_at limit $4
         ), last as materialized (
             select id, user_id from delivery.deliveries
             where channel = $1 and state = 'pending' and next_attempt_at <= now() order by next_attempt_at desc limit $4
         ), due as materialized (
             select d.id
             from (select * from first union select * from last) ends join delivery.deliveries d using (id)
             where ends.user_id <> all($5) and d.state = 'pending' and d.next_attempt_at <= now()
             order by d.next_attempt_at limit $2 for update of d skip locked
         )",
        claimed_rung!(),
    ))
    .bind(CHANNEL)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .bind(AHEAD)
    .bind(crowd)
    .fetch_all(pool)
    .await
}

/// The first of each person before the second of any, people behind `last` before the others.
async fn claim(pool: &PgPool, lease: Duration, limit: usize, last: Uuid) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(concat!(
        "with recursive behind as (
             (select user_id from delivery.deliveries
              where channel = $1 and state = 'aside' and user_id > $4 order by user_id limit 1)
             union all
             select (select d.user_id from delivery.deliveries d
                     where d.channel = $1 and d.state = 'aside' and d.user_id > p.user_id order by d.user_id limit 1)
             from behind p where p.user_id is not null
         ), before as (
             (select user_id from delivery.deliveries
              where channel = $1 and state = 'aside' and user_id <= $4 order by user_id limit 1)
             union all
             select (select d.user_id from delivery.deliveries d
                     where d.channel = $1 and d.state = 'aside' and d.user_id > p.user_id and d.user_id <= $4
                     order by d.user_id limit 1)
             from before p where p.user_id is not null
         ), asked as materialized (
             select user_id, row_number() over (order by user_id <= $4, user_id) as turn from (
                 (select user_id from behind where user_id is not null limit $5)
                 union all
                 (select user_id from before where user_id is not null limit $5)) p
             order by turn limit $5
         ), first as materialized (
             select d.id from asked a cross join lateral (
                 select id, row_number() over (order by next_attempt_at) as nth from (
                     select id, next_attempt_at from delivery.deliveries
                     where channel = $1 and state = 'aside' and user_id = a.user_id order by next_attempt_at limit $2) d
             ) d order by d.nth, a.turn limit $2
         ), due as materialized (
             select d.id from first join delivery.deliveries d using (id) where d.state = 'aside' for update of d skip locked
         )",
        claimed_rung!(),
    ))
    .bind(CHANNEL)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .bind(last)
    .bind(PEOPLE)
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_turn_is_behind_the_last_one_of_the_last_round() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(last_turn(Uuid::nil(), &[a, b]), b);
        assert_eq!(last_turn(b, &[c, a]), a, "round the corner");
        assert_eq!(last_turn(a, &[c, b, a, b]), b, "twice");
        assert_eq!(last_turn(c, &[c, c]), c, "alone");
        assert_eq!(last_turn(b, &[]), b);
    }
}
