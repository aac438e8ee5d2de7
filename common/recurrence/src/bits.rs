//! Sets of small numbers.

/// Numbers from 0 to 383: the days of a year and some around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bits([u64; 6]);

impl Bits {
    pub(crate) const LEN: usize = 384;

    pub(crate) fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    pub(crate) fn get(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; 6]
    }

    /// How many are smaller.
    pub(crate) fn below(&self, index: usize) -> usize {
        let (word, bit) = (index / 64, index % 64);
        let whole: u32 = self.0[..word].iter().map(|word| word.count_ones()).sum();
        let part = self
            .0
            .get(word)
            .map_or(0, |word| (word & ((1 << bit) - 1)).count_ones());
        (whole + part) as usize
    }

    /// The one that so many are smaller than.
    pub(crate) fn nth(&self, mut n: usize) -> Option<usize> {
        for (index, word) in self.0.iter().enumerate() {
            let here = word.count_ones() as usize;
            if n < here {
                return nth_bit(*word, n).map(|bit| index * 64 + bit);
            }
            n -= here;
        }
        None
    }

    /// The smallest that is not below `index`.
    pub(crate) fn next(&self, index: usize) -> Option<usize> {
        let word = index / 64;
        let first = self.0.get(word)? & (u64::MAX << (index % 64));
        if first != 0 {
            return Some(word * 64 + first.trailing_zeros() as usize);
        }
        (word + 1..6)
            .find(|word| self.0[*word] != 0)
            .map(|word| word * 64 + self.0[word].trailing_zeros() as usize)
    }

    /// The largest that is not above `index`, which must be below 384.
    pub(crate) fn prev(&self, index: usize) -> Option<usize> {
        let word = index / 64;
        let last = |word: usize, bits: u64| word * 64 + 63 - bits.leading_zeros() as usize;
        let first = self.0[word] & (u64::MAX >> (63 - index % 64));
        if first != 0 {
            return Some(last(word, first));
        }
        (0..word)
            .rev()
            .find(|word| self.0[*word] != 0)
            .map(|word| last(word, self.0[word]))
    }

    /// The `len` numbers (below 64) from `index` on, with that one as 0.
    pub(crate) fn slice(&self, index: usize, len: usize) -> u64 {
        let (word, bit) = (index / 64, index % 64);
        let mut bits = self.0[word] >> bit;
        if bit + len > 64 && word < 5 {
            bits |= self.0[word + 1] << (64 - bit);
        }
        bits & ((1 << len) - 1)
    }
}

impl From<u64> for Bits {
    fn from(bits: u64) -> Self {
        Self([bits, 0, 0, 0, 0, 0])
    }
}

fn nth_bit(mut word: u64, n: usize) -> Option<usize> {
    for _ in 0..n {
        word &= word.wrapping_sub(1);
    }
    (word != 0).then(|| word.trailing_zeros() as usize)
}

/// The times of a stretch that starts on a whole unit, in seconds from its start: all combinations of hours, minutes
/// and seconds, or only those listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Times {
    Product {
        hours: u64,
        minutes: u64,
        seconds: u64,
    },
    /// Ascending, each once.
    Listed(Vec<i64>),
}

impl Times {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Product {
                hours,
                minutes,
                seconds,
            } => (hours.count_ones() * minutes.count_ones() * seconds.count_ones()) as usize,
            Self::Listed(times) => times.len(),
        }
    }

    /// How many are earlier.
    pub(crate) fn below(&self, second: i64) -> usize {
        let (hours, minutes, seconds) = match self {
            Self::Product {
                hours,
                minutes,
                seconds,
            } => (*hours, *minutes, *seconds),
            Self::Listed(times) => return times.partition_point(|time| *time < second),
        };
        if second >= 86_400 {
            return self.len();
        }
        let under = |bits: u64, value: i64| (bits & ((1_u64 << value) - 1)).count_ones() as usize;
        let has = |bits: u64, value: i64| bits >> value & 1 == 1;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (per_minute, per_hour) = (
            seconds.count_ones() as usize,
            (minutes.count_ones() * seconds.count_ones()) as usize,
        );
        let mut below = under(hours, hour) * per_hour;
        if has(hours, hour) {
            below += under(minutes, minute) * per_minute;
            if has(minutes, minute) {
                below += under(seconds, second);
            }
        }
        below
    }

    /// The one that so many are earlier than.
    pub(crate) fn nth(&self, n: usize) -> Option<i64> {
        match self {
            Self::Product {
                hours,
                minutes,
                seconds,
            } => {
                let per_minute = seconds.count_ones() as usize;
                let per_hour = per_minute * minutes.count_ones() as usize;
                if per_hour == 0 {
                    return None;
                }
                let hour = nth_bit(*hours, n / per_hour)?;
                let minute = nth_bit(*minutes, n % per_hour / per_minute)?;
                let second = nth_bit(*seconds, n % per_minute)?;
                Some((hour * 3600 + minute * 60 + second) as i64)
            }
            Self::Listed(times) => times.get(n).copied(),
        }
    }

    /// The earliest that is not before `second`.
    pub(crate) fn next(&self, second: i64) -> Option<i64> {
        self.nth(self.below(second))
    }

    /// The latest that is not after `second`.
    pub(crate) fn prev(&self, second: i64) -> Option<i64> {
        self.nth(self.below(second + 1).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_agree_with_a_list_of_numbers() {
        let list = [0_usize, 1, 5, 63, 64, 65, 127, 200, 319, 320, 383];
        let mut bits = Bits::default();
        for index in list {
            bits.set(index);
        }
        assert_eq!(bits.len(), list.len());
        for index in 0..Bits::LEN {
            assert_eq!(bits.get(index), list.contains(&index));
            assert_eq!(
                bits.below(index),
                list.iter().filter(|value| **value < index).count()
            );
            assert_eq!(
                bits.next(index),
                list.iter().copied().find(|value| *value >= index)
            );
            assert_eq!(
                bits.prev(index),
                list.iter().rev().copied().find(|value| *value <= index)
            );
            assert_eq!(bits.nth(index), list.get(index).copied());
            let slice: u64 = (0..40)
                .filter(|i| list.contains(&(index + i)))
                .map(|i| 1 << i)
                .sum();
            assert_eq!(bits.slice(index, 40), slice, "{index}");
        }
        assert_eq!(bits.next(Bits::LEN), None);
        assert_eq!(bits.below(Bits::LEN), list.len());
    }

    #[test]
    fn times_agree_with_a_list_of_seconds() {
        let product = Times::Product {
            hours: 1 << 2 | 1 << 3 | 1 << 23,
            minutes: 1 | 1 << 59,
            seconds: 1 << 7 | 1 << 30,
        };
        let all: Vec<i64> = (0..86_400)
            .filter(|s| {
                [2, 3, 23].contains(&(s / 3600))
                    && [0, 59].contains(&(s / 60 % 60))
                    && [7, 30].contains(&(s % 60))
            })
            .collect();
        for times in [product, Times::Listed(all.clone())] {
            assert_eq!(times.len(), all.len());
            for second in (0..86_400).step_by(7).chain(all.clone()) {
                assert_eq!(times.below(second), all.iter().filter(|t| **t < second).count());
                assert_eq!(times.next(second), all.iter().copied().find(|t| *t >= second));
                assert_eq!(
                    times.prev(second),
                    all.iter().rev().copied().find(|t| *t <= second)
                );
            }
            assert_eq!(times.nth(all.len()), None);
        }
    }
}
