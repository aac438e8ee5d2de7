//! The chain and the rows compared: what was edited, deleted or inserted, and where.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use crate::row::{COLUMNS, LEAF_BYTES};
use crate::{GENESIS, Hash, Kind, Leaf, Seal, SealKey, hex, leaf, person};

/// Days whose rows are compared; the chain is always looked at as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// The first; without it from the oldest on.
    pub from: Option<NaiveDate>,
    /// The last; without it to the newest.
    pub to: Option<NaiveDate>,
}

impl Range {
    fn holds(self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }
}

/// What a seal's hash was when somebody looked, written down where who can write to the database cannot: `NUMBER:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The seal's place.
    pub number: i64,
    /// Its hash.
    pub hash: Hash,
}

impl Display for Anchor {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, hex(&self.hash))
    }
}

impl FromStr for Anchor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHY: &str =
            "must be NUMBER:HASH, with the 64 digits of the hash, as `carillon audit verify` prints it";
        let (number, digits) = text.split_once(':').ok_or(WHY)?;
        let number = number.parse().map_err(|_| WHY)?;
        let mut hash = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WHY);
        }
        for (n, byte) in hash.iter_mut().enumerate() {
            *byte = digits
                .get(2 * n..2 * n + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or(WHY)?;
        }
        Ok(Self { number, hash })
    }
}

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The row is not what was sealed.
    Edited,
    /// The row was sealed, is gone, and its person's account is not.
    Deleted,
    /// The row is in a segment that was sealed without it, or that was never opened.
    Inserted,
    /// Seals before this one are gone.
    SealsMissing,
    /// The seal does not continue the one before.
    ChainBroken,
    /// The seal is not what it was made as.
    SealEdited,
    /// The seal is made without a key, and one before it is made with one.
    KeyMissing,
    /// The seal is made with a key that was not given.
    KeyUnknown,
    /// The rows and their leaves are gone, and no seal says that their retention was over.
    DroppedUnsealed,
    /// The seal's hash is not what was written down.
    NotTheAnchor,
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Edited => "the row was edited after it was sealed",
            Self::Deleted => "the row was deleted after it was sealed",
            Self::Inserted => "the row was inserted after its segment was sealed",
            Self::SealsMissing => "the seals before this one are gone",
            Self::ChainBroken => "the seal does not continue the one before",
            Self::SealEdited => "the seal was edited",
            Self::KeyMissing => "the seal was made without the key",
            Self::KeyUnknown => "the seal was made with a key that was not given",
            Self::DroppedUnsealed => "the rows are gone and no seal says that their retention was over",
            Self::NotTheAnchor => "the seal is gone, or is not the one whose hash was written down",
        })
    }
}

/// Something that somebody did to the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: What,
    /// The day that it is in; none for a row outside of the calendar, and for a seal that is gone.
    pub day: Option<NaiveDate>,
    /// The segment that it is in.
    pub segment: Option<i64>,
    /// The seal that it is about.
    pub seal: Option<i64>,
    /// The row that it is about.
    pub event_id: Option<Uuid>,
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.day {
            Some(day) => write!(f, "day {day}")?,
            None => f.write_str("no day")?,
        }
        if let Some(segment) = self.segment {
            write!(f, ", segment {segment}")?;
        }
        if let Some(seal) = self.seal {
            write!(f, ", seal {seal}")?;
        }
        if let Some(id) = self.event_id {
            write!(f, ", event {id}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Seals of the chain.
    pub seals: u64,
    /// Of these, from the first on, those that were made before there was a key.
    pub seals_without_key: u64,
    /// Rows that are as they were sealed.
    pub rows: u64,
    /// Rows that went with the account of their person.
    pub erased: u64,
    /// Days before this one were dropped when their retention was over.
    pub dropped_before: Option<NaiveDate>,
    /// Rows that no seal holds yet.
    pub unsealed: u64,
    /// The newest seal, to be written down elsewhere.
    pub head: Option<Anchor>,
    /// When it was made.
    pub sealed_at: Option<DateTime<Utc>>,
    /// What was found.
    pub findings: u64,
}

/// Verifying could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer or refused.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// A day and a segment.
type Place = (NaiveDate, i64);

struct Verifier<'a, F> {
    connection: &'a mut PgConnection,
    keys: &'a [SealKey],
    range: Range,
    found: F,
    report: Report,
    /// People who have an account.
    living: HashSet<[u8; 16]>,
    /// Where there are leaves to compare with.
    sealed: BTreeMap<Place, u64>,
    /// The highest segment of a seal.
    highest: i64,
}

