//! The masters that are measured, each a process of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use procfs::process::Process;
use serde_json::json;

use crate::load::Wire;

/// How long a master may take until it listens.
const STARTS: Duration = Duration::from_secs(60);

/// Which master.
pub enum Kind {
    /// A build of this project.
    Ours(PathBuf),
    /// pomelo-admin.
    Original,
}

impl Kind {
    pub fn speaks(&self, wire: Wire) -> bool {
        matches!(self, Kind::Ours(_)) || wire == Wire::Pomelo
    }
}

/// A master without servers. Dropped, it ends.
pub struct Master {
    child: Child,
    port: u16,
    /// Its files, and what it has written.
    directory: tempfile::TempDir,
}

impl Master {
    /// Starts one, and waits until it listens.
    pub fn start(kind: &Kind) -> Result<Master> {
        let directory = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(directory.path().join("log"))?;
        let mut command = match kind {
            Kind::Ours(program) => ours(program, directory.path(), port)?,
            Kind::Original => original(port),
        };
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut master = Master { child, port, directory };
        let began = Instant::now();
        while TcpStream::connect(master.address()).is_err() {
            if let Some(ended) = master.child.try_wait()? {
                let said = fs::read_to_string(master.directory.path().join("log")).unwrap_or_default();
                anyhow::bail!("it has ended ({ended}): {said}");
            }
            ensure!(began.elapsed() < STARTS, "it does not listen within {STARTS:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(master)
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn process(&self) -> Result<Process> {
        Process::new(self.child.id().cast_signed()).context("the master has ended")
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.process()?.stat()?;
        let ticks = stat.utime + stat.stime;
        Ok(Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second()))
    }

    /// The most memory that it has had resident, MiB.
    pub fn peak_mib(&self) -> Result<u64> {
        Ok(self.process()?.status()?.vmhwm.unwrap_or_default() >> 10)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours(program: &Path, directory: &Path, port: u16) -> Result<Command> {
    let files = [
        ("master.json", json!({"id": "master", "host": "127.0.0.1", "port": port})),
        ("servers.json", json!({})),
        ("adminUser.json", json!([{"id": "1", "username": "admin", "password": "admin", "level": 1}])),
    ];
    for (name, value) in files {
        fs::write(directory.join(name), value.to_string())?;
    }
    fs::write(directory.join("pomelo.toml"), "[modules]\nsystem_monitor = true\n")?;
    let mut command = Command::new(program);
    command.args(["master", "--config"]).arg(directory).env_remove("POMELO_LOG");
    Ok(command)
}

fn original(port: u16) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command.arg(root.join("original.js")).arg(port.to_string());
    command.env("NODE_PATH", root.join("../fixtures/js/node_modules")).env("NODE_NO_WARNINGS", "1");
    command
}
