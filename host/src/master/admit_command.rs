//! The command `admit`: lets servers of pomelo's come back although this master does not know them.
//!
//! Its body: `ids`, the servers, or `all`; `seconds`, for how long, 300 by default. Without `ids` and `all` nothing changes. The answer: `waiting`, the
//! servers that tried to come back and were not let in.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::MasterCore;
use super::known_servers::{Moment, Waiting};
use crate::failure::{Failure, code};
use crate::plugin::Caller;
use crate::wire::{check_id, raw};

/// The name of the command.
pub(super) const ADMIT: &str = "admit";
/// The longest time: a day.
const LONGEST: u64 = 86_400;

#[derive(Default, Deserialize)]
#[serde(default)]
struct AdmitBody {
    ids: Vec<String>,
    all: bool,
    seconds: Option<u64>,
}

#[derive(Serialize)]
struct AdmitAnswer {
    waiting: BTreeMap<String, Waiting>,
}

impl MasterCore {
    /// Carries out the command for a caller.
    ///
    /// # Errors
    /// `forbidden`, `bad-message`, `busy` where too many ids are admitted already.
    pub(super) fn admit(&self, body: Option<&RawValue>, caller: &Caller) -> Result<Box<RawValue>, Failure> {
        self.console.permits(ADMIT, caller)?;
        let bad = |what: String| Failure::new(code::BAD_MESSAGE, format!("the body of `{ADMIT}`: {what}"));
        let body = body.map_or_else(|| Ok(AdmitBody::default()), |body| serde_json::from_str(body.get()));
        let AdmitBody { ids, all, seconds } = body.map_err(|error| bad(error.to_string()))?;
        // pomelo's servers try again every minute at most.
        let seconds = seconds.unwrap_or(300);
        if !(1..=LONGEST).contains(&seconds) {
            return Err(bad(format!("`seconds` is from 1 to {LONGEST}")));
        }
        if all && !ids.is_empty() {
            return Err(bad("it is `ids` or `all`".into()));
        }
        if let Some(wrong) = ids.iter().find_map(|id| check_id(id).err()) {
            return Err(bad(wrong.to_string()));
        }
        let (time, now) = (Duration::from_secs(seconds), Moment::now());
        if (all || !ids.is_empty()) && !self.known_servers.admit(&ids, time, now) {
            return Err(Failure::new(code::BUSY, "too many servers are admitted at the moment: `all` admits all"));
        }
        if all || !ids.is_empty() {
            let user = caller.user.as_deref();
            tracing::info!(user, ?ids, all, seconds, "servers without a token are admitted");
        }
        Ok(raw(&AdmitAnswer { waiting: self.known_servers.waiting() }))
    }
}
