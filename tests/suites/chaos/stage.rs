//! The cluster of a run: a master with twelve servers that its starter runs, and eight monitors that reach it through proxies, five of them by Socket.IO and three
//! on pomelo-admin's wire.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::checks::until;
use crate::plan::{self, Content, FAR, File, NEAR, OLD};
use crate::proxy::Proxy;
use crate::support::{Cluster, Host, SETTINGS, parent, pomelo, runs};

/// How large the master's disk is.
const DISK: &str = "48m";
/// Where Debian has libfaketime, by architecture.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];

/// A monitor that the test runs by itself.
struct Distant {
    host: Host,
    proxy: Proxy,
}

/// The cluster.
pub struct Stage {
    /// Dropped before the directory that they run in.
    distant: BTreeMap<&'static str, Mutex<Distant>>,
    pub cluster: Cluster,
    /// The library that makes the clock jump.
    faketime: Option<&'static str>,
    /// Whether the data directory is a file system of its own.
    has_disk: bool,
}

/// A component of `target/modules/fixtures`.
fn built(name: &str) -> Vec<u8> {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/modules/fixtures")).join(name);
    fs::read(&file).unwrap_or_else(|error| panic!("{} is not built ({error}): run modules/build.sh", file.display()))
}

/// What a module's file has in it; none where there is no file.
fn content(file: File, content: Content) -> Option<Vec<u8>> {
    let bytes = match content {
        Content::First => built("echo-v1.wasm"),
        Content::Second => built("echo-v2.wasm"),
        Content::Half => {
            let whole = built("echo-v2.wasm");
            whole[..whole.len() / 2].to_vec()
        }
        Content::Foreign => b"this is no module".to_vec(),
        Content::BadStart => built("echo-bad-start.wasm"),
        Content::Traps => built("echo-trap.wasm"),
        Content::Gone => return None,
    };
    Some(match file {
        File::Echo => bytes,
        File::Ecko => renamed(bytes),
    })
}

