//! Runs the system's `perf` on a process: `perf record` for a time, then `perf script`, whose text becomes the profile.
//!
//! Stacks are followed by frame pointers: what a program without them shows is its innermost functions. Where a machine has no hardware
//! counters, as in most virtual ones, `perf` falls back to the clock by itself.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::convert::Converter;
use crate::failure::{Failure, code};
use crate::util::line_reader::{LineRead, read_line};
use crate::util::process_group::ProcessGroup;

/// Samples a second of each running thread. No round number, so that a program's own rhythm is not met every time.
const FREQUENCY: u32 = 499;
/// Time that `perf` may take beyond that of the profile, for each of its two runs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is started.
const ATTEMPTS: u32 = 3;
/// Size of what `perf record` writes: a minute of some ten busy threads. What comes after is left out.
const MAX_RECORD: &str = "--max-size=64M";
/// A longer line of `perf script` is cut, bytes: a name of this length is none that could be read.
const MAX_LINE: usize = 64 << 10;
/// Bytes of an error that `perf` gives.
const MAX_ERROR: usize = 600;

/// How a run of `perf` ended, and the beginning of what it complained of.
struct PerfExit {
    status: ExitStatus,
    complaints: Vec<u8>,
}

/// Profiles a process; `program` is `perf`, or where it is.
pub(super) async fn profile(program: &Path, pid: u32, duration: Duration) -> Result<Box<RawValue>, Failure> {
    let directory = tempfile::Builder::new()
        .prefix("pomelo-profile-")
        .tempdir()
        .map_err(|error| failed(&format!("there is no place for what `perf` records: {error}")))?;
    let file = directory.path().join("perf.data");
    let began = SystemTime::now();
    record(program, pid, duration, &file).await?;
    let converter = tokio::time::timeout(PATIENCE, script(program, pid, began, &file))
        .await
        .map_err(|_| failed(&"`perf script` did not end in time"))??;
    let json = tokio::task::spawn_blocking(move || converter.finish()).await.map_err(|error| failed(&error))?;
    json.map_err(|error| failed(&error))
}

/// Records for the time given. `perf` gives up without a word where a thread of the process ends while it looks at it first: it is tried again.
async fn record(program: &Path, pid: u32, duration: Duration, file: &Path) -> Result<(), Failure> {
    for attempt in 1.. {
        let began = Instant::now();
        let done = record_once(program, pid, duration, file).await?;
        if done.status.success() {
            break;
        }
        if attempt == ATTEMPTS || began.elapsed() >= duration || !done.complaints.trim_ascii().is_empty() {
            return Err(refusal(&done));
        }
    }
    Ok(())
}

async fn record_once(program: &Path, pid: u32, duration: Duration, file: &Path) -> Result<PerfExit, Failure> {
    let (frequency, pid) = (FREQUENCY.to_string(), pid.to_string());
    let mut command = perf(program);
    command
        .args(["record", "--no-buildid-cache", "-g", "-F", &frequency, MAX_RECORD, "-p", &pid, "-o"])
        .arg(file)
        .args(["--", "sleep", &format!("{:.3}", duration.as_secs_f64())])
        .stdout(Stdio::null());
    let mut group = spawn(program, command)?;
    let complaints = beginning(group.take_stderr());
    let ended = async { tokio::join!(group.leader_ended(), complaints) };
    let (status, complaints) = tokio::time::timeout(duration + PATIENCE, ended)
        .await
        .map_err(|_| failed(&"`perf record` did not end in time"))?;
    let status = status.map_err(|error| failed(&error))?;
    group.let_go();
    Ok(PerfExit { status, complaints })
}

async fn script(program: &Path, pid: u32, began: SystemTime, file: &Path) -> Result<Converter, Failure> {
    let mut command = perf(program);
    // Names of inlined functions would be looked up one by one, for minutes.
    command
        .args(["script", "--no-inline", "-F", "comm,pid,tid,time,ip,sym,dso", "-i"])
        .arg(file)
        .stdout(Stdio::piped());
    let mut group = spawn(program, command)?;
    let mut lines = BufReader::new(group.take_stdout().ok_or_else(|| failed(&"`perf script` cannot be read"))?);
    // Beside what is wanted: a pipe that nobody empties would hold it up.
    let complaints = tokio::spawn(beginning(group.take_stderr()));
    let mut converter = Converter::new(pid, FREQUENCY, began);
    let mut line = Vec::new();
    loop {
        let read = read_line(&mut lines, &mut line, MAX_LINE).await.map_err(|error| failed(&error))?;
        if read == LineRead::End || converter.is_full() {
            break;
        }
        converter.line(&String::from_utf8_lossy(&line));
    }
    if converter.is_full() {
        // The rest is not wanted; the process goes with its handle.
        return Ok(converter);
    }
    drop(lines);
    let status = group.leader_ended().await.map_err(|error| failed(&error))?;
    group.let_go();
    let complaints = complaints.await.unwrap_or_default();
    if status.success() { Ok(converter) } else { Err(refusal(&PerfExit { status, complaints })) }
}

