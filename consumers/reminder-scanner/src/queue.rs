//! Where the next batch begins: at the start of what is due, or behind a person who has so much of it that the others would
//! wait.

use crate::reminders::{Place, Rung};

/// So many of one person's at one instant, and most of a batch, are a crowd.
const CROWD: usize = 100;

/// Reminders ring in their order. Behind a crowd the others get every second batch.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The last of the crowds that we know of.
    crowd: Option<Place>,
    /// Whether it is the others' turn.
    others: bool,
}

impl Queue {
    /// Behind what the next batch begins; `None` at the start.
    pub(crate) fn from(&self) -> Option<Place> {
        self.crowd.filter(|_| self.others)
    }

    /// That batch, of at most `limit`, was these.
    pub(crate) fn went(&mut self, rung: &[Rung], limit: i64) {
        match crowd(rung, limit) {
            Some(crowd) => {
                self.crowd = self.crowd.max(Some(crowd));
                self.others = !self.others;
            }
            None if self.others => self.others = false,
            None => *self = Self::default(),
        }
    }
}

/// The place of most of them, if they are a full batch and that is a crowd.
fn crowd(rung: &[Rung], limit: i64) -> Option<Place> {
    let full = usize::try_from(limit).is_ok_and(|limit| rung.len() >= limit);
    let most = rung
        .chunk_by(|a, b| a.place == b.place)
        .max_by_key(|same| same.len())?;
    (full && most.len() >= CROWD && most.len() * 2 > rung.len()).then(|| most.first().map(|one| one.place))?
}
