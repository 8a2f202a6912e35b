//! The words of `ready` and `restart`, for a server and in `[supervise]`, and of `wire` in `[network]`.

use super::reader::{File, did_you_mean};
use crate::supervise::Restart;
use crate::transport::Wire;

/// What says that a program is ready, so that its server is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `delay`: it has run for `ready_delay_ms`.
    Delay,
    /// `port`: somebody listens on its `port`, or on its `clientPort` if it has no `port`.
    Port,
    /// `control`: it says so over its control socket.
    Control,
}

/// Parses `ready`. Keeps a fault if there is no such word, or no port for `port`.
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

/// Parses `restart`. Keeps a fault if there is no such word.
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

/// Parses `wire`. Keeps a fault if there is no such word.
pub(super) fn wire_word(file: File<'_>, word: &str, at: usize) -> Option<Wire> {
    const WORDS: [&str; 2] = ["socket.io", "pomelo"];
    match word {
        "socket.io" => Some(Wire::SocketIo),
        "pomelo" => Some(Wire::Pomelo),
        _ => {
            file.fault(at, format!("`wire` cannot be `{word}`"), did_you_mean(word, &WORDS));
            None
        }
    }
}