/// Reads to the end, and keeps as much of the beginning as is told of it.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut text = Vec::new();
    let Some(mut stream) = stream else { return text };
    // What cannot be read is at its end.
    let _ = (&mut stream).take(MAX_ERROR as u64).read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    text
}

fn perf(program: &Path) -> Command {
    let mut command = Command::new(program);
    // It shall ask no server for debug information, and no person for a page.
    command.env("DEBUGINFOD_URLS", "").env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts it as the leader of a process group, which is killed when the profile is no longer wanted.
fn spawn(program: &Path, command: Command) -> Result<ProcessGroup, Failure> {
    ProcessGroup::spawn(command).map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "the program `{}` is not on this server's machine: install it (Debian: linux-perf, Ubuntu: linux-tools-generic, Fedora: perf)",
                program.display()
            ),
            _ => format!("the program `{}` cannot be run: {error}", program.display()),
        };
        Failure::new(code::NOT_AVAILABLE, message)
    })
}

/// Why `perf` would not, with what helps.
fn refusal(done: &PerfExit) -> Failure {
    let said = String::from_utf8_lossy(&done.complaints);
    let said = said.trim();
    if ["perf_event_paranoid", "ermission", "perf_event_open"].iter().any(|word| said.contains(word)) {
        let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
        let message = format!(
            "the kernel of this server's machine does not let this user profile that process: run the monitor as the program's user and set \
             the sysctl kernel.perf_event_paranoid to 2 or less (it is {}), or give the monitor CAP_PERFMON and CAP_SYS_PTRACE; in a container, its seccomp \
             profile has to allow perf_event_open",
            paranoid.trim()
        );
        return Failure::new(code::NOT_AVAILABLE, message);
    }
    let cut = &said[..said.floor_char_boundary(MAX_ERROR)];
    let said = match cut {
        "" => format!(
            "it gave no reason ({}); this user may not look at that process, or its threads come and go",
            done.status
        ),
        cut => cut.to_owned(),
    };
    Failure::new(code::NOT_AVAILABLE, format!("`perf` cannot profile the process: {said}"))
}

fn failed(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(code::FAILED, format!("the process could not be profiled: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p_profiler_without_perf_says_what_is_missing() {
        let failure = profile("/nonexistent/perf".as_ref(), 1, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(failure.code, code::NOT_AVAILABLE);
        assert!(failure.message.contains("`/nonexistent/perf` is not on this server's machine"), "{failure}");
        assert!(failure.message.contains("linux-perf"), "{failure}");
    }

    #[tokio::test]
    async fn p_profiler_however_much_perf_complains_it_is_not_held_up() {
        use tokio::io::AsyncWriteExt;
        let (mut perf, errors) = tokio::io::duplex(64);
        let complaining = async {
            perf.write_all(&[b'x'; 100_000]).await.unwrap();
            drop(perf);
        };
        let ((), told) = tokio::join!(complaining, beginning(Some(errors)));
        assert_eq!(told, [b'x'; MAX_ERROR]);
    }

    #[test]
    fn p_profiler_a_refusal_of_the_kernel_says_what_helps() {
        use std::os::unix::process::ExitStatusExt;
        let refused = |complaints: &str| {
            let status = ExitStatus::from_raw(255 << 8);
            refusal(&PerfExit { status, complaints: complaints.into() })
        };
        let kernel = refused("Error:\nConsider adjusting /proc/sys/kernel/perf_event_paranoid setting");
        assert_eq!(kernel.code, code::NOT_AVAILABLE);
        assert!(kernel.message.contains("CAP_PERFMON"), "{kernel}");
        let other = refused("Couldn't create thread/CPU maps: No such process\n");
        assert!(other.message.contains("No such process"), "{other}");
        assert!(refused("").message.contains("exit status: 255"));
    }
}