/// Looks whether the trail is as it was sealed, and tells of everything that is not. All of it as at one moment, so the sinks
/// may go on meanwhile.
///
/// # Errors
/// When the database does not answer or refuses: this takes the owner's rights.
pub async fn verify(
    connection: &mut PgConnection,
    keys: &[SealKey],
    range: Range,
    anchors: &[Anchor],
    found: impl FnMut(Finding),
) -> Result<Report, Error> {
    let mut tx = connection
        .begin_with("begin isolation level repeatable read, read only")
        .await?;
    let living = sqlx::query_scalar("select id from accounts.users where deleted_at is null")
        .fetch(&mut *tx)
        .map_ok(person)
        .try_collect()
        .await?;
    let mut verifier = Verifier {
        connection: &mut tx,
        keys,
        range,
        found,
        report: Report::default(),
        living,
        sealed: BTreeMap::new(),
        highest: -1,
    };
    verifier.chain(anchors).await?;
    verifier.rows().await?;
    let report = verifier.report;
    tx.rollback().await?;
    Ok(report)
}

/// A seal as the database has it.
struct Stored {
    seal: Seal,
    hash: Vec<u8>,
    key_id: Option<String>,
    has_leaves: bool,
}

impl Stored {
    /// `None` when no seal of ours looks like that.
    fn read(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let hash = |name| -> Result<Option<Hash>, sqlx::Error> {
            Ok(row.try_get::<&[u8], _>(name)?.try_into().ok())
        };
        let kind = match row.try_get("kind")? {
            "rows" => Kind::Rows,
            _ => Kind::Drop,
        };
        let (Some(leaves_hash), Some(previous), Some(micros)) = (
            hash("leaves_hash")?,
            hash("previous")?,
            row.try_get::<Option<i64>, _>("sealed_micros")?,
        ) else {
            return Ok(None);
        };
        let (Some(day), Some(sealed_at)) = (
            day_of(row.try_get::<Option<&str>, _>("day")?.unwrap_or_default()),
            DateTime::from_timestamp_micros(micros),
        ) else {
            return Ok(None);
        };
        Ok(Some(Self {
            seal: Seal {
                number: row.try_get("number")?,
                kind,
                day,
                segment: row.try_get("segment")?,
                rows: row.try_get("rows")?,
                leaves_hash,
                previous,
                sealed_at,
            },
            hash: row.try_get("hash")?,
            key_id: row.try_get("key_id")?,
            has_leaves: row.try_get("has_leaves")?,
        }))
    }
}

