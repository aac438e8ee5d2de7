//! How words are searched for, in the way that people know from the web: all of them; `"a phrase"`; `-not this`; `this or
//! that`. The last word may be the beginning of one, since people search while they type.

use serde::Serialize;

/// Most words and phrases of one question.
pub const MAX_TERMS: usize = 20;

/// What is searched for: one of several alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Each is a list of terms that must all hold.
    pub alternatives: Vec<Vec<Term>>,
}

/// A word or a phrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Term {
    /// As it was written. What its words are is PostgreSQL's to say, which reads tasks by the same rules.
    pub text: String,
    /// It must not be there.
    pub negated: bool,
    /// Its last word may go on.
    pub starts: bool,
}

impl Question {
    /// Reads a question; every text is one. An error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut alternatives = vec![Vec::new()];
        let mut terms = 0;
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (term, after) = next_term(rest);
            rest = after.trim_start();
            let Some(term) = term else {
                continue;
            };
            if !term.quoted && !term.negated && term.text.eq_ignore_ascii_case("or") {
                // At the beginning, at the end and after another one there is nothing to choose between.
                if !rest.is_empty() && alternatives.last().is_some_and(|terms| !terms.is_empty()) {
                    alternatives.push(Vec::new());
                }
                continue;
            }
            terms += 1;
            // One letter begins so many words that it says nothing; one character of a script without letters does.
            let says_something = term.text.len() > 1;
            let term = Term {
                text: term.text.to_owned(),
                negated: term.negated,
                starts: term.open && after.is_empty() && !term.negated && says_something,
            };
            if let Some(terms) = alternatives.last_mut() {
                terms.push(term);
            }
        }
        if terms > MAX_TERMS {
            return Err(format!(
                "must have at most {MAX_TERMS} words and phrases, not {terms}"
            ));
        }
        alternatives.retain(|terms| !terms.is_empty());
        Ok(Self { alternatives })
    }

    /// What must be there, without what must not.
    pub fn positive(&self) -> Self {
        self.each(|term| (!term.negated).then(|| term.clone()))
    }

    /// The same with the last word as it is.
    pub fn whole(&self) -> Self {
        self.each(|term| {
            Some(Term {
                starts: false,
                ..term.clone()
            })
        })
    }

    fn each(&self, change: impl Fn(&Term) -> Option<Term>) -> Self {
        let alternatives = self.alternatives.iter();
        let changed = alternatives.map(|terms| terms.iter().filter_map(&change).collect::<Vec<_>>());
        Self {
            alternatives: changed.filter(|terms| !terms.is_empty()).collect(),
        }
    }

    /// The words that must be there, for finding what is similar to them.
    pub fn words(&self) -> Vec<&str> {
        let terms = self.alternatives.iter().flatten();
        terms
            .filter(|term| !term.negated)
            .flat_map(|term| term.text.split_whitespace())
            .take(MAX_TERMS)
            .collect()
    }
}

/// A term as it stands in the text.
struct RawTerm<'a> {
    text: &'a str,
    quoted: bool,
    negated: bool,
    /// Nothing marks its end.
    open: bool,
}

/// The first term of a text that does not begin with a blank, if it says anything, and what follows it.
fn next_term(text: &str) -> (Option<RawTerm<'_>>, &str) {
    const QUOTES: [char; 4] = ['"', '“', '”', '„'];
    let bare = text.trim_start_matches('-');
    let negated = bare.len() < text.len();
    let (text, quoted, open, rest) = match bare.strip_prefix(QUOTES) {
        Some(inner) => match inner.split_once(QUOTES) {
            Some((phrase, rest)) => (phrase, true, false, rest),
            None => (inner, true, true, ""),
        },
        None => {
            let end = bare
                .find(|c: char| c.is_whitespace() || QUOTES.contains(&c))
                .unwrap_or(bare.len());
            let (word, rest) = bare.split_at(end);
            (word, false, true, rest)
        }
    };
    let term = RawTerm {
        text: text.trim(),
        quoted,
        negated,
        open,
    };
    // A dash between blanks, or quotes around nothing.
    (Some(term).filter(|term| !term.text.is_empty()), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-` before what must not be there, `*` behind what may go on, quotes around each.
    fn shown(text: &str) -> String {
        let alternatives = Question::parse(text).unwrap().alternatives;
        let show = |term: &Term| {
            let (negated, starts) = (
                if term.negated { "-" } else { "" },
                if term.starts { "*" } else { "" },
            );
            format!("{negated}<{}>{starts}", term.text)
        };
        let shown = alternatives
            .iter()
            .map(|terms| terms.iter().map(show).collect::<Vec<_>>().join(" "));
        shown.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn questions_are_read_as_on_the_web() {
        for (text, expected) in [
            ("milk", "<milk>*"),
            ("milk ", "<milk>"),
            ("buy milk", "<buy> <milk>*"),
            ("  buy   milk  ", "<buy> <milk>"),
            ("\"buy milk\"", "<buy milk>"),
            ("\"buy mil", "<buy mil>*"),
            ("“buy milk” now", "<buy milk> <now>*"),
            ("milk -bread", "<milk> -<bread>"),
            ("-\"oat milk\" milk", "-<oat milk> <milk>*"),
            ("milk -", "<milk>"),
            ("milk - bread", "<milk> <bread>*"),
            ("--milk", "-<milk>"),
            ("e-mail", "<e-mail>*"),
            ("milk or bread", "<milk> | <bread>*"),
            ("buy milk OR buy bread", "<buy> <milk> | <buy> <bread>*"),
            ("or milk", "<milk>*"),
            ("milk or", "<milk>"),
            ("milk or or bread", "<milk> | <bread>*"),
            ("milk \"or\" bread", "<milk> <or> <bread>*"),
            ("milk -or", "<milk> -<or>"),
            ("a", "<a>"),
            ("京", "<京>*"),
            ("\"\" milk", "<milk>*"),
            ("say\"cheese\"", "<say> <cheese>"),
            ("\"", ""),
            ("", ""),
            ("!!", "<!!>*"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_question_is_bounded() {
        let words = |n: usize| vec!["x"; n].join(" ");
        assert!(Question::parse(&words(MAX_TERMS)).is_ok());
        assert!(Question::parse(&words(MAX_TERMS + 1)).is_err());
    }
}
