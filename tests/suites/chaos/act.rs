//! Does the steps of a plan.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use pomelo_host::client::{AdminClient, Options};
use pomelo_host::transport::socket_io;
use serde_json::{Value, json};

use crate::asking::PATIENCE;
use crate::hostile::attack;
use crate::plan::{Action, Content, File, Step};
use crate::proxy::Proxy;
use crate::stage::Stage;
use crate::support::Stopped;

/// What was done, and how long level 1 has waited.
#[derive(Default)]
pub struct Acts {
    /// A line for each action, and for its end.
    pub log: Mutex<Vec<String>>,
    /// How long each `stop` of level 1 took.
    pub stops: Mutex<Vec<Duration>>,
    /// Orders of level 1 that failed.
    pub refused: Mutex<Vec<String>>,
    clock: AtomicI64,
    /// Level 1 gives its next order when the one before has been answered, because an order takes servers over from an earlier one.
    ordering: tokio::sync::Mutex<()>,
}

impl Acts {
    /// Does the steps, each at its time and beside the others, and waits until all are over. `begun` is when the first may begin.
    pub async fn perform(
        self: &Arc<Self>,
        seed: u64,
        stage: &Arc<Stage>,
        steps: &[Step],
        begun: Duration,
        between: &Proxy,
    ) {
        let start = Instant::now();
        let mut acting = tokio::task::JoinSet::new();
        for (number, step) in steps.iter().copied().enumerate() {
            // The pace of the plan.
            tokio::time::sleep((step.at - begun).saturating_sub(start.elapsed())).await;
            self.log.lock().push(step.to_string());
            if let Action::Link(_, link, time) = step.action {
                // Clients have the same misfortune.
                between.is(Some(link));
                tokio::time::sleep(time.min(Duration::from_millis(500))).await;
                between.is(None);
            }
            let (acts, stage) = (self.clone(), stage.clone());
            acting.spawn(async move {
                let done = acts.act(&stage, step.action, seed.wrapping_add(number as u64)).await;
                acts.log.lock().push(format!("{step}: {done}"));
            });
        }
        while let Some(ended) = acting.join_next().await {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
        // What is in force in the end must not depend on what came last.
        stage.module(File::Echo, Content::Second);
        stage.module(File::Ecko, Content::First);
    }

    /// Does one thing and undoes it; what became of it.
    async fn act(&self, stage: &Arc<Stage>, action: Action, seed: u64) -> String {
        match action {
            Action::KillProgram(id) => said(stage.program(id).map(slay)),
            Action::KillMonitor(id) => {
                let done = said(stage.supervisor(id).map(slay));
                stage.revive(id);
                done
            }
            Action::FreezeProgram(id, time) => frozen(stage.program(id), time).await,
            Action::FreezeMonitor(id, time) => frozen(stage.supervisor(id), time).await,
            Action::Link(id, link, time) => {
                stage.link(id, Some(link));
                tokio::time::sleep(time).await;
                stage.link(id, None);
                "over".into()
            }
            Action::FullDisk(time) => {
                let stage = stage.clone();
                let filled = tokio::task::spawn_blocking(move || stage.fill_disk()).await.expect("the disk is filled");
                tokio::time::sleep(time).await;
                match filled {
                    Some(file) => std::fs::remove_file(file).map_or_else(|why| why.to_string(), |()| "over".into()),
                    None => "left out".into(),
                }
            }
            Action::Clock(seconds) => {
                let now = self.clock.fetch_add(seconds, Ordering::Relaxed) + seconds;
                stage.clock(now);
                format!("now {now} s apart")
            }
            Action::Module(file, content) => {
                stage.module(file, content);
                "done".into()
            }
            Action::Hostile(role) => {
                // One that is not let in gives up, by a panic.
                let attacked = tokio::spawn(attack(role, stage.address(), seed)).await;
                if attacked.is_ok() { "over".into() } else { "it was kept out".into() }
            }
            Action::Stop(id) => self.stop(stage, id, seed).await,
        }
    }

    async fn stop(&self, stage: &Stage, id: &str, seed: u64) -> String {
        let _turn = self.ordering.lock().await;
        let connection = socket_io::client::Options { connect_time: PATIENCE, ..socket_io::client::Options::default() };
        let (port, id_of_client) = (stage.cluster.port, format!("operator-{id}-{seed}"));
        let options = Options { port, id: id_of_client, connection, register_time: PATIENCE, ..Options::default() };
        let client = match AdminClient::connect(options).await {
            Ok(client) => client,
            Err(why) => return self.refuse(format!("level 1 cannot log in to stop {id}: {why}")),
        };
        let asked = Instant::now();
        let stopped = client.request("__console__", json!({"signal": "stop", "ids": [id]})).await;
        let took = asked.elapsed();
        self.stops.lock().push(took);
        let started = client.request("__console__", json!({"signal": "start", "ids": [id]})).await;
        for (order, answer, done) in [("stop", stopped, "stopped"), ("start", started, "done")] {
            let answer: Result<Value, _> = answer.map(|answer| serde_json::from_str(answer.get()).unwrap_or_default());
            match answer {
                Ok(answer) if answer.to_string().contains(id) && !answer.to_string().contains("\"failed\":{\"") => {}
                other => return self.refuse(format!("{order} of {id} ({done}): {other:?}")),
            }
        }
        format!("stopped within {took:?}, and started")
    }

    fn refuse(&self, what: String) -> String {
        self.refused.lock().push(what.clone());
        what
    }
}

/// Kills a process, which may have ended meanwhile.
fn slay(pid: u32) -> u32 {
    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    pid
}

fn said(pid: Option<u32>) -> String {
    pid.map_or_else(|| "it does not run".into(), |pid| format!("process {pid}"))
}

/// Has a process stand still for so long.
async fn frozen(pid: Option<u32>, time: Duration) -> String {
    let Some(pid) = pid else { return said(pid) };
    let Ok(stopped) = tokio::task::spawn_blocking(move || Stopped::new(pid)).await else {
        return "it has ended".into();
    };
    tokio::time::sleep(time).await;
    drop(stopped);
    said(Some(pid))
}
