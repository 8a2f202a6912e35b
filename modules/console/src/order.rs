//! Orders to the fleet: submitted as jobs, and followed until they are over.

use pomelo_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::{Answer, nothing_done};
use crate::ask::Reasons;

/// How long one wait for a job may take.
const ONE_WAIT: Duration = Duration::from_secs(20);

/// How a client wants its order carried out, and how long it waits.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct How {
    /// The options of the job, as the interface `starter` has them.
    pub options: Option<Box<RawValue>>,
    /// Whether the job waits for servers that other jobs own.
    pub queue: bool,
    /// How long the client waits for the job to be over, milliseconds; as long as it takes if this is absent.
    pub wait: Option<u64>,
    /// Whether the client is told of the job's progress.
    pub progress: bool,
}

/// Which servers are meant.
pub enum Meant {
    Ids(Vec<String>),
    Type(String),
    All,
}

#[derive(Serialize)]
struct Order<'a, T: Serialize> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    server_type: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    all: bool,
    #[serde(skip_serializing_if = "<[T]>::is_empty")]
    servers: &'a [T],
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<&'a RawValue>,
    /// What `apply` takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    queue: bool,
    messages: Messages,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a monitor's side is asked with. Servers of pomelo 2.x understand `stop` and `kill`.
#[derive(Serialize)]
struct Messages {
    stop: Signal,
    kill: Signal,
    restart: Signal,
    drain: Signal,
    undrain: Signal,
}

#[derive(Serialize)]
struct Signal {
    signal: &'static str,
}

/// A job, as far as answers need it.
#[derive(Deserialize)]
pub struct Job {
    pub id: u64,
    state: String,
    #[serde(default)]
    why: String,
    revision: u64,
    #[serde(default)]
    notes: Vec<String>,
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    id: String,
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    why: String,
}

/// What has come of an order.
pub enum Followed {
    /// The job is over: the servers for which it was done, why the others failed, and what else is to be said.
    Over { job: u64, done: Vec<String>, failed: Reasons, notes: Vec<String> },
    /// The client does not wait any longer, or the job has paused. It goes on.
    UnderWay { job: u64, state: String, why: String },
}

/// The job's number, the servers for which it was done and why the others failed; or what a client is answered whose job goes on.
pub type Done = std::result::Result<(u64, Vec<String>, Reasons), Answer>;

/// Submits an order, and follows its job.
pub fn order(agent: &Agent, kind: &str, meant: Meant, how: &How) -> Result<Followed> {
    submit(agent, kind, meant, &[] as &[()], None, how)
}

/// Submits the order to apply the configuration's files, those of which the plan was shown, and follows its job.
pub fn apply(agent: &Agent, plan: Option<&str>, how: &How) -> Result<Followed> {
    submit(agent, "apply", Meant::Ids(Vec::new()), &[] as &[()], plan, how)
}

/// Submits the order to add servers, and follows its job.
pub fn add(agent: &Agent, servers: &[impl Serialize], how: &How) -> Result<Followed> {
    submit(agent, "add", Meant::Ids(Vec::new()), servers, None, how)
}

fn submit<T: Serialize>(
    agent: &Agent,
    kind: &str,
    meant: Meant,
    servers: &[T],
    plan: Option<&str>,
    how: &How,
) -> Result<Followed> {
    let (ids, server_type, all) = match meant {
        Meant::Ids(ids) => (Some(ids), None, false),
        Meant::Type(server_type) => (None, Some(server_type), false),
        Meant::All => (None, None, true),
    };
    let signal = |signal| Signal { signal };
    let messages = Messages {
        stop: signal("stop"),
        kill: signal("kill"),
        restart: signal("restart"),
        drain: signal("drain"),
        undrain: signal("undrain"),
    };
    let options = how.options.as_deref();
    let order = Order { kind, ids, server_type, all, servers, options, plan, queue: how.queue, messages };
    let job: Box<RawValue> = agent.starter().submit(&order)?;
    follow(agent, job, how)
}

/// Follows a job until it is over, has paused, or the client's time is over.
pub fn follow(agent: &Agent, mut raw: Box<RawValue>, how: &How) -> Result<Followed> {
    let began = agent.now();
    loop {
        let job: Job =
            serde_json::from_str(raw.get()).map_err(|error| Failure::new("bad-answer", error.to_string()))?;
        if !["queued", "running", "paused"].contains(&job.state.as_str()) {
            return Ok(over(job));
        }
        // A client that has left does not stop the job.
        let is_there = !how.progress || agent.progress(&raw).is_ok();
        let passed = agent.now().saturating_sub(began);
        let left = how.wait.map_or(ONE_WAIT, |wait| Duration::from_millis(wait).saturating_sub(passed).min(ONE_WAIT));
        if !is_there || left.is_zero() || job.state == "paused" {
            return Ok(Followed::UnderWay { job: job.id, state: job.state, why: job.why });
        }
        raw = agent.starter().wait(job.id, job.revision, left)?;
    }
}

fn over(job: Job) -> Followed {
    let (mut done, mut failed) = (Vec::new(), Reasons::new());
    for server in job.servers {
        match server.outcome.as_deref() {
            Some("done") => done.push(server.id),
            outcome => {
                let why = if server.why.is_empty() { outcome.unwrap_or("not done").to_owned() } else { server.why };
                failed.insert(server.id, why);
            }
        }
    }
    done.sort_unstable();
    Followed::Over { job: job.id, done, failed, notes: job.notes }
}

impl Followed {
    /// The servers for which it was done and why the others failed, if the job is over. It is a failure if it was done for none.
    pub fn done(self, what: &str) -> Result<Done> {
        self.or_failed(what, true)
    }

    /// As [`Followed::done`], but a failure only if that is wanted.
    pub fn or_failed(self, what: &str, fails: bool) -> Result<Done> {
        match self {
            Followed::Over { done, failed, .. } if fails && done.is_empty() && !failed.is_empty() => {
                Err(nothing_done(what, &failed))
            }
            Followed::Over { job, done, failed, .. } => Ok(Ok((job, done, failed))),
            Followed::UnderWay { job, state, why } => Ok(Err(Answer::UnderWay { status: state, job, why })),
        }
    }
}
