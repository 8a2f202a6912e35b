//! Commands of clients: those of the console service, which concern the modules of every host, and those that only a master has.
//!
//! | command | body | answer |
//! |---|---|---|
//! | `events` | `since`, a number; `wait`, milliseconds | `{"events": […], "last": n, "newest": n, "missed": n}`: at once if there are newer ones, else when there are or the wait is over |
//! | `admit` | see `admit_command` | |
//! | `describe` | see `describe_command` | |
//! | `plan` | | `{"plan": {…}, "lines": […], "summary": text, "digest": text}`: how the files of the configuration differ from what runs, the digest if they do; or `{"faults": text}` where they cannot be read |
//! | `modules` | | that of the console service; where monitors take modules from this master, also `monitors`, by file: what they run ([`OnMonitors`](super::OnMonitors)) |
//! | `history` | | `{"source": file, "inForce": digest, "versions": [{"digest", "size", "since", "state"}]}`: what is kept of the module's file |
//! | `rollback` | `digest`, or its beginning; or none | `{"source": file, "digest": digest, "from": digest}`: the file that was written, what it is and was |
//! | `forget` | `ids`, or none for all | the ids of the servers that were retained after a mass loss, and are now removed |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::MasterCore;
use super::admit_command::ADMIT;
use super::describe_command::DESCRIBE;
use crate::config::Plan;
use crate::console::{Reply, of_module};
use crate::failure::{Failure, code};
use crate::journal::Page;
use crate::plugin::Caller;
use crate::reload::ConfigDifference;
use crate::wire::raw;

/// Commands of one connection that may wait for events at the same time.
pub(super) const MAX_WAITING: usize = 8;
/// The module and the operation that show what programs write. The last lines of a program are in its events for those alone who may ask for that.
const LOGS: (&str, &str) = ("__console__", "logs");
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct VersionBody {
    digest: Option<String>,
}

