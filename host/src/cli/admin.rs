//! `add`, `modules`, `request`, and what all commands share that ask a running master.
//!
//! Each is a function of a [`Session`], so that the command line and the shell have one implementation and one form of output. The shell keeps its
//! session; the command line connects for one command ([`once`]).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::arguments::{AdminArgs, ModulesAction};
use super::exit::Exit;
use super::inspect;
use super::print;
use super::secure::{Scheme, login};
use super::table::{self, Column};
use super::versions;
use crate::client::{AdminClient, Options, Push};
use crate::master::OnMonitors;
use crate::transport::socket_io::client;
use crate::versions::short;

/// The module that answers these commands.
pub(super) const CONSOLE: &str = "__console__";

/// What a module of the master says unasked, such as the progress of a job, and was not read yet.
const PUSHES: usize = 256;

/// A registered connection to the master, and the form of what is printed.
pub(super) struct Session {
    /// The registered client.
    pub client: AdminClient,
    /// The name of the user.
    pub user: String,
    /// Print the answers unchanged, as JSON.
    pub json: bool,
    /// How long the master may take to answer.
    pub time: Duration,
    /// What modules of the master say unasked. What does not fit is dropped.
    pub pushes: tokio::sync::Mutex<mpsc::Receiver<Push>>,
}

impl Session {
    pub async fn connect(admin: &AdminArgs) -> anyhow::Result<Session> {
        let time = Duration::from_secs(admin.timeout);
        let (sender, pushes) = mpsc::channel(PUSHES);
        let (scheme, host, port) = Scheme::host(&admin.host).map_err(Exit::usage)?;
        let tls = admin.tls.client(scheme)?;
        let (username, password) = login(admin.username.as_deref(), admin.password.as_ref(), tls.as_ref());
        let options = Options {
            host,
            port: port.unwrap_or(admin.port),
            username,
            password,
            connection: client::Options { tls, ..client::Options::default() },
            request_time: time,
            pushes: Some(sender),
            ..Options::default()
        };
        let pushes = tokio::sync::Mutex::new(pushes);
        let user = options.username.clone();
        Ok(Session { client: AdminClient::connect(options).await?, user, json: admin.json, time, pushes })
    }

    /// Asks the console module; prints the answer where JSON is wanted.
    pub async fn ask(&self, body: Value) -> anyhow::Result<Box<RawValue>> {
        let answer = self.client.request(CONSOLE, body).await?;
        if self.json {
            print::json(&answer)?;
        }
        Ok(answer)
    }
}

/// Connects, runs one command, and closes the connection in order.
pub(super) async fn once(
    admin: AdminArgs,
    command: impl AsyncFnOnce(&Session) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let session = Session::connect(&admin).await?;
    let outcome = command(&session).await;
    session.client.close().await;
    outcome
}

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a RawValue) -> anyhow::Result<T> {
    serde_json::from_str(answer.get()).with_context(|| format!("the master answered in an unknown form: {answer}"))
}

/// A value as a table shows it.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub(super) async fn add(session: &Session, args: Vec<String>) -> anyhow::Result<()> {
    signal(session, "add", args, "added").await
}

/// Sends the console a signal with words as arguments. Prints the servers for which it was done; `did` is the verb, such as "added".
pub(super) async fn signal(session: &Session, signal: &str, args: Vec<String>, did: &str) -> anyhow::Result<()> {
    let answer = session.ask(json!({ "signal": signal, "args": args })).await?;
    done(session, &answer, did)
}

/// Prints the servers for which something was done, as the console answers it. It is a failure if it was not done for all.
pub(super) fn done(session: &Session, answer: &RawValue, did: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        done: Vec<String>,
        #[serde(default)]
        failed: BTreeMap<String, String>,
    }
    let Answer { done, failed } = parse(answer)?;
    outcome(session, did, &done, &failed)
}

