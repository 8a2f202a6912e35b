//! An application whose functions a test gives, and a process of fixed figures with logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use parking_lot::Mutex;
use pomelo_host::failure::{Failure, code};
use pomelo_host::plugin::capability::{Application, Process, Profiler, Script, ScriptRun, Scripts, Services, Stats};
use pomelo_host::wire::{Info, raw};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::figures::stats;

type Outcome<T = ()> = Result<T, Failure>;

/// What stands beside a monitor and notes what it is asked.
#[derive(Default)]
pub struct FakeApplication {
    id: String,
    /// What each function answers. One with `None` never answers.
    functions: BTreeMap<&'static str, Option<Value>>,
    logs: BTreeMap<&'static str, Vec<String>>,
    called: Mutex<Vec<(String, Value)>>,
}

impl FakeApplication {
    pub fn new(id: &str) -> Self {
        FakeApplication { id: id.into(), ..FakeApplication::default() }
    }

    /// With a function that gives always the same answer.
    pub fn answering(mut self, function: &'static str, answer: Value) -> Self {
        self.functions.insert(function, Some(answer));
        self
    }

    /// With a function that never answers.
    pub fn silent(mut self, function: &'static str) -> Self {
        self.functions.insert(function, None);
        self
    }

    pub fn log(mut self, name: &'static str, lines: &[&str]) -> Self {
        self.logs.insert(name, lines.iter().map(|line| (*line).to_owned()).collect());
        self
    }

    pub fn services(self: &Arc<Self>) -> Services {
        Services {
            application: Some(self.clone()),
            process: Some(self.clone()),
            scripts: Some(self.clone()),
            profiler: Some(self.clone()),
            ..Services::default()
        }
    }

    /// The functions that were called, with what they were given.
    pub fn called(&self) -> Vec<(String, Value)> {
        self.called.lock().clone()
    }

    fn note(&self, what: &str, args: Value) {
        self.called.lock().push((what.to_owned(), args));
    }
}

/// What a server says of itself.
pub fn info(value: Value) -> Info {
    value.as_object().cloned().expect("an object")
}

impl Application for FakeApplication {
    fn add_servers(&self, _: Vec<Info>) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn remove_servers(&self, _: Vec<String>) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn replace_servers(&self, _: Map<String, Value>) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn servers(&self) -> Map<String, Value> {
        Map::new()
    }

    fn start_over(&self) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn offers(&self) -> Vec<String> {
        self.functions.keys().map(|name| (*name).to_owned()).collect()
    }

    fn call(&self, name: String, args: Box<RawValue>) -> BoxFuture<'_, Outcome<Box<RawValue>>> {
        self.note(&name, serde_json::from_str(args.get()).expect("JSON"));
        match self.functions.get(name.as_str()) {
            Some(Some(answer)) => ready(Ok(raw(answer))).boxed(),
            Some(None) => pending().boxed(),
            None => {
                let message = format!("the application does not offer `{name}`");
                ready(Err(Failure::new(code::NOT_AVAILABLE, message))).boxed()
            }
        }
    }
}

impl Process for FakeApplication {
    fn stats(&self) -> Outcome<Stats> {
        Ok(stats(4711))
    }

    fn stop(&self) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn kill(&self) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn restart(&self) -> BoxFuture<'_, Outcome<u32>> {
        ready(Ok(4711)).boxed()
    }

    fn system(&self) -> BoxFuture<'_, Outcome<Value>> {
        let iostat = json!({
            "date": "2026-11-22 1:45:29 PM",
            "disk": {"kb_read": 569.61, "kb_wrtn": 8_492_649, "kb_read_per": 5101.89, "kb_wrtn_per": 5638.53, "tps": 209.01},
            "cpu": {"cpu_user": 50.69, "cpu_nice": 2.79, "cpu_system": 6.57, "cpu_iowait": 1.9, "cpu_steal": 0.32, "cpu_idle": 37.74},
        });
        let system = json!({
            "hostname": "vm", "type": "Linux", "platform": "linux", "arch": "x64", "release": "6.18", "uptime": 8.4,
            "loadavg": [4.86, 3.63, 2.37], "totalmem": 25_276_502_016_u64, "freemem": 23_111_622_656_u64, "cpus": [],
            "networkInterfaces": {}, "iostat": iostat,
        });
        ready(Ok(system)).boxed()
    }

    fn usage(&self) -> BoxFuture<'_, Outcome<Value>> {
        let server_type = self.id.split('-').next().unwrap_or_default();
        let usage = json!({
            "time": "2026-11-22 1:45:29 PM", "serverId": self.id, "serverType": server_type, "pid": 4711, "cpuAvg": "3.0", "memAvg": "0.2",
            "vsz": "1034688", "rss": "62388", "usr": "0.01", "sys": "0.02", "gue": "0.00",
        });
        ready(Ok(usage)).boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Outcome<Vec<String>>> {
        ready(Ok(self.logs.keys().map(|name| (*name).to_owned()).collect())).boxed()
    }

    fn log_tail(&self, name: String, lines: usize) -> BoxFuture<'_, Outcome<Vec<String>>> {
        let log = self.logs.get(name.as_str()).cloned().unwrap_or_default();
        ready(Ok(log[log.len().saturating_sub(lines)..].to_vec())).boxed()
    }
}

impl Scripts for FakeApplication {
    fn names(&self) -> BoxFuture<'_, Outcome<Vec<String>>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn get(&self, name: String) -> BoxFuture<'_, Outcome<Vec<u8>>> {
        ready(Err(Failure::new(code::NOT_FOUND, name))).boxed()
    }

    fn save(&self, _: String, _: Vec<u8>) -> BoxFuture<'_, Outcome> {
        ready(Ok(())).boxed()
    }

    fn run(&self, ScriptRun { script, args, .. }: ScriptRun) -> BoxFuture<'_, Outcome<Box<RawValue>>> {
        let Script::Content(content) = script else { panic!("no script was saved") };
        self.note("run", serde_json::from_str(args.get()).expect("JSON"));
        ready(Ok(raw(&json!({"ran": String::from_utf8_lossy(&content)})))).boxed()
    }
}

impl Profiler for FakeApplication {
    fn cpu(&self, duration: Duration) -> BoxFuture<'_, Outcome<Box<RawValue>>> {
        self.note("cpu", json!(duration.as_secs_f64().round()));
        ready(Ok(raw(&json!({"meta": {"product": self.id}})))).boxed()
    }

    fn guest(&self, module: String, _: Duration) -> BoxFuture<'_, Outcome<Box<RawValue>>> {
        ready(Err(Failure::new(code::NOT_FOUND, module))).boxed()
    }
}
