//! A chat application of pomelo 2.x whose master is ours.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Done, Host, eventually, free_ports, pomelo, run, send};

/// Where npm's packages are.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/js/node_modules");
/// The application's sources.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/js/pomelo-app");
/// The environment of every Node process: no colours and no warnings of old packages, because the tests read what it writes.
const QUIET: [(&str, &str); 3] = [("NODE_NO_WARNINGS", "1"), ("NO_COLOR", "1"), ("NODE_DISABLE_COLORS", "1")];

/// The servers of `servers.json`.
pub const SERVERS: [&str; 5] =
    ["chat-server-1", "chat-server-2", "connector-server-1", "connector-server-2", "gate-server-1"];

/// The application in a directory of its own, and what runs of it.
pub struct App {
    /// Processes by the id of their server; dropped before the directory.
    pub running: BTreeMap<String, Host>,
    pub dir: tempfile::TempDir,
    pub port: u16,
    servers: BTreeMap<&'static str, Value>,
    free: Vec<u16>,
}

impl App {
    /// A copy of the application with ports that are free. Nothing runs yet.
    pub fn new() -> App {
        let dir = tempfile::tempdir().unwrap();
        copy(Path::new(SOURCES), dir.path());
        fs::create_dir_all(dir.path().join("logs")).unwrap();
        let [port, gate, connector1, client1, connector2, client2, chat1, chat2, rest @ ..] = free_ports::<12>();
        let frontend = |id: &str, client: u16, port: Option<u16>| {
            let mut server = json!({"id": id, "host": "127.0.0.1", "clientPort": client, "frontend": true});
            if let Some(port) = port {
                server["port"] = port.into();
            }
            server
        };
        let chat = |id: &str, port: u16| json!({"id": id, "host": "127.0.0.1", "port": port});
        let servers = json!({
            "gate": [frontend("gate-server-1", gate, None)],
            "connector": [frontend("connector-server-1", client1, Some(connector1)),
                frontend("connector-server-2", client2, Some(connector2))],
            "chat": [chat("chat-server-1", chat1), chat("chat-server-2", chat2)],
        });
        let mut by_id = BTreeMap::new();
        for (server_type, list) in servers.as_object().unwrap() {
            for server in list.as_array().unwrap() {
                let id = SERVERS.into_iter().find(|id| server["id"] == *id).unwrap();
                let mut server = server.clone();
                server["serverType"] = server_type.as_str().into();
                by_id.insert(id, server);
            }
        }
        let app = App { running: BTreeMap::new(), dir, port, servers: by_id, free: rest.to_vec() };
        let master = json!({"id": "master-server-1", "host": "127.0.0.1", "port": port});
        app.config("master.json", &json!({ "development": master }));
        app.config("servers.json", &json!({ "development": servers }));
        let users = json!([{"id": "1", "username": "admin", "password": "admin", "level": 1},
            {"id": "2", "username": "monitor", "password": "monitor", "level": 2}]);
        app.config("adminUser.json", &users);
        app.config("log4js.json", &json!({"appenders": [{"type": "console"}], "levels": {}}));
        app
    }

    /// Asks servers for a token, as pomelo's template does.
    pub fn with_tokens(self) -> App {
        let tokens = ["connector", "chat", "gate", "master"].map(|kind| json!({"type": kind, "token": "t0ken"}));
        self.config("adminServer.json", &json!(tokens));
        self
    }

    pub fn config(&self, name: &str, value: &Value) {
        self.write(name, &value.to_string());
    }

