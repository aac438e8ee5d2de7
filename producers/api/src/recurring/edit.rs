//! What a person asks of a recurring task, carried out in a transaction. It needs no HTTP and no clock of its own, so that a
//! simulation can ask the same.

use db::series::{self, Progress, Series};
use schedule::Due;
use schemas::{Task, Timestamp};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use uuid::Uuid;

use super::change::{delete, end, patch, pause, resume};
use super::input::{RecurringInput, moved, skipped};
use super::occurrence::{move_to, skip, split};
use super::standing::{Decision, Standing, just_before};
use crate::accounts::moves;
use crate::notifications;
use crate::problem::{Kind, Problem};
use crate::tasks::{self, Change, Person};

/// What is asked, read from what a client sent.
#[derive(Debug)]
pub struct Edit(Asked);

#[derive(Debug)]
enum Asked {
    Patch(Box<RecurringInput>),
    Pause,
    Resume,
    End,
    Delete,
    Split {
        from: Timestamp,
        patch: Box<RecurringInput>,
    },
    Skip(Timestamp),
    Move {
        occurrence: Timestamp,
        to: Due,
    },
}

/// What came of it.
#[derive(Debug)]
pub struct Edited {
    /// The recurring task as it is then.
    pub series: Series,
    /// The one that goes on from it.
    pub split: Option<Series>,
    /// The instance that it was about.
    pub moved: Option<Task>,
}

impl Edit {
    /// The recurring task and its open instance change: a merge patch.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn patch(body: Map<String, Value>) -> Result<Self, Problem> {
        let patch = Box::new(RecurringInput::patch(body)?);
        Ok(Self(Asked::Patch(patch)))
    }

    /// Nothing comes of it for the time being.
    #[must_use]
    pub fn pause() -> Self {
        Self(Asked::Pause)
    }

    /// It goes on.
    #[must_use]
    pub fn resume() -> Self {
        Self(Asked::Resume)
    }

    /// Nothing comes of it any more.
    #[must_use]
    pub fn end() -> Self {
        Self(Asked::End)
    }

    /// It goes away, and its open instances with it.
    #[must_use]
    pub fn delete() -> Self {
        Self(Asked::Delete)
    }

    /// This and following: `from`, and a merge patch that holds from there on.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn split(body: Map<String, Value>) -> Result<Self, Problem> {
        let (from, patch) = RecurringInput::split(body)?;
        let patch = Box::new(patch);
        Ok(Self(Asked::Split { from, patch }))
    }

    /// An `occurrence` does not take place.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn skip(body: Map<String, Value>) -> Result<Self, Problem> {
        Ok(Self(Asked::Skip(skipped(body)?)))
    }

    /// An `occurrence` takes place at another time, `to`.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn move_to(body: Map<String, Value>) -> Result<Self, Problem> {
        let (occurrence, to) = moved(body)?;
        Ok(Self(Asked::Move { occurrence, to }))
    }

    /// Carries it out, under the lock of the recurring task and those of its open instances: none is completed meanwhile by
    /// somebody who would be told of the recurring task as it was. `expected` looks at its version, and `clock` is asked when all
    /// is locked.
    ///
    /// # Errors
    /// When there is no such recurring task or it is not the one expected; when what is asked cannot be; when the database
    /// does not answer or refuses.
    pub async fn carry_out(
        self,
        tx: &mut PgConnection,
        user_id: Uuid,
        id: Uuid,
        expected: impl FnOnce(i64) -> Result<(), Problem>,
        clock: impl FnOnce() -> Timestamp,
    ) -> Result<Edited, Problem> {
        let person = moves::person(tx, user_id)
            .await?
            .ok_or_else(Problem::no_such_account)?;
        let series = series::lock(tx, user_id, id).await?.ok_or_else(no_such_series)?;
        expected(series.version)?;
        let open = db::tasks::lock_open_instances(tx, user_id, id).await?;
        let now = clock();
        let since = self.about().map_or(now, |about| just_before(about).min(now));
        let standing = Standing::read(tx, user_id, series, open, since).await?;
        let decision = self.decide(&standing, &person, now)?;
        decision.write(tx, user_id, &standing.series).await
    }

    /// The occurrence that it is about, if it is about one.
    fn about(&self) -> Option<Timestamp> {
        match self.0 {
            Asked::Split { from: at, .. } | Asked::Skip(at) | Asked::Move { occurrence: at, .. } => Some(at),
            Asked::Patch(_) | Asked::Pause | Asked::Resume | Asked::End | Asked::Delete => None,
        }
    }

    fn decide(self, standing: &Standing, person: &Person, now: Timestamp) -> Result<Decision, Problem> {
        match self.0 {
            Asked::Patch(input) => patch(*input, standing, person, now),
            Asked::Pause => pause(standing, now),
            Asked::Resume => resume(standing, now),
            Asked::End => Ok(end(standing, now)),
            Asked::Delete => Ok(delete(standing, now)),
            Asked::Split { from, patch } => split(standing, from, *patch, person, now),
            Asked::Skip(occurrence) => skip(standing, occurrence, now),
            Asked::Move { occurrence, to } => move_to(standing, occurrence, to, now),
        }
    }
}

/// What is said where there is none.
pub fn no_such_series() -> Problem {
    Problem::new(Kind::NotFound, "There is no recurring task with this id.")
}

impl Standing {
    /// A series with its instances. Those of `since` and later are looked for, which is now or earlier.
    ///
    /// # Errors
    /// When the database does not answer or refuses.
    pub async fn read(
        db: &mut PgConnection,
        user_id: Uuid,
        series: Series,
        open: Vec<Task>,
        since: Timestamp,
    ) -> Result<Self, sqlx::Error> {
        let reached = series.made_through;
        Ok(Self {
            taken: series::taken_after(db, user_id, series.id, since).await?,
            before: series::latest_occurrence(db, user_id, series.id, reached).await?,
            series,
            open,
        })
    }
}

impl Decision {
    /// Writes what was decided about the series as it was `before`.
    async fn write(self, tx: &mut PgConnection, user_id: Uuid, before: &Series) -> Result<Edited, Problem> {
        let series = self.series;
        // An instance points to its series.
        if let Some(split) = &self.split {
            series::insert(tx, user_id, split).await?;
            notifications::store::carry_over(tx, user_id, series.id, split.id).await?;
        }
        if series.version != before.version {
            series::update(tx, user_id, &series).await?;
        } else if series.made_through != before.made_through || !self.made.is_empty() {
            // The generator looks away from a series that has nothing open, until it is told when to look again.
            series::advance(tx, &[Progress::of(user_id, &series)]).await?;
        }
        for made in &self.made {
            insert(tx, user_id, made).await?;
        }
        let (tasks, events) = tasks::with_events(user_id, self.changed)?;
        db::tasks::update(tx, user_id, &tasks, &events).await?;
        Ok(Edited {
            series,
            split: self.split,
            moved: self.shown,
        })
    }
}

/// Writes a new instance and its event. Whoever makes it has locked the series and looked how far it has come.
///
/// # Errors
/// When the database does not answer or refuses, or has an instance of that occurrence.
pub async fn insert(tx: &mut PgConnection, user_id: Uuid, made: &Change) -> Result<(), Problem> {
    let written = db::tasks::insert(&mut *tx, user_id, &made.task, &made.event(user_id)?).await?;
    written
        .then_some(())
        .ok_or_else(|| Problem::internal(OccurrenceExists))
}

#[derive(Debug, thiserror::Error)]
#[error("the series has that occurrence already")]
struct OccurrenceExists;
