//! Processes that stay until their test ends, and what the kernel says of a process.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::eventually;

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

    /// Starts a process with a standard output of its own, and with its standard error in a file.
    pub fn start_with_output(mut command: Command, output: impl Into<Stdio>, log: PathBuf) -> Host {
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        let command = command.process_group(0).stdout(output).stderr(errors);
        Host { child: command.spawn().unwrap(), log }
    }

    /// Starts a process whose output goes to a pipe that nobody reads. Its log stays empty.
    pub fn start_unread(mut command: Command) -> Host {
        let output = unread();
        let command = command.process_group(0).stdout(output.try_clone().unwrap()).stderr(output);
        Host { child: command.spawn().unwrap(), log: PathBuf::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, where that was piped.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits until it ends.
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

/// Whether a process runs. A zombie does not.
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
