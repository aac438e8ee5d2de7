use std::fmt;

/// Everything that is wrong with a configuration. Displays as one line per problem, each starting with the
/// name of the variable; values of secrets are never part of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ConfigProblems {
    lines: Vec<String>,
}

impl ConfigProblems {
    /// One line per problem, in the order they were found.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(super) fn add(&mut self, name: &str, what: impl fmt::Display) {
        let line = format!("{name} {what}");
        // Two parts of a configuration may read the same variable; its problem is still one problem.
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ConfigProblems {}
