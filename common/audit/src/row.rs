//! A row of `audit.events` as a leaf.

use aws_lc_rs::digest::{Context, SHA256, digest};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::Hash;

/// The columns that [`leaf`] reads. Times as microseconds since 1970, and null where they are endless: nothing that somebody
/// writes into a row may end the one who looks for it.
pub const COLUMNS: &str = "event_id, \
     case when isfinite(occurred_at) then (extract(epoch from occurred_at) * 1000000)::bigint end as occurred_micros, \
     topic, partition_id, offset_id, event_type, user_id, task_id, actor, payload::text as payload, raw, \
     headers::text as headers, \
     case when isfinite(recorded_at) then (extract(epoch from recorded_at) * 1000000)::bigint end as recorded_micros";

/// Length of a [`Leaf`] in `audit.seals.leaves`.
pub const LEAF_BYTES: usize = 64;

/// What a seal keeps of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Which row it is.
    pub event_id: Uuid,
    /// Of all that is in the row.
    pub digest: Hash,
    /// Whose row it is, see [`person`]; zeros when nobody's. It tells whether a row that is gone went with its account.
    pub person: [u8; 16],
}

impl Leaf {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEAF_BYTES] {
        let mut bytes = [0; LEAF_BYTES];
        let (id, rest) = bytes.split_at_mut(16);
        let (digest, person) = rest.split_at_mut(32);
        id.copy_from_slice(self.event_id.as_bytes());
        digest.copy_from_slice(&self.digest);
        person.copy_from_slice(&self.person);
        bytes
    }

    /// From bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LEAF_BYTES]) -> Self {
        let (mut id, mut digest, mut person) = ([0; 16], [0; 32], [0; 16]);
        let (first, rest) = bytes.split_at(16);
        let (second, third) = rest.split_at(32);
        id.copy_from_slice(first);
        digest.copy_from_slice(second);
        person.copy_from_slice(third);
        Self {
            event_id: Uuid::from_bytes(id),
            digest,
            person,
        }
    }
}

/// Tells a person from all others, and leads back to nobody whose id is gone.
#[must_use]
pub fn person(user_id: Uuid) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    context.update(b"carillon.audit.person.1");
    context.update(user_id.as_bytes());
    let mut tag = [0; 16];
    tag.iter_mut()
        .zip(context.finish().as_ref())
        .for_each(|(to, from)| *to = *from);
    tag
}

/// The leaf of a row of [`COLUMNS`].
///
/// # Errors
/// When a column is missing or of another type.
pub fn leaf(row: &PgRow) -> Result<Leaf, sqlx::Error> {
    let event_id: Uuid = row.try_get("event_id")?;
    let user_id: Option<Uuid> = row.try_get("user_id")?;
    let mut fields = Fields::default();
    fields.add(Some(event_id.as_bytes()));
    fields.number(row.try_get("occurred_micros")?);
    fields.text(row.try_get("topic")?);
    fields.number(Some(row.try_get::<i32, _>("partition_id")?.into()));
    fields.number(Some(row.try_get("offset_id")?));
    fields.text(row.try_get("event_type")?);
    fields.add(user_id.as_ref().map(|id| id.as_bytes().as_slice()));
    fields.add(
        row.try_get::<Option<Uuid>, _>("task_id")?
            .as_ref()
            .map(|id| id.as_bytes().as_slice()),
    );
    fields.text(row.try_get("actor")?);
    fields.text(row.try_get("payload")?);
    fields.add(row.try_get("raw")?);
    fields.text(row.try_get("headers")?);
    fields.number(row.try_get("recorded_micros")?);
    Ok(Leaf {
        event_id,
        digest: fields.digest(),
        person: user_id.map_or([0; 16], person),
    })
}

/// Fields one behind the other, each with its length, so that none can pass for a part of its neighbour.
struct Fields(Vec<u8>);

impl Default for Fields {
    fn default() -> Self {
        Self(b"carillon.audit.row.1".to_vec())
    }
}

impl Fields {
    fn add(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.0.push(0),
            Some(field) => {
                self.0.push(1);
                self.0.extend((field.len() as u64).to_be_bytes());
                self.0.extend(field);
            }
        }
    }

    fn text(&mut self, field: Option<&str>) {
        self.add(field.map(str::as_bytes));
    }

    fn number(&mut self, field: Option<i64>) {
        self.add(field.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }

    fn digest(&self) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_from_one_field_into_the_next() {
        let of = |fields: &[Option<&str>]| {
            let mut all = Fields::default();
            fields.iter().for_each(|field| all.text(*field));
            all.digest()
        };
        let known = [
            of(&[Some("ab"), Some("c")]),
            of(&[Some("a"), Some("bc")]),
            of(&[Some("abc"), Some("")]),
            of(&[Some("abc"), None]),
            of(&[None, Some("abc")]),
            of(&[Some("abc")]),
        ];
        for (n, one) in known.iter().enumerate() {
            assert!(known.iter().skip(n + 1).all(|other| other != one), "{n}");
        }
    }

    #[test]
    fn a_leaf_comes_back_from_its_bytes() {
        let leaf = Leaf {
            event_id: Uuid::from_u128(7),
            digest: [1; 32],
            person: person(Uuid::from_u128(8)),
        };
        assert_eq!(Leaf::from_bytes(&leaf.to_bytes()), leaf);
        assert_ne!(person(Uuid::from_u128(8)), person(Uuid::from_u128(9)));
    }
}
