//! Why something could not be done, in the form in which modules, peers and callers see it.
//!
//! The same two members everywhere: in WIT (`types.failure`), in JSON (the `error` of a response) and on the command line.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::util::visible::escaped_lines;

/// A failure that a caller may see: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// One word in kebab-case. The host's own are the constants of [`code`]; a module may use others.
    pub code: Cow<'static, str>,
    /// A sentence that says what happened and, where it helps, what to do.
    pub message: String,
}

/// The codes that the host itself gives.
pub mod code {
    /// No module of that id is loaded.
    pub const UNKNOWN_MODULE: &str = "unknown-module";
    /// The module is disabled.
    pub const DISABLED: &str = "disabled";
    /// The module does not export the handler that this message needs.
    pub const NO_HANDLER: &str = "no-handler";
    /// The handler trapped: a panic, an unreachable instruction, a stack overflow.
    pub const TRAP: &str = "trap";
    /// The deadline passed.
    pub const TIMEOUT: &str = "timeout";
    /// The handler used up its CPU budget.
    pub const CPU_LIMIT: &str = "cpu-limit";
    /// The handler wanted more memory than its instance may have.
    pub const MEMORY_LIMIT: &str = "memory-limit";
    /// The store would grow past its limit.
    pub const STORE_FULL: &str = "store-full";
    /// A queue or table that this call needed is full.
    pub const BUSY: &str = "busy";
    /// The handler's answer is not JSON, or is larger than an answer may be.
    pub const BAD_ANSWER: &str = "bad-answer";
    /// The call was under way in a version that was replaced and did not end in time.
    pub const RELOADED: &str = "reloaded";
    /// The peer left before it answered.
    pub const DISCONNECTED: &str = "disconnected";
    /// The connection to the peer is lost, and may come back. The peer was not asked, and may still run.
    pub const UNREACHABLE: &str = "unreachable";
    /// No such server, key or thing.
    pub const NOT_FOUND: &str = "not-found";
    /// This host does not offer the function.
    pub const NOT_AVAILABLE: &str = "not-available";
    /// The caller may not do this.
    pub const FORBIDDEN: &str = "forbidden";
    /// The message cannot be understood.
    pub const BAD_MESSAGE: &str = "bad-message";
    /// The handler trapped too often in a row and is not called for a while.
    pub const PUT_ASIDE: &str = "put-aside";
    /// Calls are nested too deeply.
    pub const TOO_DEEP: &str = "too-deep";
    /// The peer has not registered.
    pub const NOT_REGISTERED: &str = "not-registered";
    /// A handler failed without saying more, or a peer sent an error of another form.
    pub const FAILED: &str = "failed";

    /// All of them.
    pub const ALL: [&str; 21] = [
        UNKNOWN_MODULE,
        DISABLED,
        NO_HANDLER,
        TRAP,
        TIMEOUT,
        CPU_LIMIT,
        MEMORY_LIMIT,
        STORE_FULL,
        BUSY,
        BAD_ANSWER,
        RELOADED,
        DISCONNECTED,
        UNREACHABLE,
        NOT_FOUND,
        NOT_AVAILABLE,
        FORBIDDEN,
        BAD_MESSAGE,
        PUT_ASIDE,
        TOO_DEEP,
        NOT_REGISTERED,
        FAILED,
    ];
}

/// Whose a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Whoever asked made a mistake, or may not ask this.
    Caller,
    /// The host did not make the call, has no room, or could not reach whom it needed.
    Host,
    /// The module's own.
    Module,
}

impl Whose {
    /// Its name, as in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Whose::Caller => "caller",
            Whose::Host => "host",
            Whose::Module => "module",
        }
    }
}

impl Failure {
    /// Whose failure this is, where a module answered a call with it. Codes that the host does not know are the module's.
    pub fn whose(&self) -> Whose {
        match &*self.code {
            code::UNKNOWN_MODULE
            | code::NO_HANDLER
            | code::NOT_FOUND
            | code::FORBIDDEN
            | code::BAD_MESSAGE
            | code::TOO_DEEP
            | code::NOT_REGISTERED => Whose::Caller,
            code::DISABLED | code::BUSY | code::RELOADED | code::DISCONNECTED | code::UNREACHABLE | code::PUT_ASIDE => {
                Whose::Host
            }
            // Also `not-available`: a module knows when a function may be called.
            _ => Whose::Module,
        }
    }

    /// A failure of the given code.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into();
        // It may repeat what a peer has said, and stands in logs, on terminals and on pages.
        let message = match escaped_lines(&message) {
            Cow::Borrowed(_) => message,
            Cow::Owned(shown) => shown,
        };
        Failure { code: code.into(), message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

/// Peers other than ours send errors of any form: a string, an object with other members, a number. Each becomes a failure.
impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let member = |name: &str| value.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        Ok(Failure {
            code: member("code").map_or(Cow::Borrowed(code::FAILED), Cow::Owned),
            message: member("message")
                .or_else(|| value.as_str().map(str::to_owned))
                .unwrap_or_else(|| value.to_string()),
        })
    }
}
