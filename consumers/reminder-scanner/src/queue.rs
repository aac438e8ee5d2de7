//! Where the next batch begins: at the start of what is due, behind the batch before, or behind a person who has so much of
//! it that the others would wait.

use crate::reminders::{Marked, Place};

/// So many of one person's at one instant, and half of a batch or more, are a crowd.
const CROWD: usize = 100;

/// After so many batches it begins at the start again, whatever is still before it: for what was armed for a time that had
/// passed, and for crowds.
const LAP: u32 = 8;

/// Reminders ring in their order. A batch begins where the one before it ended, which spares PostgreSQL the way over what
/// just rang; and behind the rest of a crowd, which goes on when the others have had their turn.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    from: Option<Place>,
    batches: u32,
}

impl Queue {
    /// Where the next batch begins; `None` at the start.
    pub(crate) fn from(&self) -> Option<Place> {
        self.from
    }

    /// That batch was these. Whether it was full, so that there may be more behind it.
    pub(crate) fn went(&mut self, marked: &[Marked], limit: i64) -> bool {
        let full = usize::try_from(limit).is_ok_and(|limit| marked.len() >= limit);
        self.batches += 1;
        if !full || self.batches >= LAP {
            *self = Self::default();
            return full;
        }
        self.from = marked.last().map(|last| {
            let same = marked
                .iter()
                .rev()
                .take_while(|one| one.place == last.place)
                .count();
            if same >= CROWD && same * 2 >= marked.len() {
                last.place.behind()
            } else {
                last.place
            }
        });
        full
    }
}
