use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::ConfigProblems;
use super::secret::{self, Secret};

/// The variables a configuration is read from, and the problems found so far.
///
/// Every method returns `None` after it recorded a problem and goes on, so call all of them before the first
/// `?`. A variable that is set but blank counts as missing: it is what an unset variable becomes in a compose
/// file or a manifest. Values are trimmed of surrounding white space, except secrets; problems quote them,
/// except secrets.
#[must_use]
pub struct Env {
    variables: HashMap<String, OsString>,
    /// Whether each flag of the command line was asked for.
    flags: BTreeMap<String, bool>,
    problems: ConfigProblems,
}

impl Env {
    /// The environment of this process, without its command line.
    pub fn from_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self {
            variables: variables.collect(),
            flags: BTreeMap::new(),
            problems: ConfigProblems::default(),
        }
    }

    /// An environment of exactly these variables, for tests.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into().into()));
        Self {
            variables: variables.collect(),
            flags: BTreeMap::new(),
            problems: ConfigProblems::default(),
        }
    }

    /// Adds command-line flags such as `--once`. One that no [`Env::flag`] asks for is a problem.
    pub fn with_flags<F: Into<String>>(mut self, flags: impl IntoIterator<Item = F>) -> Self {
        self.flags
            .extend(flags.into_iter().map(|flag| (flag.into(), false)));
        self
    }

    /// Whether this command-line flag (written with its dashes) is given.
    pub fn flag(&mut self, name: &str) -> bool {
        self.flags.get_mut(name).map(|asked| *asked = true).is_some()
    }

    /// A value without which the service cannot start. The error of `T` should say what is accepted.
    pub fn required<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.optional(name)? {
            Some(value) => Some(value),
            None => self.problem(name, "is missing: it is required and has no default"),
        }
    }

    /// A value that may be absent: `Some(None)` when it is, `None` when it is there but not valid.
    pub fn optional<T>(&mut self, name: &str) -> Option<Option<T>>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.text(name)? else {
            return Some(None);
        };
        match text.trim().parse() {
            Ok(value) => Some(Some(value)),
            Err(why) => self.problem(name, format_args!("is {text:?}: {why}")),
        }
    }

    /// A value with a default.
    pub fn or<T>(&mut self, name: &str, default: T) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        Some(self.optional(name)?.unwrap_or(default))
    }

    /// A number, or anything else that is ordered, between two bounds that are both accepted.
    pub fn within<T>(&mut self, name: &str, default: T, accepted: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name)? else {
            return Some(default);
        };
        match text.trim().parse() {
            Ok(value) if accepted.contains(&value) => Some(value),
            _ => {
                let (least, most) = accepted.into_inner();
                self.problem(
                    name,
                    format_args!("is {text:?}: accepted are numbers from {least} to {most}"),
                )
            }
        }
    }

    /// A whole number of milliseconds.
    pub fn duration_ms(
        &mut self,
        name: &str,
        default: Duration,
        accepted: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        // No duration of a configuration comes near 2^64 ms, which is 585 million years.
        let count = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let accepted = count(accepted.start())..=count(accepted.end());
        self.within(name, count(&default), accepted)
            .map(Duration::from_millis)
    }

    /// A whole number of seconds.
    pub fn duration_seconds(
        &mut self,
        name: &str,
        default: Duration,
        accepted: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let accepted = accepted.start().as_secs()..=accepted.end().as_secs();
        self.within(name, default.as_secs(), accepted)
            .map(Duration::from_secs)
    }

    /// One of a few words, compared without regard to case.
    pub fn one_of<T: Clone>(&mut self, name: &str, accepted: &[(&str, T)], default: T) -> Option<T> {
        let Some(text) = self.text(name)? else {
            return Some(default);
        };
        if let Some((_, value)) = accepted
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text.trim()))
        {
            return Some(value.clone());
        }
        let words: Vec<&str> = accepted.iter().map(|(word, _)| *word).collect();
        self.problem(
            name,
            format_args!("is {text:?}: accepted are {}", words.join(", ")),
        )
    }

    /// A secret without which the service cannot start: the value of `NAME`, or the content of the file that
    /// `NAME_FILE` names (less one trailing newline). Setting both is a problem, since one of them must be
    /// stale.
    pub fn secret(&mut self, name: &str) -> Option<SecretString> {
        self.changing_secret(name).map(|secret| secret.current())
    }

    /// A secret that may be absent: `Some(None)` when neither `NAME` nor `NAME_FILE` is set.
    pub fn optional_secret(&mut self, name: &str) -> Option<Option<SecretString>> {
        let secret = self.optional_changing_secret(name)?;
        Some(secret.map(|secret| secret.current()))
    }

    /// As [`Env::secret`], for one that is asked for again and again: in a file it may be changed while we run.
    pub fn changing_secret(&mut self, name: &str) -> Option<Secret> {
        match self.optional_changing_secret(name)? {
            Some(secret) => Some(secret),
            None => self.problem(
                name,
                format_args!("is missing: set it, or {name}_FILE to a file that holds it"),
            ),
        }
    }

    /// As [`Env::optional_secret`], for one that is asked for again and again.
    pub fn optional_changing_secret(&mut self, name: &str) -> Option<Option<Secret>> {
        let name_of_file = format!("{name}_FILE");
        let (direct, path) = (self.text(name), self.text(&name_of_file));
        match (direct?, path?) {
            (None, None) => Some(None),
            (Some(secret), None) => Some(Some(Secret::from(secret))),
            (None, Some(path)) => self.secret_in_file(&name_of_file, path.trim()).map(Some),
            (Some(_), Some(_)) => self.problem(
                name,
                format_args!("and {name_of_file} are both set: accepted is one"),
            ),
        }
    }

    /// Records what is wrong with a value only a cross-check can tell, such as two limits that contradict
    /// each other. `why` follows the name in the report ("must be below ..."), and must not tell a secret.
    pub fn reject(&mut self, name: &str, why: impl Display) {
        self.problems.add(name, why);
    }

    pub(super) fn into_problems(mut self) -> ConfigProblems {
        for (flag, _) in self.flags.iter().filter(|(_, asked)| !**asked) {
            self.problems.add(flag, "is not a flag of this command");
        }
        self.problems
    }

    fn secret_in_file(&mut self, name: &str, path: &str) -> Option<Secret> {
        match secret::read(path.as_ref()) {
            Ok(content) if content.expose_secret().is_empty() => {
                self.problem(name, format_args!("names {path:?}, which is empty"))
            }
            Ok(content) => Some(Secret::in_file(path.into(), content)),
            Err(why) => self.problem(name, format_args!("names {path:?}, which cannot be read: {why}")),
        }
    }

    fn text(&mut self, name: &str) -> Option<Option<String>> {
        match self.variables.get(name).map(|value| value.to_str()) {
            None => Some(None),
            Some(Some(text)) if text.trim().is_empty() => Some(None),
            Some(Some(text)) => Some(Some(text.to_owned())),
            Some(None) => self.problem(name, "is not UTF-8"),
        }
    }

    fn problem<T>(&mut self, name: &str, what: impl Display) -> Option<T> {
        self.problems.add(name, what);
        None
    }
}

// Not derived: the variables hold secrets.
impl Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}
