//! JSON text that `jsonb` takes.

use serde::ser::{Serialize, Serializer};

/// Headers as the object that the column holds. Of a name that comes twice the last value counts, as it does for
/// consumers; bytes that are not text are replaced.
pub(crate) fn headers<'a, I>(headers: I) -> String
where
    I: IntoIterator<Item = (&'a str, Option<&'a [u8]>), IntoIter: Clone>,
{
    struct Map<I>(I);

    impl<'a, I: Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone> Serialize for Map<I> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let text =
                |(name, value): (&'a str, Option<&'a [u8]>)| (name, value.map(String::from_utf8_lossy));
            serializer.collect_map(self.0.clone().map(text))
        }
    }

    let object = Map(headers.into_iter());
    // Text keys and values always make JSON; the column takes no null.
    let mut text = serde_json::to_string(&object).unwrap_or_else(|_| "{}".to_owned());
    while let Some(at) = find_nul(&text) {
        text.replace_range(at..at + NUL.len(), "\\ufffd");
    }
    text
}

/// U+0000 as JSON text holds it.
const NUL: &str = "\\u0000";

/// Where JSON text holds U+0000, the one character that `jsonb` does not take.
pub(crate) fn find_nul(json: &str) -> Option<usize> {
    json.match_indices(NUL).map(|(at, _)| at).find(|at| {
        // After an odd number of backslashes this one is itself escaped, and the text says `\u0000` in six letters.
        let backslashes = json
            .bytes()
            .take(*at)
            .rev()
            .take_while(|byte| *byte == b'\\')
            .count();
        backslashes.is_multiple_of(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_found_where_it_is_meant_and_not_where_it_is_spelled() {
        for (text, expected) in [
            ("plain", false),
            ("\0", true),
            ("\\u0000", false),
            ("\\\0", true),
            ("\\\\u0000", false),
            ("\\u0000 and \0", true),
        ] {
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(find_nul(&json).is_some(), expected, "{json}");
        }
    }

    #[test]
    fn headers_become_an_object_without_nul() {
        let text = headers([
            ("twice", Some(b"1".as_slice())),
            ("twice", Some(b"2")),
            ("none", None),
            ("nul\0", Some(b"a\0b")),
            ("bytes", Some(b"\xff")),
        ]);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            object,
            serde_json::json!({"twice": "2", "none": null, "nul\u{fffd}": "a\u{fffd}b", "bytes": "\u{fffd}"})
        );
    }
}
