//! Faults of the configuration: where, what, and how to mend it.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

/// One fault of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file it is in.
    pub file: PathBuf,
    /// Line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
    /// What is wrong. Never holds a password or a token.
    pub what: String,
    /// How to mend it.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}\n    hint: {}", self.what, self.hint)
    }
}

/// All faults of a configuration, in the order of files and places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Fault>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects faults while files are read, so that all can be told at once.
#[derive(Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(super) fn push(&self, fault: Fault) {
        self.0.borrow_mut().push(fault);
    }

    /// A fault of a file as a whole.
    pub(super) fn whole(&self, file: impl Into<PathBuf>, what: impl Into<String>, hint: impl Into<String>) {
        self.push(Fault { file: file.into(), line: 0, column: 0, what: what.into(), hint: hint.into() });
    }

    /// `value`, or the faults if there are any.
    pub(super) fn unless_any<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let mut faults = self.0.into_inner();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => {
                faults.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
                // What the members of a `clusterCount` share is found once for each.
                faults.dedup();
                Err(ConfigErrors(faults))
            }
        }
    }
}
