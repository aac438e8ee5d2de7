//! The one place that decides what a database error means. Everything else asks [`classify`].

use sqlx::Error;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// What to do about a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The database is away, starting, or gave up a deadlock: wait and try the same again.
    Transient,
    /// The database or our pool is at its limit: try again with more patience, and take less meanwhile.
    Saturation,
    /// The values are at fault. The same values will fail again; other values may not.
    Data,
    /// The statement, the rights or the schema are at fault: a bug or a bad deployment. Trying again mends nothing.
    Bug,
}

impl Failure {
    /// Whether waiting may mend it.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Saturation)
    }
}

/// What `error` means, by its SQLSTATE (PostgreSQL documentation, appendix A) where there is one.
#[must_use]
pub fn classify(error: &Error) -> Failure {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolClosed | Error::WorkerCrashed => {
            Failure::Transient
        }
        // The pool hands out no connection in time: all are busy, or none can be made because the server is away.
        Error::PoolTimedOut => Failure::Saturation,
        Error::Database(error) => {
            let severity = error
                .try_downcast_ref::<PgDatabaseError>()
                .map(PgDatabaseError::severity);
            let ended = matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic));
            error
                .code()
                .map_or(Failure::Bug, |code| classify_sqlstate(&code, ended))
        }
        _ => Failure::Bug,
    }
}

/// `ended`: the server ended the session, not only the statement.
fn classify_sqlstate(code: &str, ended: bool) -> Failure {
    match code {
        // too_many_connections; statement_timeout; lock_timeout; out of memory, of disk, of some configured limit.
        "53300" | "57014" | "55P03" => Failure::Saturation,
        // serialization_failure, deadlock_detected; the server goes down, has crashed, or is not yet up.
        "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "57P05" => Failure::Transient,
        // A server that is about to be a replica again, after a fail-over under our feet.
        "25006" => Failure::Transient,
        _ => match code.get(..2) {
            Some("08" | "58") => Failure::Transient,
            Some("53") => Failure::Saturation,
            Some("22" | "23") => Failure::Data,
            // An internal error that ends the session is none of our statement's: on a full disk a session that begins ends
            // with "could not write init file", XX000.
            Some("XX") if ended => Failure::Transient,
            _ => Failure::Bug,
        },
    }
}

/// The name of the constraint that `error` says was violated, if it does.
#[must_use]
pub fn violated_constraint(error: &Error) -> Option<&str> {
    match error {
        Error::Database(error) => error.constraint(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_are_sorted_into_what_to_do_about_them() {
        for (code, expected) in [
            ("08006", Failure::Transient),
            ("57P01", Failure::Transient),
            ("57P03", Failure::Transient),
            ("40P01", Failure::Transient),
            ("40001", Failure::Transient),
            ("25006", Failure::Transient),
            ("53300", Failure::Saturation),
            ("53100", Failure::Saturation),
            ("57014", Failure::Saturation),
            ("22021", Failure::Data),
            ("23505", Failure::Data),
            ("42501", Failure::Bug),
            ("42P01", Failure::Bug),
            ("XX000", Failure::Bug),
        ] {
            assert_eq!(classify_sqlstate(code, false), expected, "{code}");
        }
    }

    #[test]
    fn an_internal_error_that_ends_the_session_is_not_the_statements_fault_and_a_refused_role_is_for_good() {
        assert_eq!(classify_sqlstate("XX000", true), Failure::Transient);
        assert_eq!(classify_sqlstate("28P01", true), Failure::Bug);
        assert_eq!(classify_sqlstate("42501", true), Failure::Bug);
    }

    #[test]
    fn a_pool_without_a_free_connection_is_saturation_and_a_broken_wire_is_transient() {
        assert_eq!(classify(&Error::PoolTimedOut), Failure::Saturation);
        assert_eq!(
            classify(&Error::Io(std::io::ErrorKind::ConnectionRefused.into())),
            Failure::Transient
        );
        assert_eq!(classify(&Error::RowNotFound), Failure::Bug);
    }
}
