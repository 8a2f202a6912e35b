//! From the text of `perf script` to the Firefox Profiler's processed format.
//!
//! A sample is a line that begins in the first column, `COMMAND PID/TID SECONDS:`, and its stack, innermost function first, one
//! line for each, `ADDRESS FUNCTION (FILE)`; an empty line ends it.

use std::collections::HashMap;
use std::time::SystemTime;

use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, ProcessHandle, Profile, SamplingInterval,
    ThreadHandle, Timestamp,
};
use serde_json::value::RawValue;

/// Samples and threads that a profile has at most. Later ones are left out.
const MAX_SAMPLES: usize = 100_000;
const MAX_THREADS: usize = 1024;

/// A profile in the making.
pub(super) struct Converter {
    profile: Profile,
    process: ProcessHandle,
    pid: u32,
    /// CPU time that a sample stands for.
    share: CpuDelta,
    user: CategoryHandle,
    kernel: CategoryHandle,
    threads: HashMap<u32, ThreadHandle>,
    /// When the first sample was taken, nanoseconds on `perf`'s clock.
    origin: Option<u64>,
    sample: Option<Sample>,
    samples: usize,
    /// Nanoseconds since the first sample.
    end: u64,
}

/// The sample whose lines are being read.
struct Sample {
    thread: ThreadHandle,
    at: u64,
    /// Innermost first.
    frames: Vec<FrameInfo>,
}

/// The first line of a sample.
#[derive(Debug, PartialEq)]
struct Head<'a> {
    command: &'a str,
    tid: u32,
    nanos: u64,
}

impl Converter {
    /// A profile without samples, of that process, that begins at that time; `frequency` is how many samples a second are taken of each thread.
    pub fn new(pid: u32, frequency: u32, began: SystemTime) -> Self {
        let name = format!("process {pid}");
        let mut profile = Profile::new(&name, began.into(), SamplingInterval::from_hz(frequency as f32));
        let user = profile.add_category("User", CategoryColor::Yellow);
        let kernel = profile.add_category("Kernel", CategoryColor::Orange);
        let process = profile.add_process(&name, pid, Timestamp::from_nanos_since_reference(0));
        profile.set_symbolicated(true);
        let threads = HashMap::new();
        let share = CpuDelta::from_nanos(1_000_000_000 / u64::from(frequency.max(1)));
        Converter {
            profile,
            process,
            pid,
            share,
            user,
            kernel,
            threads,
            origin: None,
            sample: None,
            samples: 0,
            end: 0,
        }
    }

    /// Whether the profile has as many samples as it may have.
    pub fn is_full(&self) -> bool {
        self.samples >= MAX_SAMPLES
    }

    /// Takes the next line.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if line.starts_with([' ', '\t']) {
            if let Some((name, in_kernel)) = frame(line) {
                self.frame(&name, in_kernel);
            }
            return;
        }
        self.end_sample();
        if let Some(head) = head(line) {
            self.begin_sample(&head);
        }
    }

    fn begin_sample(&mut self, head: &Head<'_>) {
        let thread = match self.threads.get(&head.tid) {
            Some(thread) => *thread,
            None if self.threads.len() >= MAX_THREADS => return,
            None => {
                let zero = Timestamp::from_nanos_since_reference(0);
                let thread = self.profile.add_thread(self.process, head.tid, zero, head.tid == self.pid);
                self.profile.set_thread_name(thread, head.command);
                self.threads.insert(head.tid, thread);
                thread
            }
        };
        if head.tid == self.pid {
            self.profile.set_process_name(self.process, head.command);
        }
        let at = head.nanos.saturating_sub(*self.origin.get_or_insert(head.nanos));
        self.end = self.end.max(at);
        self.sample = Some(Sample { thread, at, frames: Vec::new() });
    }

    fn frame(&mut self, name: &str, in_kernel: bool) {
        let Some(sample) = &mut self.sample else { return };
        let category = if in_kernel { self.kernel } else { self.user };
        let frame = Frame::Label(self.profile.intern_string(name));
        sample.frames.push(FrameInfo { frame, category_pair: category.into(), flags: FrameFlags::empty() });
    }

    fn end_sample(&mut self) {
        let Some(Sample { thread, at, frames }) = self.sample.take() else { return };
        let stack = self.profile.intern_stack_frames(thread, frames.into_iter().rev());
        self.profile.add_sample(thread, Timestamp::from_nanos_since_reference(at), stack, self.share, 1);
        self.samples += 1;
    }

    /// The profile as JSON.
    ///
    /// # Errors
    /// None that is known: the format can always be written.
    pub fn finish(mut self) -> serde_json::Result<Box<RawValue>> {
        self.end_sample();
        let end = Timestamp::from_nanos_since_reference(self.end);
        self.profile.set_process_end_time(self.process, end);
        for thread in self.threads.values() {
            self.profile.set_thread_end_time(*thread, end);
        }
        serde_json::value::to_raw_value(&self.profile)
    }
}

