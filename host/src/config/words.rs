//! Words that stand for a choice, of a server and of `[supervise]`: `ready` and `restart`.

use super::reader::{File, did_you_mean};
use crate::supervise::Restart;

/// What says that a program is ready, so that its server is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `delay`: it has run for `ready_delay_ms`.
    Delay,
    /// `port`: somebody listens on its `port`, or where it has none on its `clientPort`.
    Port,
    /// `control`: it says so over its control socket.
    Control,
}

/// What says that a program is ready, by its word; a fault where there is no such word, or no port to look at.
pub(super) fn ready_word(file: File<'_>, word: &str, at: usize, has_port: bool) -> Option<Ready> {
    const WORDS: [&str; 3] = ["delay", "port", "control"];
    match word {
        "delay" => Some(Ready::Delay),
        "port" if has_port => Some(Ready::Port),
        "control" => Some(Ready::Control),
        "port" => {
            file.fault(at, "`ready` is `port`, and the server has none", r#"give it one: "port": 3050"#);
            None
        }
        _ => {
            file.fault(at, format!("`ready` cannot be `{word}`"), did_you_mean(word, &WORDS));
            None
        }
    }
}

/// The restart policy of that name, or a fault.
pub(super) fn restart_word(file: File<'_>, word: &str, at: usize) -> Option<Restart> {
    const WORDS: [&str; 3] = ["always", "on-failure", "never"];
    match word {
        "always" => Some(Restart::Always),
        "on-failure" => Some(Restart::OnFailure),
        "never" => Some(Restart::Never),
        _ => {
            file.fault(at, format!("`restart` cannot be `{word}`"), did_you_mean(word, &WORDS));
            None
        }
    }
}