impl Order<'_> {
    /// The body. Each of its members may be left out.
    pub(super) fn body<T: Default + for<'a> Deserialize<'a>>(&self) -> Result<T, Failure> {
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
            "forget" => reply.send(self.forget(&asked)),
            "plan" => self.plan(&asked, over, reply),
            "history" | "rollback" => self.versions(&asked, reply),
            DESCRIBE => reply.send(self.describe(&asked)),
            ADMIT => reply.send(self.admit(asked.body, asked.caller)),
            "modules" => self.modules(&asked, reply),
            _ => reply.send(self.console_command(&asked)),
        }
    }

    /// All modules, and what the monitors run that take them from this master: on a thread that may take its time, because they may be many.
    fn modules(self: &Arc<Self>, asked: &Order<'_>, reply: Reply) {
        let answer = self.console_command(asked);
        let master = self.clone();
        tokio::task::spawn_blocking(move || reply.send(answer.map(|answer| master.with_monitors(answer))));
    }

    fn console_command(&self, asked: &Order<'_>) -> Result<Box<RawValue>, Failure> {
        let _commands = self.commands.lock();
        let answer = self.console.command(asked.command, asked.module, asked.caller)?;
        if let Some(module) = asked.module.filter(|_| answer.pass_on) {
            self.pass_on(asked.command, Some(module));
        }
        Ok(answer.body)
    }

    /// The answer to `modules` with what the monitors run that take modules from this master.
    fn with_monitors(&self, answer: Box<RawValue>) -> Box<RawValue> {
        #[derive(Serialize)]
        struct Answer<'a, M> {
            #[serde(flatten)]
            own: BTreeMap<&'a str, &'a RawValue>,
            monitors: M,
        }
        let on_monitors = self.distribution.on_monitors();
        match serde_json::from_str::<BTreeMap<&str, &RawValue>>(answer.get()) {
            Ok(own) if !on_monitors.is_empty() => raw(&Answer { own, monitors: on_monitors }),
            _ => answer,
        }
    }

    fn events(self: &Arc<Self>, asked: &Order<'_>, waiting: &Arc<Semaphore>, over: &CancellationToken, reply: Reply) {
        let wanted = self.console.permits(asked.command, asked.caller).and_then(|()| asked.body::<EventsBody>());
        let (EventsBody { since, wait }, place) = match (wanted, waiting.clone().try_acquire_owned()) {
            (Err(failure), _) => return reply.send(Err(failure)),
            (Ok(_), Err(_)) => {
                let message = format!("{MAX_WAITING} commands of this connection wait for events already");
                return reply.send(Err(Failure::new(code::BUSY, message)));
            }
            (Ok(wanted), Ok(place)) => (wanted, place),
        };
        let (module, operation) = LOGS;
        let with_lines = self.console.may_ask(asked.caller, module, operation);
        let shown = move |mut page: Page| {
            if !with_lines {
                page.events.iter_mut().for_each(|event| Arc::make_mut(event).lines.clear());
            }
            raw(&page)
        };
        let page = self.options.journal.page(since);
        if wait == 0 || !page.events.is_empty() {
            return reply.send(Ok(shown(page)));
        }
        let (master, over) = (self.clone(), over.clone());
        tokio::spawn(async move {
            let _place = place;
            let page = tokio::select! {
                () = over.cancelled() => return reply.send(Err(Failure::new(code::DISCONNECTED, "the client has left"))),
                () = master.console.shutting_down() => master.options.journal.page(since),
                page = master.options.journal.next(since, Duration::from_millis(wait).min(LONGEST)) => page,
            };
            reply.send(Ok(shown(page)));
        });
    }

    fn plan(self: &Arc<Self>, asked: &Order<'_>, over: &CancellationToken, reply: Reply) {
        let none = || Failure::new(code::NOT_AVAILABLE, "this master runs without files of a configuration");
        let permitted = self.console.permits(asked.command, asked.caller);
        let files = match permitted.and_then(|()| self.options.files.as_ref().ok_or_else(none)) {
            Ok(files) => files.in_force.clone(),
            Err(failure) => return reply.send(Err(failure)),
        };
        let over = over.clone();
        tokio::spawn(async move {
            let looked = over.run_until_cancelled(files.look()).await;
            let left = || Failure::new(code::DISCONNECTED, "the client has left");
            reply.send(looked.ok_or_else(left).map(|difference| plan(difference.as_deref())));
        });
    }

    /// What is kept of a module's file, and its way back. A rollback that was begun is ended, also if the client leaves.
    fn versions(self: &Arc<Self>, asked: &Order<'_>, reply: Reply) {
        let permitted = self.console.permits(asked.command, asked.caller);
        let wanted = permitted
            .and_then(|()| of_module(asked.module))
            .and_then(|id| Ok((id.to_owned(), asked.body::<VersionBody>()?)));
        let (id, VersionBody { digest }) = match wanted {
            Ok(wanted) => wanted,
            Err(failure) => return reply.send(Err(failure)),
        };
        let (console, caller, rolls_back) = (self.console.clone(), asked.caller.clone(), asked.command == "rollback");
        tokio::spawn(async move {
            reply.send(if rolls_back {
                console.roll_back(&id, digest.as_deref(), &caller).await.map(|done| raw(&done))
            } else {
                console.history(&id, &caller).await.map(|history| raw(&history))
            });
        });
    }

    fn forget(&self, asked: &Order<'_>) -> Result<Box<RawValue>, Failure> {
        self.console.permits(asked.command, asked.caller)?;
        let ForgetBody { ids } = asked.body()?;
        let by = asked.caller.user.as_deref().unwrap_or("?");
        Ok(raw(&self.members.forget(&ids, &format!("{by} said so"))))
    }
}

/// The answer to `plan`.
fn plan(difference: Option<&ConfigDifference>) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Answer<'a> {
        Plan {
            plan: &'a Plan,
            lines: Vec<String>,
            summary: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            digest: Option<String>,
        },
        Faults {
            faults: &'a str,
        },
    }
    let shown =
        |plan: &'_ Plan, digest| raw(&Answer::Plan { plan, lines: plan.lines(), summary: plan.summary(), digest });
    match difference {
        None => shown(&Plan::default(), None),
        Some(ConfigDifference::Differs { plan, files }) => shown(plan, Some(files.texts.digest())),
        Some(ConfigDifference::Faults(faults)) => raw(&Answer::Faults { faults }),
    }
}
