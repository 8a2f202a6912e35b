//! [`Failure`]: why something could not be done.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use crate::bindings::types;

/// What a callback or a call to the host results in.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why something could not be done: a word for programs and a sentence for people.
///
/// Any [`std::error::Error`] turns into a failure with the code `failed` by way of `?`; its message is the error's, followed by those of
/// its sources. For that reason `Failure` is not a `std::error::Error` itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    code: String,
    message: String,
}

impl Failure {
    /// A failure of this code, one word in kebab-case, and message, a sentence.
    ///
    /// The host's own codes are among others `not-found`, `timeout`, `disconnected`, `busy`, `bad-message`, `forbidden`, `not-available`
    /// and `store-full`. A module may use codes of its own.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// The failure of a request that failed on every server that was asked; its code is `failed`. The message is `what`, such as
    /// `No server answered`, followed by each server's reason.
    pub fn of_all(what: impl Into<String>, reasons: &BTreeMap<String, String>) -> Self {
        let mut message = what.into();
        for (index, (id, reason)) in reasons.iter().enumerate() {
            message.push_str(if index == 0 { ": " } else { "; " });
            message.push_str(id);
            message.push_str(": ");
            message.push_str(reason);
        }
        Self::new("failed", message)
    }

    /// The word for programs.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        f.write_str(": ")?;
        f.write_str(&self.message)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new("failed", message)
    }
}

/// Takes over a failure that the host answered with.
pub(crate) fn from_host(failure: types::Failure) -> Failure {
    Failure { code: failure.code, message: failure.message }
}

/// Hands a failure to the host.
pub(crate) fn to_host(failure: Failure) -> types::Failure {
    types::Failure { code: failure.code, message: failure.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_failure_with_its_sources() {
        let inner = std::io::Error::other("disk on fire");
        let outer = std::io::Error::other(Outer(inner));
        let failure = Failure::from(outer);
        assert_eq!((failure.code(), failure.message()), ("failed", "cannot save: disk on fire"));
    }

    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot save")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
}