    pub fn write(&self, name: &str, text: &str) {
        let config = self.dir.path().join("config");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A port that nothing of the application has.
    pub fn free_port(&mut self) -> u16 {
        self.free.pop().unwrap()
    }

    /// Our master and nothing else.
    pub fn master(&mut self) {
        self.ours("master", &["master"]);
        // A server of pomelo's that finds nobody there gives up at once.
        eventually("the master listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// pomelo's own master and nothing else.
    pub fn original_master(&mut self) {
        let mut command = node();
        command.args(["app.js", "env=development", "type=master"]).current_dir(self.dir.path());
        self.running.insert("master".into(), Host::start(command, self.path("master.log")));
        eventually("the master listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// A command of ours that stays, with the application's configuration.
    pub fn ours(&mut self, name: &str, arguments: &[&str]) {
        let config = self.path("config");
        let mut command = pomelo(arguments);
        command.args(["--config", config.to_str().unwrap()]).current_dir(self.dir.path());
        command.env("NODE_PATH", PACKAGES).envs(QUIET);
        self.running.insert(name.into(), Host::start(command, self.path(&format!("{name}.log"))));
    }

    /// The arguments with which pomelo starts a server.
    pub fn arguments(&self, id: &str) -> Vec<String> {
        let server = self.servers[id].as_object().unwrap();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let members = server.iter().map(|(key, value)| format!("{key}={}", text(value)));
        ["app.js".to_owned(), "env=development".to_owned()].into_iter().chain(members).collect()
    }

    /// Starts a server by itself.
    pub fn server(&mut self, id: &str) {
        let mut command = node();
        command.args(self.arguments(id)).current_dir(self.dir.path());
        self.running.insert(id.into(), Host::start(command, self.path(&format!("{id}.log"))));
    }

    /// Our master, and all servers by themselves, all of them told that all have started.
    pub fn start(&mut self) {
        self.master();
        for id in SERVERS {
            self.server(id);
        }
        self.all_started();
    }

    /// Waits until every server has been told that all have started.
    pub fn all_started(&self) {
        for id in SERVERS {
            self.wait_for(id, "afterStartAll", |_| true);
        }
    }

    /// What the servers have said, whoever keeps their output: event and value, in order.
    pub fn events(&self, id: &str) -> Vec<(String, Value)> {
        let text = self.running.values().map(Host::log).collect::<String>();
        let begin = format!("EVENT {id} ");
        let event = |line: &str| {
            let said = &line[line.find(&begin)? + begin.len()..];
            let (event, value) = said.split_once(' ')?;
            Some((event.to_owned(), serde_json::from_str(value).ok()?))
        };
        text.lines().filter_map(event).collect()
    }

    /// Waits until a server has said that, with a value that is as wanted.
    pub fn wait_for(&self, id: &str, event: &str, wanted: impl Fn(&Value) -> bool) {
        eventually(&format!("{id} says {event}"), || {
            self.events(id).iter().any(|(said, value)| said == event && wanted(value)).then_some(())
        });
    }

    /// Waits until so many of a server's events are of that kind.
    pub fn wait_for_count(&self, id: &str, event: &str, count: usize) {
        let counted = |events: &[(String, Value)]| events.iter().filter(|(said, _)| said == event).count();
        self.wait_until(id, |events| counted(events) >= count);
    }

    /// Waits until what a server has said is as wanted.
    pub fn wait_until(&self, id: &str, wanted: impl Fn(&[(String, Value)]) -> bool) {
        eventually(&format!("{id} says what is wanted"), || wanted(&self.events(id)).then_some(()));
    }

    /// Breaks the connection that a server has to the master, at the server's end: no word is said of it.
    pub fn cut(&self, id: &str) {
        send(self.running[id].pid(), Signal::SIGUSR2);
    }

    /// One of npm's programs of pomelo's: `pomelo` or `pomelo-cli`.
    pub fn npm(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = node();
        command.arg(format!("{PACKAGES}/{program}/bin/{program}")).args(arguments).current_dir(self.dir.path());
        command
    }

    /// npm's `pomelo` with a command to the master.
    pub fn tool(&self, arguments: &[&str]) -> Done {
        let port = self.port.to_string();
        let (verb, rest) = arguments.split_first().unwrap();
        run(self.npm("pomelo", &[&[*verb, "-h", "127.0.0.1", "-P", &port], rest].concat()))
    }

    /// Our command to the master.
    pub fn ask(&self, arguments: &[&str]) -> Done {
        let mut command = pomelo(arguments);
        command.arg(format!("--port={}", self.port));
        run(command)
    }

    /// What our `list` shows of each server.
    pub fn list(&self) -> Value {
        let listed = self.ask(&["list", "--json"]);
        serde_json::from_str(&listed.out).map_or(Value::Null, |mut listed: Value| listed["msg"].take())
    }

    /// Waits until exactly these servers, and the master, are listed.
    pub fn wait_for_list(&self, servers: &[&str]) -> Value {
        eventually(&format!("{servers:?} are listed"), || {
            let listed = self.list();
            let ids: Vec<&String> = listed.as_object()?.keys().filter(|id| *id != "master-server-1").collect();
            let mut wanted = servers.to_vec();
            wanted.sort_unstable();
            (ids == wanted).then_some(listed)
        })
    }

    /// Two players at both connectors talk by way of a chat server: what they print.
    pub fn play(&self, chat: &str) -> Vec<Value> {
        let gate = self.servers["gate-server-1"]["clientPort"].to_string();
        let mut command = node();
        command.arg(format!("{SOURCES}/../pomelo_player.js")).args([gate.as_str(), chat]);
        let done = run(command);
        assert_eq!(done.code, Some(0), "{done:?}");
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Node, as all of pomelo's processes run.
pub fn node() -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", PACKAGES).envs(QUIET).stdin(Stdio::null());
    command
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
