//! What clients are answered, and the options that all signals share.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ask::{Reasons, reason};
use crate::logs::Merged;

/// To a client.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    List {
        msg: BTreeMap<String, Box<RawValue>>,
        missing: Reasons,
        /// The fleet: all servers, also those that do not run. Absent where this host has no fleet.
        #[serde(skip_serializing_if = "Option::is_none")]
        servers: Option<Box<RawValue>>,
    },
    Stopped {
        status: &'static str,
        stopped: Vec<String>,
        failed: Reasons,
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<u64>,
    },
    /// To any order whose job goes on after the client's time is over, or has paused: `status` is the job's state.
    UnderWay {
        status: String,
        job: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        why: String,
    },
    Killed {
        code: &'static str,
    },
    Remained {
        code: &'static str,
        #[serde(rename = "serverIds")]
        server_ids: Vec<String>,
    },
    Restarted(Vec<String>),
    /// To `logs`: what the host says of the program's output.
    Logs(Box<RawValue>),
    /// To `jobs`, `job`, `cancelJob` and `resumeJob`: what the host says of jobs.
    Jobs(Box<RawValue>),
    /// To `logs` of several servers.
    Merged(Merged),
    /// To `apply`: the servers that are as the files say now, why the others are not, and what else was taken over or was not.
    Applied {
        status: &'static str,
        job: u64,
        done: Vec<String>,
        failed: Reasons,
        notes: Vec<String>,
    },
    /// To `add`, `addCron`, `removeCron` and `blacklist`: the servers that have done it, and why the others have not.
    Done {
        status: &'static str,
        done: Vec<String>,
        failed: Reasons,
    },
}

impl Answer {
    /// The answer to a signal that some servers were to follow. It is a failure if none of them did.
    pub fn done(what: &str, done: Vec<String>, failed: Reasons) -> Result<Self> {
        if done.is_empty() && !failed.is_empty() {
            return Err(nothing_done(what, &failed));
        }
        Ok(Answer::Done { status: status(&failed), done, failed })
    }

    /// As [`Answer::done`], from what each server answered.
    pub fn of_outcomes<T>(what: &str, outcomes: Vec<(String, Result<T>)>) -> Result<Self> {
        let (mut done, mut failed) = (Vec::new(), Reasons::new());
        for (id, outcome) in outcomes {
            match outcome {
                Ok(_) => done.push(id),
                Err(failure) => drop(failed.insert(id, reason(&failure))),
            }
        }
        done.sort_unstable();
        Self::done(what, done, failed)
    }
}

/// The module's options.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ConsoleOptions {
    /// How long signals that are passed on wait for a monitor, milliseconds.
    pub timeout: u64,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self { timeout: 2_000 }
    }
}

/// Whether all servers have done what was asked.
pub fn status(failed: &Reasons) -> &'static str {
    if failed.is_empty() { "ok" } else { "part" }
}

/// The failure for a signal that no server followed.
pub fn nothing_done(what: &str, failed: &Reasons) -> Failure {
    Failure::of_all(["No server was ", what].concat(), failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_every_server() {
        let failed = [("a", "no answer"), ("b", "no such server")].map(|(id, why)| (id.into(), why.into())).into();
        assert_eq!(
            nothing_done("stopped", &failed).message(),
            "No server was stopped: a: no answer; b: no such server"
        );
    }

    #[test]
    fn answers_have_the_form_of_pomelo() {
        let show = |answer: &Answer| serde_json::to_string(answer).unwrap();
        assert_eq!(show(&Answer::Killed { code: "ok" }), r#"{"code":"ok"}"#);
        assert_eq!(
            show(&Answer::Remained { code: "remained", server_ids: vec!["a".into()] }),
            r#"{"code":"remained","serverIds":["a"]}"#
        );
        assert_eq!(show(&Answer::Restarted(vec![])), "[]");
        let done = Answer::done("added", vec!["a".into()], Reasons::new()).unwrap();
        assert_eq!(show(&done), r#"{"status":"ok","done":["a"],"failed":{}}"#);
    }
}
