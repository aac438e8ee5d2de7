//! Where the next batch begins, and how large it may be: at the start of what is due, behind the batch before, or behind a person
//! who has so much of it that the others would wait.

use crate::reminders::Place;

/// So many of one person's at one instant, and half of a batch or more, are a crowd.
const CROWD: usize = 25;

/// What is taken at the start while a crowd may stand there. Others wait for that and not for a whole batch.
const BITE: usize = CROWD;

/// After so many batches it begins at the start again, whatever is still before it: for what was armed for a time that had
/// passed, and for crowds.
const LAP: u32 = 8;

/// Reminders ring in their order. A batch begins where the one before it ended, which spares PostgreSQL the way over what
/// just rang; and behind the rest of a crowd, which goes on bite by bite when the others have had their turn.
#[derive(Debug)]
pub(crate) struct Queue {
    most: usize,
    from: Option<Place>,
    batches: u32,
    /// A crowd may stand at the start: one was met, or nobody has looked yet.
    crowd: bool,
    /// The last batch was a bite of one.
    bit: bool,
}

impl Queue {
    /// At the start; a batch takes at most so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            from: None,
            batches: 0,
            crowd: true,
            bit: false,
        }
    }

    /// Where the next batch begins, `None` at the start, and how many it takes at most.
    pub(crate) fn next(&self) -> (Option<Place>, usize) {
        let bite = self.from.is_none() && self.crowd;
        (self.from, if bite { BITE.min(self.most) } else { self.most })
    }

    /// Whether the last batch was a bite of a crowd.
    pub(crate) fn bit(&self) -> bool {
        self.bit
    }

    /// That batch was these. Whether there may be more to take.
    pub(crate) fn went(&mut self, places: &[Place]) -> bool {
        let (from, limit) = self.next();
        let full = places.len() >= limit;
        let crowd = places.last().filter(|last| {
            let same = places.iter().rev().take_while(|place| place == last).count();
            same >= CROWD && same * 2 >= places.len()
        });
        self.bit = from.is_none() && full && crowd.is_some();
        if full && crowd.is_some() {
            self.crowd = true;
        } else if from.is_none() {
            self.crowd = false;
        }
        self.batches += 1;
        if !full || self.batches >= LAP {
            (self.from, self.batches) = (None, 0);
            // What is left of a crowd stands before a batch that began behind it.
            return full || (from.is_some() && self.crowd);
        }
        self.from = crowd.map(|crowd| crowd.behind()).or(places.last().copied());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn place(second: i64, person: u128) -> Place {
        Place {
            fire_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(second),
            urgency: 2,
            user_id: Uuid::from_u128(person),
        }
    }

    /// Rings what is due as the database would hand it out, and returns it in the order in which it rang, batch by batch.
    fn ring(mut due: BTreeMap<Place, usize>, most: usize) -> Vec<Vec<Place>> {
        let (mut queue, mut batches) = (Queue::new(most), Vec::new());
        loop {
            let (from, limit) = queue.next();
            let mut batch = Vec::new();
            for (place, left) in &mut due {
                if from.is_none_or(|from| *place >= from) {
                    let taken = (*left).min(limit - batch.len());
                    *left -= taken;
                    batch.extend(std::iter::repeat_n(*place, taken));
                }
            }
            let more = queue.went(&batch);
            batches.push(batch);
            if !more {
                return batches;
            }
        }
    }

    #[test]
    fn without_a_crowd_all_rings_in_order_in_batches_that_are_soon_full() {
        let due: BTreeMap<Place, usize> = (0..5_000).map(|n| (place(n / 10, n as u128), 1)).collect();
        let batches = ring(due.clone(), 1_000);
        assert_eq!(batches.concat(), due.into_keys().collect::<Vec<_>>());
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [BITE, 1_000, 1_000, 1_000, 1_000, 1_000 - BITE]);
    }

    #[test]
    fn the_others_of_an_instant_wait_for_one_bite_of_a_crowd() {
        let mut due: BTreeMap<Place, usize> = (2..=9).map(|person| (place(0, person), 1)).collect();
        due.insert(place(0, 1), 100_000);
        let rang = ring(due, 1_000).concat();
        let last = rang.iter().rposition(|place| place.user_id != Uuid::from_u128(1));
        assert_eq!(last, Some(BITE + 7));
        assert_eq!(rang.len(), 100_008);
    }

    proptest! {
        #[test]
        fn all_that_is_due_rings_once_however_it_lies(
            due in proptest::collection::btree_map((0_i64..20, 0_u128..5), 1_usize..700, 0..30),
            most in 1_usize..600,
        ) {
            let due: BTreeMap<Place, usize> =
                due.into_iter().map(|((second, person), count)| (place(second, person), count)).collect();
            let mut rang: BTreeMap<Place, usize> = BTreeMap::new();
            // A round that ends begins again while something is due, as the loop around it does.
            let mut left = due.clone();
            while left.values().any(|count| *count > 0) {
                for place in ring(left.clone(), most).concat() {
                    *rang.entry(place).or_default() += 1;
                    *left.get_mut(&place).unwrap() -= 1;
                }
            }
            prop_assert_eq!(rang, due);
        }
    }
}
