//! Commands of clients: those of the console service, which concern the modules of every host, and those that only a master has.
//!
//! | command | body | answer |
//! |---|---|---|
//! | `events` | `since`, a number; `wait`, milliseconds | `{"events": […], "last": n, "newest": n, "missed": n}`: at once if there are newer ones, else when there are or the wait is over |
//! | `admit` | see `admit_command` | |
//! | `plan` | | `{"plan": {…}, "lines": […]}`: how the files of the configuration differ from what runs; or `{"faults": text}` where they cannot be read |
//! | `forget` | `ids`, or none for all | the ids of the servers that were retained after a mass loss, and are now removed |

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::MasterCore;
use super::admit_command::ADMIT;
use crate::config::Plan;
use crate::console::Reply;
use crate::failure::{Failure, code};
use crate::plugin::Caller;
use crate::reload::ConfigDifference;
use crate::wire::{null, raw};

/// Commands of one connection that may wait for events at the same time.
pub(super) const MAX_WAITING: usize = 8;
/// The longest that one waits.
const LONGEST: Duration = Duration::from_secs(60);

/// A command of a client.
pub(super) struct Order<'a> {
    pub command: &'a str,
    pub module: Option<&'a str>,
    pub body: Option<&'a RawValue>,
    pub caller: &'a Caller,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventsBody {
    since: u64,
    wait: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ForgetBody {
    ids: Vec<String>,
}

impl Order<'_> {
    /// The body. Each of its members may be left out.
    fn body<T: Default + for<'a> Deserialize<'a>>(&self) -> Result<T, Failure> {
        let body = self.body.filter(|body| body.get() != "null");
        let parsed = body.map_or_else(|| Ok(T::default()), |body| serde_json::from_str(body.get()));
        parsed.map_err(|error| Failure::new(code::BAD_MESSAGE, format!("the body of `{}`: {error}", self.command)))
    }
}

impl MasterCore {
    /// Carries out a command, and passes it on to the monitors if it concerns them. `waiting` bounds the commands that wait, `over` ends them.
    pub fn command(
        self: &Arc<Self>,
        asked: Order<'_>,
        waiting: &Arc<Semaphore>,
        over: &CancellationToken,
        reply: Reply,
    ) {
        match asked.command {
            "events" => self.events(&asked, waiting, over, reply),
            "forget" => reply(self.forget(&asked)),
            "plan" => reply(self.plan(&asked)),
            ADMIT => reply(self.admit(asked.body, asked.caller)),
            _ => reply(self.console_command(&asked)),
        }
    }

    fn console_command(&self, asked: &Order<'_>) -> Result<Box<RawValue>, Failure> {
        let _commands = self.commands.lock();
        let answer = self.console.command(asked.command, asked.module, asked.caller)?;
        if let Some(module) = asked.module.filter(|_| answer.pass_on) {
            self.pass_on(asked.command, module);
        }
        Ok(answer.body)
    }

    /// Passes a command on to every monitor that understands commands.
    fn pass_on(&self, command: &str, module: &str) {
        for member in self.members.all() {
            if member.capabilities.has(crate::wire::Capabilities::COMMANDS) {
                // A monitor that is leaving is told when it registers again.
                let _ = member.exchange.command(command, module, null());
            }
        }
    }

    fn events(self: &Arc<Self>, asked: &Order<'_>, waiting: &Arc<Semaphore>, over: &CancellationToken, reply: Reply) {
        let wanted = self.console.permits(asked.command, asked.caller).and_then(|()| asked.body::<EventsBody>());
        let (EventsBody { since, wait }, place) = match (wanted, waiting.clone().try_acquire_owned()) {
            (Err(failure), _) => return reply(Err(failure)),
            (Ok(_), Err(_)) => {
                let message = format!("{MAX_WAITING} commands of this connection wait for events already");
                return reply(Err(Failure::new(code::BUSY, message)));
            }
            (Ok(wanted), Ok(place)) => (wanted, place),
        };
        let page = self.options.journal.page(since);
        if wait == 0 || !page.events.is_empty() {
            return reply(Ok(raw(&page)));
        }
        let (master, over) = (self.clone(), over.clone());
        tokio::spawn(async move {
            let _place = place;
            let page = tokio::select! {
                () = over.cancelled() => return reply(Err(Failure::new(code::DISCONNECTED, "the client has left"))),
                () = master.console.shutting_down() => master.options.journal.page(since),
                page = master.options.journal.next(since, Duration::from_millis(wait).min(LONGEST)) => page,
            };
            reply(Ok(raw(&page)));
        });
    }

    fn plan(&self, asked: &Order<'_>) -> Result<Box<RawValue>, Failure> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Answer<'a> {
            Plan { plan: &'a Plan, lines: Vec<String> },
            Faults { faults: &'a str },
        }
        self.console.permits(asked.command, asked.caller)?;
        let none = || Failure::new(code::NOT_AVAILABLE, "this master runs without files of a configuration");
        let difference = self.options.difference.as_ref().ok_or_else(none)?.borrow().clone();
        let nothing = Plan::default();
        Ok(raw(&match difference.as_deref() {
            None => Answer::Plan { plan: &nothing, lines: nothing.lines() },
            Some(ConfigDifference::Differs { plan, .. }) => Answer::Plan { plan, lines: plan.lines() },
            Some(ConfigDifference::Faults(faults)) => Answer::Faults { faults },
        }))
    }

    fn forget(&self, asked: &Order<'_>) -> Result<Box<RawValue>, Failure> {
        self.console.permits(asked.command, asked.caller)?;
        let ForgetBody { ids } = asked.body()?;
        let by = asked.caller.user.as_deref().unwrap_or("?");
        Ok(raw(&self.members.forget(&ids, &format!("{by} said so"))))
    }
}
