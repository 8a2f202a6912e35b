//! Clusters that end with their test, and waits with a generous deadline.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

/// The finished program.
pub const POMELO: &str = env!("CARGO_BIN_EXE_pomelo");
/// A server that says in the file `ID.term` that it was asked to end, and ends.
pub const GRACEFUL: &str = "trap 'echo asked > $POMELO_SERVER_ID.term; exit 0' TERM; while :; do sleep 0.05; done";
/// For what has to happen. The deadline only keeps a failing test from hanging.
const LONG: Duration = Duration::from_secs(60);

/// Looks again and again until there is something to see.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports that nobody listens on.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that none is given twice.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The program with arguments, in an environment of the tests' own.
pub fn pomelo(arguments: &[&str]) -> Command {
    // Whoever runs the tests under `nohup` has SIGHUP ignored, and the program leaves it so, as it should.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", POMELO]);
    // Compiled once for all tests: a debug build compiles slowly.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-modules");
    command.args(arguments).env("POMELO_CACHE", cache).stdin(Stdio::null());
    for name in ["POMELO_LOG", "POMELO_PASSWORD", "POMELO_TOKEN"] {
        command.env_remove(name);
    }
    command
}

/// What became of a command.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A pipe whose other end is closed.
pub fn unread() -> io::PipeWriter {
    io::pipe().unwrap().1
}

/// A process that stays, in a group of its own, with its output in a file. Dropped, it and all that it started are killed: the guards of
/// master and monitors see to their children.
pub struct Host {
    child: Child,
    log: PathBuf,
}

impl Host {
    pub fn start(mut command: Command, log: PathBuf) -> Host {
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let command = command.process_group(0).stdout(output.try_clone().unwrap()).stderr(output);
        Host { child: command.spawn().unwrap(), log }
    }

    /// One whose output goes to a pipe that nobody reads; its log stays empty.
    pub fn start_unread(mut command: Command) -> Host {
        let output = unread();
        let command = command.process_group(0).stdout(output.try_clone().unwrap()).stderr(output);
        Host { child: command.spawn().unwrap(), log: PathBuf::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it reads, where that was piped.
    #[allow(dead_code, reason = "only some of the test programs that share this file talk to one")]
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.pid().cast_signed());
        // Whatever has ended already is fine.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

pub fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A process that is stopped (SIGSTOP) for as long as this lives.
pub struct Stopped(u32);

impl Stopped {
    pub fn new(pid: u32) -> Stopped {
        send(pid, Signal::SIGSTOP);
        let stopped = Stopped(pid);
        // A thread at work goes on until it is told.
        eventually("all threads are stopped", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let mut states =
                tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default());
            states.all(|status| status.contains("State:\tT")).then_some(())
        });
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = kill(Pid::from_raw(self.0.cast_signed()), Signal::SIGCONT);
    }
}

/// Whether a process runs; one that waits for its parent to notice its end does not.
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

pub fn gone(pid: u32) {
    eventually(&format!("process {pid} ends"), || (!runs(pid)).then_some(()));
}

pub fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

pub fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

/// The file with a program's view of the cluster, as the program itself finds it.
pub fn view_file(pid: u32) -> Option<PathBuf> {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
    environment.split('\0').find_map(|variable| variable.strip_prefix("POMELO_CLUSTER=")).map(PathBuf::from)
}

/// A program's view of the cluster.
pub fn view(file: &Path) -> Value {
    fs::read(file).map_or(Value::Null, |text| serde_json::from_slice(&text).expect("a view is never half written"))
}

/// The ids in a view.
pub fn members(file: &Path) -> BTreeSet<String> {
    view(file)["servers"].as_object().into_iter().flat_map(Map::keys).cloned().collect()
}

pub fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

/// A configuration and what runs of it.
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
    /// A configuration, of which nothing runs yet. `servers` is `servers.json`: a server's `script` becomes its command.
    pub fn configured(servers: Value, settings: &str) -> Cluster {
        let [port] = free_ports();
        Self::at(port, servers, settings)
    }

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

    /// What stands in the admin log.
    pub fn asked(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.admin_log()).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts a command that stays, with this configuration.
    pub fn host(&mut self, command: &str, arguments: &[&str]) {
        let config = self.dir.path().to_str().unwrap();
        let mut command = pomelo(&[command, "--config", config]);
        command.args(arguments).current_dir(self.dir.path());
        let log = self.path(&format!("host-{}.log", self.hosts.len()));
        self.hosts.push(Host::start(command, log));
    }

    /// A monitor that the configuration may not know.
    pub fn monitor(&mut self, arguments: &[&str]) -> &Host {
        let mut command = pomelo(&["monitor", "--master", &format!("127.0.0.1:{}", self.port)]);
        command.args(arguments).current_dir(self.dir.path());
        let log = self.path(&format!("host-{}.log", self.hosts.len()));
        self.hosts.push(Host::start(command, log));
        self.hosts.last().unwrap()
    }

    /// A command to the master.
    pub fn ask(&self, arguments: &[&str]) -> Done {
        let mut command = pomelo(arguments);
        command.arg(format!("--port={}", self.port));
        run(command)
    }

    /// A command to the master that succeeds.
    pub fn done(&self, arguments: &[&str]) -> String {
        let done = self.ask(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
        done.out
    }

    /// What `list` shows of each server; null where there is no master.
    pub fn list(&self) -> Value {
        let listed = self.ask(&["list", "--json"]);
        serde_json::from_str(&listed.out).map_or(Value::Null, |mut listed: Value| listed["msg"].take())
    }

    /// Waits until these servers, and no others, run; with the master itself.
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

pub fn pid(listed: &Value, id: &str) -> u32 {
    let pid = listed[id]["pid"].as_u64().unwrap_or_else(|| panic!("{id} is not listed: {listed}"));
    u32::try_from(pid).unwrap()
}

/// Waits until a view has these members and the master.
pub fn wait_for_members(file: &Path, servers: &[&str]) {
    let mut wanted = ids(servers);
    wanted.insert("master".into());
    eventually(&format!("{} has {wanted:?}", file.display()), || (members(file) == wanted).then_some(()));
}