/// `COMMAND PID/TID SECONDS:`; a command may have spaces.
fn head(line: &str) -> Option<Head<'_>> {
    let (rest, time) = line.strip_suffix(':')?.rsplit_once(' ')?;
    let (command, ids) = rest.trim_end().rsplit_once(' ')?;
    let (_, tid) = ids.split_once('/')?;
    let (seconds, fraction) = time.split_once('.')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    let fraction: u64 = fraction.parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(fraction * 10_u64.pow(9 - digits))?;
    Some(Head { command: command.trim(), tid: tid.parse().ok()?, nanos })
}

/// `ADDRESS FUNCTION (FILE)`: a name for the frame, and whether the frame is in the kernel.
fn frame(line: &str) -> Option<(String, bool)> {
    let (_, rest) = line.trim_start().split_once(' ')?;
    // A function's name may have parentheses, and the name of a file that was replaced ends with ` (deleted)`.
    let at = rest.rfind(" (/").or_else(|| rest.rfind(" ([")).or_else(|| rest.rfind(" ("))?;
    let (function, file) = (rest[..at].trim(), rest[at + 2..].trim_end_matches(')'));
    let in_kernel = file.starts_with("[kernel") || file.starts_with("[guest.kernel") || file.ends_with(".ko");
    let name = match function {
        "[unknown]" | "" => format!("{} (no symbol)", file.rsplit('/').next().unwrap_or(file)),
        function => function.to_owned(),
    };
    Some((name, in_kernel))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_of_each_kind_is_read() {
        let expected = Head { command: "tokio runtime w", tid: 25898, nanos: 922_903_692_000 };
        assert_eq!(head("tokio runtime w 25897/25898   922.903692:"), Some(expected));
        for other in
            ["", "sh", "sh 1/2 x.y:", "sh 1/2 1.5", "sh 1 1.5:", "sh 1/2 1.0123456789:", "sh 1/2 99999999999999.5:"]
        {
            assert_eq!(head(other), None, "{other}");
        }
        let name = |line: &str| frame(line).map(|(name, in_kernel)| format!("{name}|{in_kernel}"));
        assert_eq!(name("\t    616a [unknown] (/usr/bin/dash)").as_deref(), Some("dash (no symbol)|false"));
        assert_eq!(name("\t 16 f(int (*)(int)) (/opt/a b/x.so (deleted))").as_deref(), Some("f(int (*)(int))|false"));
        assert_eq!(name("  ffff do_syscall_64 ([kernel.kallsyms])").as_deref(), Some("do_syscall_64|true"));
        assert_eq!(name("  0 [unknown] ([unknown])").as_deref(), Some("[unknown] (no symbol)|false"));
        assert_eq!(name("\tnonsense"), None);
    }

    #[test]
    fn p_profiler_samples_become_threads_with_stacks() {
        let text = "server 7/7 10.000001: \n\t 1 inner (/bin/server)\n\t 2 main (/bin/server)\n\n\
                    worker 7/8 10.002: \n\t 3 work (/bin/server)\n\nserver 7/7 10.004001: \n\t 2 main (/bin/server)\n";
        let mut converter = Converter::new(7, 499, SystemTime::UNIX_EPOCH);
        text.lines().for_each(|line| converter.line(line));
        let profile: Value = serde_json::from_str(converter.finish().unwrap().get()).unwrap();
        let threads = profile["threads"].as_array().unwrap();
        let named = |name: &str| threads.iter().find(|thread| thread["name"] == name).unwrap();
        assert_eq!(named("server")["samples"]["length"], 2);
        assert_eq!(named("worker")["samples"]["length"], 1);
        assert_eq!(named("server")["stackTable"]["length"], 2, "main, and inner called by it");
        assert_eq!(profile["meta"]["interval"].as_f64().map(f64::round), Some(2.0));
    }
}
