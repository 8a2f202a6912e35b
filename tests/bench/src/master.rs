//! The masters that are measured, each a process of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::process::Measured;
use crate::wire::Wire;

/// How long a master may take until it listens.
const STARTS: Duration = Duration::from_secs(60);
/// Members of the table that our master lets in without being told more.
const JOIN_BY_DEFAULT: usize = 1000;

/// Which master.
pub enum Kind {
    /// A build of this project.
    Ours(PathBuf),
    /// pomelo-admin.
    Original,
}

impl Kind {
    pub fn is_ours(&self) -> bool {
        matches!(self, Kind::Ours(_))
    }

    pub fn speaks(&self, wire: Wire) -> bool {
        self.is_ours() || wire == Wire::Pomelo
    }
}

/// The files of a master, which may be started with them more than once.
pub struct Home {
    directory: tempfile::TempDir,
    servers: usize,
    /// Where compiled code is kept.
    code: PathBuf,
}

impl Home {
    /// For a master that so many servers are to join. None of them is configured. `code` has what was compiled before.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn new(servers: usize, code: &Path) -> Result<Home> {
        let directory = tempfile::Builder::new().prefix("pomelo-bench-").tempdir()?;
        let path = directory.path();
        let files = [
            ("servers.json", json!({})),
            ("adminUser.json", json!([{"id": "1", "username": "admin", "password": "admin", "level": 1}])),
        ];
        for (name, value) in files {
            fs::write(path.join(name), value.to_string())?;
        }
        // What pomelo's `nodeInfo` asks of every server that joins would be measured with the joining.
        let mut settings = format!("[modules]\nsystem_monitor = {}\n", servers == 0);
        settings.push_str("[module.probe]\ngrants = [\"cluster\", \"uplink\"]\n");
        if servers > JOIN_BY_DEFAULT {
            settings.push_str(&format!(
                "[network]\nmax_joined = {}\nmax_connections = {}\n",
                servers + 24,
                servers + 1024
            ));
        }
        fs::write(path.join("pomelo.toml"), settings)?;
        fs::create_dir(path.join("modules"))?;
        Ok(Home { directory, servers, code: code.to_owned() })
    }

    /// Gives a module's instances more memory than they have by default: runtimes of other languages need it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn roomy(&self, module: &str) -> Result<()> {
        let path = self.directory.path().join("pomelo.toml");
        let settings = fs::read_to_string(&path)?;
        let limits = format!("{settings}[module.{module}.limits]\nmemory_mib = 64\nmodule_mib = 128\n");
        Ok(fs::write(path, limits)?)
    }

    /// Puts a module into place, as a whole and at once. When that was done.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put_module(&self, name: &str, bytes: &[u8]) -> Result<Instant> {
        let directory = self.directory.path();
        let beside = directory.join("module.new");
        fs::write(&beside, bytes)?;
        fs::rename(beside, directory.join("modules").join(name))?;
        Ok(Instant::now())
    }

    /// Adds a user of level 1 whose password is hashed. Whoever reads the password from the environment is the master's own program.
    ///
    /// # Errors
    /// If the program refuses.
    pub fn add_user(&self, kind: &Kind, user: &str, password: &str) -> Result<()> {
        let Kind::Ours(program) = kind else { return Ok(()) };
        let directory = self.directory.path();
        fs::write(
            directory.join("master.json"),
            json!({"id": "master", "host": "127.0.0.1", "port": 3005}).to_string(),
        )?;
        let mut command = Command::new(program);
        command.args(["user", "add", user, "--level", "1", "--config"]).arg(directory);
        let said = command.env("POMELO_NEW_PASSWORD", password).stdin(Stdio::null()).output()?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    fn command(&self, kind: &Kind, port: u16) -> Result<Command> {
        let directory = self.directory.path();
        Ok(match kind {
            Kind::Ours(program) => {
                let master = json!({"id": "master", "host": "127.0.0.1", "port": port});
                fs::write(directory.join("master.json"), master.to_string())?;
                let mut command = Command::new(program);
                command
                    .args(["master", "--config"])
                    .arg(directory)
                    .env_remove("POMELO_LOG")
                    .env("POMELO_CACHE", &self.code);
                command
            }
            Kind::Original => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                let mut command = Command::new("node");
                command.arg(root.join("original.js")).arg(port.to_string());
                if self.servers > 0 {
                    command.arg("fleet");
                }
                command.env("NODE_PATH", root.join("../fixtures/js/node_modules")).env("NODE_NO_WARNINGS", "1");
                command.current_dir(directory);
                command
            }
        })
    }
}

/// A master. Dropped, it ends.
pub struct Master {
    child: Child,
    port: u16,
    log: PathBuf,
    /// From when it was started until it listened.
    pub listened: Duration,
    /// When it was started.
    pub started: Instant,
}

impl Master {
    /// Starts one, and waits until it listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn start(kind: &Kind, home: &Home) -> Result<Master> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log_file = home.directory.path().join("log");
        let log = File::create(&log_file)?;
        let mut command = home.command(kind, port)?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut master = Master { child, port, log: log_file, listened: Duration::ZERO, started };
        while TcpStream::connect(master.address()).is_err() {
            if let Some(ended) = master.child.try_wait()? {
                anyhow::bail!("it has ended ({ended}): {}", master.log());
            }
            ensure!(started.elapsed() < STARTS, "it does not listen within {STARTS:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        master.listened = started.elapsed();
        Ok(master)
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn process(&self) -> Measured {
        Measured::new(self.child.id())
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many lines of its log tell of something that was not done in time.
    pub fn late_lines(&self) -> usize {
        let late = |line: &&str| ["deadline", "timed out", "timeout", "in time"].iter().any(|word| line.contains(word));
        self.log().lines().filter(late).count()
    }

    /// Whom a master of ours has turned away, by its metrics; empty where that cannot be known.
    pub fn turned_away(&self) -> String {
        const NAMES: [&str; 5] = [
            "pomelo_strangers_closed_total",
            "pomelo_peers_turned_away_total",
            "pomelo_peers_cut_total",
            "pomelo_connections_refused_total",
            "pomelo_calls_refused_total",
        ];
        let text = self.metrics().unwrap_or_default();
        let meant = |line: &&str| NAMES.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
        text.lines().filter(meant).collect::<Vec<_>>().join(", ")
    }

    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The last warnings of its log, or its last lines, for whoever has to find out what went wrong.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let warns = |line: &&str| line.contains(" WARN ") || line.contains("ERROR");
        let mut lines: Vec<&str> = log.lines().filter(warns).collect();
        if lines.is_empty() {
            lines = log.lines().collect();
        }
        lines[lines.len().saturating_sub(3)..].join(" / ").chars().take(600).collect()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
