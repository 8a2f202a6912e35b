//! Runs the system's `perf` on a process: `perf record` for a time, then `perf script`, whose text becomes the profile.
//!
//! Stacks are followed by frame pointers. Of a program without them, only the innermost functions are shown. Most virtual machines have no
//! hardware counters; `perf` then uses the clock by itself.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::convert::Converter;
use crate::failure::{Failure, code};

/// Samples a second of each running thread. It is not a round number, so that samples do not fall in step with what a program does regularly.
const FREQUENCY: u32 = 499;
/// Time that each of the two runs of `perf` may take, beyond the time that is profiled.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often `perf record` is tried.
const ATTEMPTS: u32 = 3;
/// The most that `perf record` writes: a minute of some ten busy threads. Later samples are left out.
const MAX_RECORD: &str = "--max-size=64M";
/// A longer line of `perf script` is taken as two lines. No function's name is that long.
const MAX_LINE: u64 = 64 << 10;
/// Bytes of an error of `perf` that are told.
const MAX_ERROR: usize = 600;

/// Profiles a process; `program` is `perf`, or where it is.
pub(super) async fn profile(program: &Path, pid: u32, duration: Duration) -> Result<Box<RawValue>, Failure> {
    let directory = tempfile::Builder::new()
        .prefix("pomelo-profile-")
        .tempdir()
        .map_err(|error| failed(&format!("no directory can be made for what `perf` records: {error}")))?;
    let file = directory.path().join("perf.data");
    let began = SystemTime::now();
    record(program, pid, duration, &file).await?;
    let converter = tokio::time::timeout(PATIENCE, script(program, pid, began, &file))
        .await
        .map_err(|_| failed(&"`perf script` did not end in time"))??;
    let json = tokio::task::spawn_blocking(move || converter.finish()).await.map_err(|error| failed(&error))?;
    json.map_err(|error| failed(&error))
}

/// Records for the time given. `perf` is tried again where it ends at once without a message, because that happens when a thread of the process
/// ends while `perf` attaches to it.
async fn record(program: &Path, pid: u32, duration: Duration, file: &Path) -> Result<(), Failure> {
    for attempt in 1.. {
        let began = Instant::now();
        let done = record_once(program, pid, duration, file).await?;
        if done.status.success() {
            break;
        }
        if attempt == ATTEMPTS || began.elapsed() >= duration || !done.stderr.trim_ascii().is_empty() {
            return Err(refusal(&done));
        }
    }
    Ok(())
}

async fn record_once(program: &Path, pid: u32, duration: Duration, file: &Path) -> Result<Output, Failure> {
    let (frequency, pid) = (FREQUENCY.to_string(), pid.to_string());
    let mut command = perf(program);
    command
        .args(["record", "--no-buildid-cache", "-g", "-F", &frequency, MAX_RECORD, "-p", &pid, "-o"])
        .arg(file)
        .args(["--", "sleep", &format!("{:.3}", duration.as_secs_f64())])
        .stdout(Stdio::null());
    let (child, group) = spawn(program, &mut command)?;
    let done = tokio::time::timeout(duration + PATIENCE, child.wait_with_output()).await;
    let done = done.map_err(|_| failed(&"`perf record` did not end in time"))?.map_err(|error| failed(&error))?;
    group.ended();
    Ok(done)
}

async fn script(program: &Path, pid: u32, began: SystemTime, file: &Path) -> Result<Converter, Failure> {
    let mut command = perf(program);
    // Names of inlined functions would be looked up one by one, for minutes.
    command
        .args(["script", "--no-inline", "-F", "comm,pid,tid,time,ip,sym,dso", "-i"])
        .arg(file)
        .stdout(Stdio::piped());
    let (mut child, group) = spawn(program, &mut command)?;
    let mut lines = BufReader::new(child.stdout.take().ok_or_else(|| failed(&"`perf script` cannot be read"))?);
    // The errors are read at the same time, because `perf` would wait if nobody emptied their pipe.
    let errors = child.stderr.take().map(|errors| tokio::spawn(beginning(errors)));
    let mut converter = Converter::new(pid, FREQUENCY, began);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).await.map_err(|error| failed(&error))?;
        if read == 0 || converter.is_full() {
            break;
        }
        converter.line(&String::from_utf8_lossy(&line));
    }
    if converter.is_full() {
        // The rest is not needed. `perf` is killed when its handle is dropped.
        return Ok(converter);
    }
    drop(lines);
    let mut done = child.wait_with_output().await.map_err(|error| failed(&error))?;
    group.ended();
    if let Some(errors) = errors {
        done.stderr = errors.await.unwrap_or_default();
    }
    if done.status.success() { Ok(converter) } else { Err(refusal(&done)) }
}

/// Reads to the end, and keeps the first [`MAX_ERROR`] bytes.
async fn beginning(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut text = Vec::new();
    // A stream that cannot be read has ended.
    let _ = (&mut stream).take(MAX_ERROR as u64).read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    text
}

fn perf(program: &Path) -> Command {
    let mut command = Command::new(program);
    // It must not ask a server for debug information.
    command
        .env("DEBUGINFOD_URLS", "")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts it as the leader of a process group, which is killed when the profile is no longer wanted.
fn spawn(program: &Path, command: &mut Command) -> Result<(Child, Group), Failure> {
    let child = command.process_group(0).spawn().map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "the program `{}` is not on this server's machine: install it (Debian: linux-perf, Ubuntu: linux-tools-generic, Fedora: perf)",
                program.display()
            ),
            _ => format!("the program `{}` cannot be run: {error}", program.display()),
        };
        Failure::new(code::NOT_AVAILABLE, message)
    })?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
    Ok((child, group))
}

/// A process group that `perf` leads: itself, and the `sleep` that it times itself by. Dropping it kills the group.
struct Group(Option<i32>);

impl Group {
    /// Its leader has ended, and all that it started.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // It may have ended by itself meanwhile.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Why `perf` refused, and what helps.
fn refusal(done: &Output) -> Failure {
    let said = String::from_utf8_lossy(&done.stderr);
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
        let ((), told) = tokio::join!(complaining, beginning(errors));
        assert_eq!(told, [b'x'; MAX_ERROR]);
    }

    #[test]
    fn p_profiler_a_refusal_of_the_kernel_says_what_helps() {
        use std::os::unix::process::ExitStatusExt;
        let refused = |stderr: &str| {
            let status = std::process::ExitStatus::from_raw(255 << 8);
            refusal(&Output { status, stdout: Vec::new(), stderr: stderr.into() })
        };
        let kernel = refused("Error:\nConsider adjusting /proc/sys/kernel/perf_event_paranoid setting");
        assert_eq!(kernel.code, code::NOT_AVAILABLE);
        assert!(kernel.message.contains("CAP_PERFMON"), "{kernel}");
        let other = refused("Couldn't create thread/CPU maps: No such process\n");
        assert!(other.message.contains("No such process"), "{other}");
        assert!(refused("").message.contains("exit status: 255"));
    }
}
