//! Faults of the configuration: where, what, and how to mend it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// One fault of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file it is in.
    pub file: PathBuf,
    /// Line, from 1; 0 if the fault is the whole file's.
    pub line: usize,
    /// Column in characters, from 1; 0 if the fault is the whole file's.
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

/// Collects faults and warnings while files are read, so that all can be reported at once.
#[derive(Default)]
pub(super) struct Faults {
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
    /// Places, by a name, of settings that can only be judged when all files have been read.
    places: RefCell<HashMap<String, Fault>>,
}

impl Faults {
    pub(super) fn push(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    pub(super) fn warn(&self, warning: Fault) {
        self.warnings.borrow_mut().push(warning);
    }

    /// Remembers the place of a setting under a name.
    pub(super) fn mark(&self, name: String, place: Fault) {
        self.places.borrow_mut().insert(name, place);
    }

    /// Adds a warning at a remembered place, if there is one of that name.
    pub(super) fn warn_at(&self, name: &str, what: impl Into<String>, hint: impl Into<String>) {
        let place = self.places.borrow().get(name).cloned();
        if let Some(place) = place {
            self.warn(Fault { what: what.into(), hint: hint.into(), ..place });
        }
    }

    /// Adds a fault at a remembered place, if there is one of that name.
    pub(super) fn fault_at(&self, name: &str, what: impl Into<String>, hint: impl Into<String>) {
        let place = self.places.borrow().get(name).cloned();
        if let Some(place) = place {
            self.push(Fault { what: what.into(), hint: hint.into(), ..place });
        }
    }

    /// Adds a warning about a file as a whole.
    pub(super) fn warn_whole(&self, file: impl Into<PathBuf>, what: impl Into<String>, hint: impl Into<String>) {
        self.warn(Fault { file: file.into(), line: 0, column: 0, what: what.into(), hint: hint.into() });
    }

    /// Adds a fault of a file as a whole.
    pub(super) fn whole(&self, file: impl Into<PathBuf>, what: impl Into<String>, hint: impl Into<String>) {
        self.push(Fault { file: file.into(), line: 0, column: 0, what: what.into(), hint: hint.into() });
    }

    /// Returns `value`, or the faults if there are any.
    pub(super) fn unless_any<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let (faults, _) = self.into_lists();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => Err(ConfigErrors(faults)),
        }
    }

    /// The faults and the warnings, each in the order of files and places.
    pub(super) fn into_lists(self) -> (Vec<Fault>, Vec<Fault>) {
        let sorted = |list: RefCell<Vec<Fault>>| {
            let mut list = list.into_inner();
            list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
            // The same fault of an entry with a `clusterCount` is found once for each server that it stands for.
            list.dedup();
            list
        };
        (sorted(self.faults), sorted(self.warnings))
    }
}