impl<F: FnMut(Finding)> Verifier<'_, F> {
    fn tell(&mut self, finding: Finding) {
        self.report.findings += 1;
        (self.found)(finding);
    }

    /// Every seal follows the one before, from the first on, and is what it was made as.
    async fn chain(&mut self, anchors: &[Anchor]) -> Result<(), Error> {
        let mut findings = Vec::new();
        let mut gone: Vec<(i64, Place)> = Vec::new();
        let mut drops: Vec<(i64, NaiveDate)> = Vec::new();
        let mut held = vec![false; anchors.len()];
        let (mut number, mut previous, mut keyed) = (0, GENESIS.to_vec(), false);
        let mut seals = sqlx::query(
            "select number, kind, to_char(day, 'YYYY-MM-DD BC') as day, segment, rows, leaves_hash, previous, hash, key_id,
                    leaves is not null as has_leaves,
                    case when isfinite(sealed_at) then (extract(epoch from sealed_at) * 1000000)::bigint end as sealed_micros
             from audit.seals order by number",
        )
        .fetch(&mut *self.connection);
        while let Some(row) = seals.try_next().await? {
            let stored = Stored::read(&row)?;
            let at: i64 = row.try_get("number")?;
            let hash: Vec<u8> = row.try_get("hash")?;
            let finding = |what| Finding {
                what,
                day: stored.as_ref().map(|stored| stored.seal.day),
                segment: stored.as_ref().map(|stored| stored.seal.segment),
                seal: Some(at),
                event_id: None,
            };
            self.report.seals += 1;
            if at != number + 1 {
                findings.push(finding(What::SealsMissing));
            } else if stored
                .as_ref()
                .is_some_and(|stored| stored.seal.previous.as_slice() != previous)
            {
                findings.push(finding(What::ChainBroken));
            }
            let flaw = stored.as_ref().map_or(Some(What::SealEdited), |stored| {
                let (key, flaw) = match &stored.key_id {
                    None if keyed => (None, Some(What::KeyMissing)),
                    None => (None, None),
                    Some(id) => match self.keys.iter().find(|key| key.id() == id) {
                        Some(key) => (Some(key), None),
                        None => (None, Some(What::KeyUnknown)),
                    },
                };
                flaw.or_else(|| (stored.seal.hash(key).as_slice() != stored.hash).then_some(What::SealEdited))
            });
            findings.extend(flaw.map(finding));
            for (anchor, held) in anchors.iter().zip(&mut held) {
                *held |= anchor.number == at && anchor.hash.as_slice() == hash;
            }
            if let Some(stored) = &stored {
                keyed |= stored.key_id.is_some();
                if !keyed {
                    self.report.seals_without_key += 1;
                }
                let Seal {
                    kind, day, segment, ..
                } = stored.seal;
                match (kind, stored.has_leaves) {
                    (Kind::Drop, _) => drops.push((at, day)),
                    (Kind::Rows, false) => gone.push((at, (day, segment))),
                    (Kind::Rows, true) => *self.sealed.entry((day, segment)).or_default() += 1,
                }
                if kind == Kind::Rows {
                    self.highest = self.highest.max(segment);
                }
                self.report.sealed_at = Some(stored.seal.sealed_at);
            }
            self.report.head = hash
                .as_slice()
                .try_into()
                .ok()
                .map(|hash| Anchor { number: at, hash });
            (number, previous) = (at, hash);
        }
        drop(seals);
        self.report.dropped_before = drops.iter().map(|(_, day)| *day).max();
        for (seal, (day, segment)) in gone {
            if !drops.iter().any(|(drop, kept)| *drop > seal && day < *kept) {
                findings.push(Finding {
                    what: What::DroppedUnsealed,
                    day: Some(day),
                    segment: Some(segment),
                    seal: Some(seal),
                    event_id: None,
                });
            }
        }
        for (anchor, held) in anchors.iter().zip(held) {
            if !held {
                findings.push(Finding {
                    what: What::NotTheAnchor,
                    day: None,
                    segment: None,
                    seal: Some(anchor.number),
                    event_id: None,
                });
            }
        }
        findings.into_iter().for_each(|finding| self.tell(finding));
        Ok(())
    }

    /// Every row is in a seal, and what is in a seal is a row.
    async fn rows(&mut self) -> Result<(), Error> {
        let (open, sealed): (i64, i64) =
            sqlx::query_as("select open_segment, sealed_segment from audit.chain")
                .fetch_one(&mut *self.connection)
                .await?;
        // Segments are sealed in order. What the row of the chain says could be edited.
        let sealed = sealed.max(self.highest - 1);
        let counts: Vec<(Option<String>, i64, i64)> = sqlx::query_as(
            "select to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD BC'), segment, count(*)
             from audit.events
             where ($1::date is null or occurred_at >= $1::timestamp at time zone 'UTC')
               and ($2::date is null or occurred_at < ($2 + 1)::timestamp at time zone 'UTC')
             group by 1, 2",
        )
        .bind(self.range.from)
        .bind(self.range.to)
        .fetch_all(&mut *self.connection)
        .await?;
        let mut there: BTreeMap<Place, i64> = BTreeMap::new();
        for (day, segment, count) in counts {
            match day_of(day.as_deref().unwrap_or_default()) {
                Some(day) => *there.entry((day, segment)).or_default() += count,
                // Outside of the calendar: the sink stores no such row.
                None => self.tell(Finding {
                    what: What::Inserted,
                    day: None,
                    segment: Some(segment),
                    seal: None,
                    event_id: None,
                }),
            }
        }
        let mut places: Vec<Place> = self
            .sealed
            .keys()
            .filter(|(day, _)| self.range.holds(*day))
            .chain(there.keys())
            .copied()
            .collect();
        places.sort_unstable();
        places.dedup();
        for (day, segment) in places {
            if self.sealed.contains_key(&(day, segment)) || segment <= sealed || segment > open {
                self.compare(day, segment).await?;
            } else {
                let count = there.get(&(day, segment)).copied().unwrap_or_default();
                self.report.unsealed += u64::try_from(count).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// The rows of a day and segment beside their leaves, both in the order of their ids.
    async fn compare(&mut self, day: NaiveDate, segment: i64) -> Result<(), Error> {
        let finding = |what, seal, event_id| Finding {
            what,
            day: Some(day),
            segment: Some(segment),
            seal,
            event_id,
        };
        let seals: Vec<(i64, i32, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "select number, rows, leaves_hash, leaves from audit.seals
             where segment = $1 and day = $2 and kind = 'rows' and leaves is not null order by number",
        )
        .bind(segment)
        .bind(day)
        .fetch_all(&mut *self.connection)
        .await?;
        let mut leaves = Vec::new();
        for (number, rows, hash, bytes) in &seals {
            let (chunks, rest) = bytes.as_chunks::<LEAF_BYTES>();
            let whole = rest.is_empty() && usize::try_from(*rows).is_ok_and(|rows| rows == chunks.len());
            if !whole || Seal::hash_of_leaves(bytes).as_slice() != hash {
                // What these rows were nobody can say any more.
                self.tell(finding(What::SealEdited, Some(*number), None));
                return Ok(());
            }
            leaves.extend(chunks.iter().map(Leaf::from_bytes));
        }
        let mut expected = leaves.iter().peekable();
        let (mut findings, mut same) = (Vec::new(), 0);
        let mut missing: Vec<&Leaf> = Vec::new();
        let from = day.and_time(NaiveTime::MIN).and_utc();
        // The columns are a constant of ours.
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from audit.events
             where segment = $1 and occurred_at >= $2 and occurred_at < $2 + interval '1 day'
             order by audit.events.event_id, audit.events.occurred_at"
        ));
        let mut rows = sqlx::query(sql)
            .bind(segment)
            .bind(from)
            .fetch(&mut *self.connection);
        while let Some(row) = rows.try_next().await? {
            let found = leaf(&row)?;
            while let Some(gone) = expected.next_if(|leaf| leaf.event_id < found.event_id) {
                missing.push(gone);
            }
            match expected.next_if(|leaf| leaf.event_id == found.event_id) {
                Some(leaf) if *leaf == found => same += 1,
                Some(_) => findings.push(finding(What::Edited, None, Some(found.event_id))),
                None => findings.push(finding(What::Inserted, None, Some(found.event_id))),
            }
        }
        drop(rows);
        missing.extend(expected);
        self.report.rows += same;
        for leaf in missing {
            if leaf.person != [0; 16] && !self.living.contains(&leaf.person) {
                self.report.erased += 1;
            } else {
                findings.push(finding(What::Deleted, None, Some(leaf.event_id)));
            }
        }
        findings.into_iter().for_each(|finding| self.tell(finding));
        Ok(())
    }
}

/// The day of `to_char(…, 'YYYY-MM-DD BC')`, if it is one after Christ.
fn day_of(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text.strip_suffix(" AD")?, "%Y-%m-%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_as_it_is_printed_and_nothing_else_is_one() {
        let anchor = Anchor {
            number: 12,
            hash: [0xab; 32],
        };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        for text in [
            "",
            "12",
            "12:ab",
            "x:abab",
            &format!("12:{}", "+1".repeat(32)),
            &format!("12:{}", "ü".repeat(32)),
        ] {
            assert!(text.parse::<Anchor>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_outside_of_the_calendar_is_none() {
        assert_eq!(day_of("2026-11-21 AD"), NaiveDate::from_ymd_opt(2026, 11, 21));
        for text in ["", "2026-11-21 BC", "2026-11-21"] {
            assert_eq!(day_of(text), None, "{text}");
        }
    }
}