/// Prints for which servers something was done. It is a failure if it was not done for all.
pub(super) fn outcome(
    session: &Session,
    did: &str,
    done: &[String],
    failed: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    if !session.json && !done.is_empty() {
        print::line(format!("{did}: {}", done.join(", ")))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<_> = failed.iter().map(|(id, why)| format!("{id} ({why})")).collect();
    Err(Exit::failed(format!("not {did}: {}", failed.join(", "))))
}

pub(super) async fn modules(session: &Session, action: ModulesAction) -> anyhow::Result<()> {
    let (command, id, did) = match &action {
        ModulesAction::List => ("modules", None, ""),
        ModulesAction::Inspect { module, .. } => return inspect::module(session, module).await,
        ModulesAction::History { id } => return versions::history(session, id).await,
        ModulesAction::Rollback { id, digest } => return versions::roll_back(session, id, digest.as_deref()).await,
        ModulesAction::Enable { id } => ("enable", Some(id.as_str()), "enabled"),
        ModulesAction::Disable { id } => ("disable", Some(id.as_str()), "disabled"),
    };
    let answer = session.client.command(command, id, json!({})).await?;
    if session.json {
        print::json(&answer)?;
    }
    match id {
        None if session.json => Ok(()),
        None => show_modules(&answer),
        Some(id) => match parse::<i64>(&answer)? {
            1 => {
                if !session.json {
                    print::line(format!("{did}: {id}"))?;
                }
                Ok(())
            }
            _ => Err(Exit::failed(format!("there is no module {id}"))),
        },
    }
}

fn show_modules(answer: &RawValue) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        modules: Vec<BTreeMap<String, Value>>,
        #[serde(default)]
        refused: BTreeMap<String, String>,
        #[serde(default)]
        installing: Vec<String>,
        #[serde(default)]
        monitors: BTreeMap<String, OnMonitors>,
    }
    let Answer { modules, refused, installing, monitors } = parse(answer)?;
    // What fits 80 columns; `--json` has the rest.
    let rows = modules.iter().map(|module| {
        let (digest, source) = (text(module.get("digest")), text(module.get("source")));
        vec![
            text(module.get("id")),
            text(module.get("version")),
            short(&digest).to_owned(),
            text(module.get("state")),
            text(module.get("calls")),
            text(module.get("failures")),
            source.rsplit('/').next().unwrap_or(&source).to_owned(),
        ]
    });
    let columns = [
        Column::whole("id"),
        Column::optional("version", 3),
        Column::optional("digest", 1),
        Column::whole("state"),
        Column::optional("calls", 4),
        Column::whole("failed"),
        Column::optional("source", 2),
    ];
    table::print(&columns, rows.collect())?;
    for module in &modules {
        for (name, what) in [("lastError", "last failed with"), ("refused", "its newest file was refused:")] {
            if let Some(Value::String(said)) = module.get(name) {
                print::line(format!("{} {what} {said}", text(module.get("id"))))?;
            }
        }
        if module.get("kept").and_then(Value::as_bool) == Some(true) {
            print::line(format!("{} runs a version that was kept from before", text(module.get("id"))))?;
        }
        for aside in module.get("putAside").and_then(Value::as_array).into_iter().flatten() {
            let (id, handler, of) = (text(module.get("id")), text(aside.get("handler")), text(aside.get("for")));
            print::line(format!("{id} {handler} keeps trapping and is put aside for {of}"))?;
        }
    }
    for file in installing {
        print::line(format!("{file}.wasm is being installed"))?;
    }
    for (file, why) in refused {
        // What is wrong with the directory as a whole stands under its name, which ends with a slash.
        let what = if file.ends_with('/') { format!("{file}:") } else { format!("{file}.wasm was refused:") };
        print::line(format!("{what} {why}"))?;
    }
    for (file, on) in &monitors {
        print::lines(versions::on_monitors(file, on))?;
    }
    Ok(())
}

/// Reads the message of `request`, before there is a connection: wrong JSON is said without a master.
pub(super) fn message(text: &str) -> anyhow::Result<Box<RawValue>> {
    serde_json::from_str(text).map_err(|error| {
        Exit::usage(format!("the message is not JSON: {error} (strings need their quotes: '\"text\"')"))
    })
}

pub(super) async fn request(session: &Session, module: &str, message: &RawValue) -> anyhow::Result<()> {
    Ok(print::json(session.client.request(module, message).await?)?)
}
