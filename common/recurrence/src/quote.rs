//! Text from outside, made fit to stand in an error message.

/// Longest piece of foreign text repeated in a message, in characters.
const MAX_CHARS: usize = 40;

/// Cuts `text` short and escapes control characters, so that an error can be logged and shown as it is.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(MAX_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn long_text_is_cut_and_control_characters_are_escaped() {
        assert_eq!(quote("a\r\nb"), "a\\r\\nb");
        assert_eq!(quote(&"é".repeat(41)), format!("{}…", "é".repeat(40)));
        assert_eq!(quote(&"é".repeat(40)), "é".repeat(40));
    }
}
