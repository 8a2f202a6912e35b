//! What decides how a server is run, key by key.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::config::cluster::Config;
use crate::config::command::Launch;
use crate::config::servers::Server;
use crate::config::words::Ready;

/// The members of `servers.json` that are in `info` as they are in the file, but under which nothing is run: `clusterCount` says only how many
/// servers an entry stands for.
const NOT_RUN: [&str; 1] = ["clusterCount"];

/// All that decides how a server is run: its members of `servers.json`, its crons, and what runs an application of pomelo 2.x.
///
/// The settings of `[supervise]` are no part of it, because they are the same for all servers, which take them when they start the next time.
#[derive(Clone, PartialEq)]
pub struct Spec(BTreeMap<String, Value>);

impl Spec {
    /// The keys in which two specs differ, in order.
    pub fn differing(&self, after: &Spec) -> Vec<String> {
        let (before, after) = (&self.0, &after.0);
        let differs = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(key, _)| key);
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        let mut keys: Vec<String> = differs.chain(gone).cloned().collect();
        keys.sort();
        keys
    }
}

impl Spec {
    /// All keys with their values, but for those that may be secrets: of the environment's variables, and what stands behind the path that is asked
    /// over HTTP.
    pub fn shown(&self) -> BTreeMap<String, Value> {
        let shown = self.0.iter().map(|(key, value)| {
            let value = match value {
                _ if key.starts_with("env.") => Value::from("…"),
                Value::String(text) if key.starts_with("health") => text.split('?').next().unwrap_or_default().into(),
                value => value.clone(),
            };
            (key.clone(), value)
        });
        shown.collect()
    }
}

/// The keys alone, because values may be secrets.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Server {
    /// What decides how the server is run under that configuration.
    pub fn spec(&self, config: &Config) -> Spec {
        Spec(spec(self, config))
    }
}

/// By key: what decides how the server is run.
fn spec(server: &Server, config: &Config) -> BTreeMap<String, Value> {
    // All fields are named, so that whoever adds one decides what it means here. The type and the host are in `info` too.
    let Server {
        id: _,
        server_type: _,
        host: _,
        info,
        launch,
        restart: _,
        force: _,
        cpus: _,
        ssh,
        ready,
        logs,
        stop_deadline,
        drain,
        ready_timeout,
        health,
        inherited,
    } = server;
    let mut spec = BTreeMap::new();
    // `cpu`, `auto-restart` and `restart-force` are members of `info`.
    for (key, value) in info.iter().filter(|(key, _)| !NOT_RUN.contains(&key.as_str())) {
        spec.insert(key.clone(), sorted(value));
    }
    // The member as in the file, because a server without one takes `[supervise] restart` when it starts the next time.
    if let Some(restart) = inherited.get("restart") {
        spec.insert("restart".into(), sorted(restart));
    }
    for (key, time) in [("stop_deadline_ms", stop_deadline), ("drain_ms", drain), ("ready_timeout_ms", ready_timeout)] {
        // A server without one of its own takes that of `[supervise]` when it starts the next time.
        if inherited.contains_key(key) {
            spec.insert(key.into(), json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
        }
    }
    if let Some(ssh) = ssh {
        spec.insert("ssh".into(), json!(ssh));
    }
    if let Some(ready) = ready {
        let word = match ready {
            Ready::Delay => "delay",
            Ready::Port => "port",
            Ready::Control => "control",
        };
        spec.insert("ready".into(), json!(word));
    }
    if let Some(health) = health {
        spec.insert("health".into(), json!(health));
    }
    if let Some(logs) = logs {
        spec.insert("logs".into(), json!(logs.to_string_lossy()));
    }
    match launch {
        Some(Launch { command, cwd, env }) => {
            spec.insert("command".into(), json!(command));
            if let Some(cwd) = cwd {
                spec.insert("cwd".into(), json!(cwd.to_string_lossy()));
            }
            spec.extend(env.iter().map(|(name, value)| (format!("env.{name}"), json!(value))));
        }
        None => {
            let pomelo = &config.settings.pomelo;
            if let Some(app) = &pomelo.app {
                spec.insert("[pomelo] app".into(), json!(app.to_string_lossy()));
                spec.insert("[pomelo] node".into(), json!(pomelo.node));
            }
        }
    }
    for cron in config.crons_of(server) {
        let id = match cron.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(id) => id.to_string(),
            None => String::new(),
        };
        spec.insert(format!("crons.{id}"), sorted(&Value::Object(cron)));
    }
    spec
}

/// The value with the members of all its objects in order, whatever order `serde_json` was built to keep.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<&String, Value> = members.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().map(|(key, value)| (key.clone(), value)).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
