//! Faults of the machine that last, such as a disk that is full.
//!
//! Whoever meets a fault says when it begins and when it is over. Each of the two is an event and a line of the log. While it lasts it is a problem that
//! `/healthz` names, and the metric `pomelo_faults` is 1. Nothing here knows what the parts do with their faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Event, Journal, kind};

/// The faults that last, by the part that has met each. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<BTreeMap<&'static str, String>>>);

/// What meets faults: the label `at` of the metric `pomelo_faults`.
pub mod at {
    /// The database of durable state.
    pub const STATE: &str = "state";
    /// The admin log.
    pub const ADMIN_LOG: &str = "admin-log";
    /// The file of what clients only looked at.
    pub const ADMIN_LOOKS: &str = "admin-looks";
    /// The file that a program's output is kept in.
    pub const OUTPUT: &str = "output";
    /// The file with a program's view of the cluster.
    pub const VIEW: &str = "view";
    /// The port, where connections cannot be accepted.
    pub const LISTENER: &str = "listener";
    /// The control socket, where connections cannot be accepted.
    pub const CONTROL: &str = "control";
}

impl Journal {
    /// Says that a fault has begun, or that it lasts: only the first time is told, until it is over. `message` is a sentence that names what cannot be used,
    /// and why.
    pub fn fault(&self, at: &'static str, server: Option<&str>, message: impl Into<String>) {
        let message = message.into();
        let before = self.faults.0.lock().insert(at, message.clone());
        if before.is_none() {
            metrics::gauge!("pomelo_faults", "at" => at).set(1.0);
            tracing::error!("{message}");
            self.tell(server, message);
        }
    }

    /// Says that a fault is over. Nothing is told if there was none.
    pub fn fault_over(&self, at: &'static str, server: Option<&str>, message: &str) {
        if self.faults.0.lock().remove(at).is_some() {
            metrics::gauge!("pomelo_faults", "at" => at).set(0.0);
            tracing::warn!("over: {message}");
            self.tell(server, format!("over: {message}"));
        }
    }

    /// The faults that last, a sentence each.
    pub fn faults(&self) -> Vec<String> {
        self.faults.0.lock().values().cloned().collect()
    }

    fn tell(&self, server: Option<&str>, message: String) {
        let event = Event::new(kind::ALARM, message);
        self.record(match server {
            Some(server) => event.server(server),
            None => event,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_when_it_begins_and_when_it_is_over_and_is_named_as_it_is_now() {
        let journal = Journal::new(10);
        journal.fault_over(at::STATE, None, "it is written again");
        for why in ["full", "full", "gone"] {
            journal.clone().fault(at::STATE, None, format!("it is {why}"));
        }
        assert_eq!(journal.faults(), ["it is gone"]);
        journal.fault(at::OUTPUT, Some("chat-1"), "another");
        journal.fault_over(at::STATE, None, "it is written again");
        assert_eq!(journal.faults(), ["another"]);
        let page = journal.page(0);
        let told: Vec<_> = page.events.iter().map(|event| (event.server.as_deref(), &*event.message)).collect();
        assert_eq!(told, [(None, "it is full"), (Some("chat-1"), "another"), (None, "over: it is written again")]);
    }
}
