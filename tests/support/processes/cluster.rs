//! A cluster of real processes with a configuration, ports and a modules' directory of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Done, GRACEFUL, Host, POMELO, eventually, free_ports, ids, pomelo, run};

/// A configuration, and the processes that run with it.
pub struct Cluster {
    /// Dropped before the directory that they run in.
    pub hosts: Vec<Host>,
    /// The configuration's directory, where programs run too.
    pub dir: tempfile::TempDir,
    pub port: u16,
}

/// Quick where a production cluster would be patient; the deadlines for what must not happen stay long.
pub const SETTINGS: &str = "[supervise]\nready_delay_ms = 20\nbackoff_min_ms = 50\nstop_deadline_ms = 20000\n";

impl Cluster {
    /// A configuration with nothing running. `servers` is what `servers.json` holds; a server's `script` becomes its command.
    pub fn configured(servers: Value, settings: &str) -> Cluster {
        let [port] = free_ports();
        Self::at(port, servers, settings)
    }

    /// The same with a given port of the master.
    pub fn at(port: u16, mut servers: Value, settings: &str) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        for server in servers.as_object_mut().unwrap().values_mut().flat_map(|list| list.as_array_mut().unwrap()) {
            let server = server.as_object_mut().unwrap();
            if let Some(script) = server.remove("script") {
                server.insert("command".into(), json!(["sh", "-c", script]));
            }
            server.insert("cwd".into(), ".".into());
        }
        let cluster = Cluster { hosts: Vec::new(), dir, port };
        cluster.write("master.json", &json!({"id": "master", "port": port}).to_string());
        cluster.write("servers.json", &servers.to_string());
        let users = json!([{"id": "1", "username": "admin", "password": "admin", "level": 1},
            {"id": "2", "username": "monitor", "password": "monitor", "level": 2}]);
        cluster.write("adminUser.json", &users.to_string());
        cluster.write("pomelo.toml", settings);
        cluster
    }

    /// `pomelo start` with that configuration.
    pub fn start(servers: Value, settings: &str) -> Cluster {
        let mut cluster = Self::configured(servers, settings);
        cluster.host("start", &[]);
        cluster
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The master's admin log.
    pub fn admin_log(&self) -> PathBuf {
        self.path("data/master/admin.log")
    }

    /// The whole lines of the admin log, and then those of what was only looked at.
    pub fn asked(&self) -> Vec<Value> {
        let lines = |path: PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            // The last line may be half written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
        };
        [lines(self.admin_log()), lines(self.admin_log().with_file_name("admin-looks.log"))].concat()
    }

    /// Starts a command that stays, with this configuration.
    pub fn host(&mut self, command: &str, arguments: &[&str]) {
        let config = self.dir.path().to_str().unwrap();
        let mut command = pomelo(&[command, "--config", config]);
        command.args(arguments).current_dir(self.dir.path());
        let log = self.path(&format!("host-{}.log", self.hosts.len()));
        self.hosts.push(Host::start(command, log));
    }

    /// Starts a monitor without this configuration.
    pub fn monitor(&mut self, arguments: &[&str]) -> &Host {
        let mut command = pomelo(&["monitor", "--master", &format!("127.0.0.1:{}", self.port)]);
        command.args(arguments).current_dir(self.dir.path());
        let log = self.path(&format!("host-{}.log", self.hosts.len()));
        self.hosts.push(Host::start(command, log));
        self.hosts.last().unwrap()
    }

    /// Runs a command that asks the master.
    pub fn ask(&self, arguments: &[&str]) -> Done {
        let mut command = pomelo(arguments);
        command.arg(format!("--port={}", self.port));
        run(command)
    }

    /// The output of a command that asks the master. The command has to succeed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let done = self.ask(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
        done.out
    }

    /// Asks a module; its answer, or what the command said of the failure.
    pub fn request(&self, module: &str, body: &Value) -> Result<Value, String> {
        self.ask(&["request", module, &body.to_string()]).answer()
    }

    /// What `list` shows of each server; null where there is no master.
    pub fn list(&self) -> Value {
        let listed = self.ask(&["list", "--json"]);
        serde_json::from_str(&listed.out).map_or(Value::Null, |mut listed: Value| listed["msg"].take())
    }

    /// Waits until exactly these servers and the master run; what `list` shows then.
    pub fn wait_for(&self, servers: &[&str]) -> Value {
        let mut wanted = ids(servers);
        wanted.insert("master".into());
        eventually(&format!("{servers:?} run"), || {
            let listed = self.list();
            let running = listed.as_object()?.iter().filter(|(_, server)| server["state"] == "running");
            (running.map(|(id, _)| id.clone()).collect::<BTreeSet<_>>() == wanted).then_some(listed)
        })
    }

    /// The process of a server's program, once it is listed.
    pub fn pid(&self, id: &str) -> u32 {
        pid(&self.list(), id)
    }
}

/// `servers.json` with two chat servers that end when they are asked to.
pub fn two_chats() -> Value {
    json!({"chat": [{"id": "chat-1", "script": GRACEFUL}, {"id": "chat-2", "script": GRACEFUL}]})
}

/// A server of `servers.json` that runs the demo's program. The program offers functions to its monitor, and is ready when it is connected to it.
pub fn demo_server(id: &str, port: u16, frontend: bool) -> Value {
    json!({"id": id, "host": "127.0.0.1", "port": port, "frontend": frontend, "ready": "control",
           "command": [POMELO, "demo-server", "--port", "${port}"]})
}

/// The process of a server's program in what was listed.
pub fn pid(listed: &Value, id: &str) -> u32 {
    let pid = listed[id]["pid"].as_u64().unwrap_or_else(|| panic!("{id} is not listed: {listed}"));
    u32::try_from(pid).unwrap()
}