/// The same component under the id `ecko`, which is as long, so that the file stays what it is.
fn renamed(mut bytes: Vec<u8>) -> Vec<u8> {
    let (from, to) = (br#""id":"echo""#, br#""id":"ecko""#);
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|part| part == from) {
        bytes[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    bytes
}

fn can_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs -o size=1m none /tmp"]);
    command.output().is_ok_and(|done| done.status.success())
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.distant.clear();
        self.cluster.hosts.clear();
        // The library keeps a piece of memory for each process, and leaves that of one that is killed.
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
            if pid.and_then(|pid| pid.parse().ok()).is_some_and(|pid| !runs(pid)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Stage {
    /// Starts everything. Must be called within a Tokio runtime.
    pub async fn start() -> Stage {
        let near = |server_type: &str| {
            let ids = NEAR.iter().filter(|id| id.starts_with(server_type));
            ids.map(|id| json!({"id": id, "command": ["sleep", "100000"]})).collect::<Value>()
        };
        let servers = json!({"chat": near("chat"), "gate": near("gate")});
        let cluster = Cluster::configured(servers, &format!("{SETTINGS}[module.misbehave]\ngrants = [\"cluster\"]\n"));
        fs::create_dir_all(cluster.path("modules")).unwrap();
        fs::create_dir_all(cluster.path("data")).unwrap();
        fs::write(cluster.path("modules/misbehave.wasm"), built("misbehave.wasm")).unwrap();
        let faketime = FAKETIME.into_iter().find(|file| Path::new(file).exists());
        let mut stage = Stage { cluster, distant: BTreeMap::new(), faketime, has_disk: can_mount() };
        stage.clock(0);
        for file in [File::Echo, File::Ecko] {
            stage.module(file, Content::First);
        }
        stage.master();
        // The first host compiles the modules, and the others find them compiled.
        let stage = Arc::new(stage);
        until("the master's own servers run", &stage, |stage| {
            let running = stage.running();
            (running.len() <= NEAR.len()).then(|| format!("{:?} run", running.keys().collect::<Vec<_>>()))
        })
        .await;
        let mut stage = Arc::into_inner(stage).expect("whoever looked has seen it");
        for id in FAR.into_iter().chain(OLD) {
            let proxy = Proxy::to(stage.address()).await;
            let host = stage.monitor(id, &proxy);
            stage.distant.insert(id, Mutex::new(Distant { host, proxy }));
        }
        stage
    }

    /// The master's port.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.cluster.port).into()
    }

    /// What this machine cannot do, in words.
    pub fn left_out(&self) -> Vec<&'static str> {
        let disk = (!self.has_disk).then_some("full disks: `unshare --mount` and `mount` are not permitted here");
        let clock = self.faketime.is_none().then_some("clock steps: there is no libfaketime");
        disk.into_iter().chain(clock).collect()
    }

    fn master(&mut self) {
        let (dir, data) = (self.cluster.dir.path().to_owned(), self.cluster.path("data"));
        let start = self.marked(pomelo(&["start", "--config", dir.to_str().unwrap()]));
        let mut command = match self.has_disk {
            false => start,
            true => {
                // In a mount namespace of its own, because the file system goes with the last process that uses it, however that ends.
                let mut command = Command::new("unshare");
                let mount = format!("mount -t tmpfs -o size={DISK} none \"$0\" && exec \"$@\"");
                command.args(["--mount", "sh", "-c", &mount]).arg(data).arg(start.get_program()).args(start.get_args());
                for (name, value) in start.get_envs() {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                command
            }
        };
        command.current_dir(&dir);
        self.cluster.hosts.push(Host::start(command, self.cluster.path("master.log")));
    }

    /// A command by whose environment its processes are found, with a clock of the test's own.
    fn marked(&self, mut command: Command) -> Command {
        command.env("POMELO_CHAOS", self.cluster.dir.path());
        if let Some(library) = self.faketime {
            // Steps of the wall clock only, because that is what happens to machines.
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.cluster.path("clock"));
            // What is read anew each second is not read at every look at the clock. Times of files stay as they are.
            for name in ["FAKETIME_CACHE_DURATION", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
                command.env(name, "1");
            }
        }
        command
    }

    fn monitor(&self, id: &'static str, proxy: &Proxy) -> Host {
        let master = if OLD.contains(&id) { "--pomelo-master" } else { "--master" };
        let (address, modules) = (proxy.address.to_string(), self.cluster.path("modules"));
        let mut command = pomelo(&["monitor", "--id", id, "--type", &id[..3], master, &address, "--modules"]);
        command.arg(modules).args(["--", "sleep", "100000"]).current_dir(self.cluster.dir.path());
        Host::start(self.marked(command), self.cluster.path(&format!("{id}.log")))
    }

    /// Says what is wrong with a distant monitor's connection.
    pub fn link(&self, id: &str, wrong: Option<plan::Link>) {
        self.distant[id].lock().proxy.is(wrong);
    }

    /// Starts a distant monitor again that has ended.
    pub fn revive(&self, id: &'static str) {
        if let Some(distant) = self.distant.get(id) {
            let mut distant = distant.lock();
            let host = self.monitor(id, &distant.proxy);
            distant.host = host;
        }
    }

    /// Puts something into a module's file, as editors and package tools do it, or removes the file.
    pub fn module(&self, file: File, what: Content) {
        let path = self.cluster.path(&format!("modules/{}.wasm", format!("{file:?}").to_lowercase()));
        match content(file, what) {
            None => _ = fs::remove_file(path),
            Some(bytes) => {
                let new = path.with_extension("new");
                fs::write(&new, bytes).unwrap();
                fs::rename(new, path).unwrap();
            }
        }
    }

    /// Sets the clock so many seconds apart from this machine's.
    pub fn clock(&self, seconds: i64) {
        let new = self.cluster.path("clock.new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, self.cluster.path("clock")).unwrap();
    }

    /// Fills the master's disk; the file that does it. None where the disk is this machine's.
    pub fn fill_disk(&self) -> Option<PathBuf> {
        let data = self.cluster.path("data");
        let root = PathBuf::from(format!("/proc/{}/root", self.cluster.hosts[0].pid()));
        let file = root.join(data.strip_prefix("/").unwrap()).join("filler");
        self.has_disk.then(|| {
            // It ends with the error that there is no room.
            let mut zeros = std::io::repeat(0);
            let _ = fs::File::create(&file).and_then(|mut file| std::io::copy(&mut zeros, &mut file));
            file
        })
    }

    /// The programs that run, by the ids of their servers.
    pub fn programs(&self) -> BTreeMap<String, u32> {
        let mark = format!("POMELO_CHAOS={}", self.cluster.dir.path().display());
        let server = |pid: u32| {
            let environment = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
            let is_program = fs::read_to_string(format!("/proc/{pid}/comm")).ok()? == "sleep\n";
            let mut variables = environment.split('\0');
            let ours = is_program && variables.clone().any(|variable| variable == mark) && runs(pid);
            let id = variables.find_map(|variable| variable.strip_prefix("POMELO_SERVER_ID="))?;
            ours.then(|| (id.to_owned(), pid))
        };
        let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        entries.filter_map(server).collect()
    }

    /// The process of a server's program, while it runs.
    pub fn program(&self, id: &str) -> Option<u32> {
        self.programs().get(id).copied()
    }

    /// The process of a server's monitor, while its program runs.
    pub fn supervisor(&self, id: &str) -> Option<u32> {
        let program = self.program(id)?;
        // Between the two looks it may have ended.
        runs(program).then(|| parent(program)).filter(|pid| *pid > 1)
    }

    /// Which servers `list` shows as running.
    pub fn running(&self) -> Map<String, Value> {
        let listed = self.cluster.list();
        let rows = listed.as_object().cloned().unwrap_or_default();
        rows.into_iter().filter(|(_, row)| row["state"] == "running").collect()
    }

    /// The logs, by name.
    pub fn logs(&self) -> Vec<(String, String)> {
        let files = fs::read_dir(self.cluster.dir.path()).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let read = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned())
        };
        logs.map(read).collect()
    }
}
