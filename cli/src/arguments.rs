//! What several commands take.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

/// A time: an instant of RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When(pub(crate) DateTime<Utc>);

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self(at.to_utc()));
        }
        let ago = || {
            let split = text.len().checked_sub(1)?;
            let (number, unit) = text.split_at_checked(split)?;
            let number: u32 = number.parse().ok()?;
            let seconds = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            Utc::now().checked_sub_signed(TimeDelta::seconds(i64::from(number) * seconds))
        };
        ago().map(Self).ok_or_else(|| {
            "it is neither a time (2026-11-21T09:00:00Z) nor how long ago (30m, 6h, 2d)".to_owned()
        })
    }
}

/// A place in a topic: partition and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offset {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (partition, offset) = text.split_once(':')?;
            Some(Self {
                partition: partition.parse().ok().filter(|p| *p >= 0)?,
                offset: offset.parse().ok().filter(|o| *o >= 0)?,
            })
        };
        read().ok_or_else(|| "it is not PARTITION:OFFSET, such as 0:17".to_owned())
    }
}

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_or_so_long_ago() {
        let at = "2026-11-21T10:00:00+01:00".parse::<When>().unwrap().0;
        assert_eq!(at.to_rfc3339(), "2026-11-21T09:00:00+00:00");
        let then = "2h".parse::<When>().unwrap().0;
        let age = Utc::now() - then;
        assert_eq!(age.num_minutes(), 120);
        for bad in ["", "h", "yesterday", "-3h", "2ä", "4294967296d"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_offset_names_its_partition() {
        let offset: Offset = "3:17".parse().unwrap();
        assert_eq!((offset.partition, offset.offset), (3, 17));
        for bad in ["", "17", "3:", "-1:4", "3:x", "3:-1"] {
            assert!(bad.parse::<Offset>().is_err(), "{bad}");
        }
    }
}
