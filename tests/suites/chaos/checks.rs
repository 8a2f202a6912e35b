//! What must hold when a run is over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use procfs::process::Process;

use crate::act::Acts;
use crate::asking::Book;
use crate::plan;
use crate::stage::Stage;
use crate::support::{members, parent, view_file};

/// What a recovery may take at most. It only keeps a failing test from hanging.
const LONG: Duration = Duration::from_secs(120);
/// How long level 1 may wait for a `stop`.
const STOP: Duration = Duration::from_secs(2);
/// How much memory and how many descriptors may be more than before: a tenth.
const TENTH: u64 = 10;

/// Waits until something holds, and says what is missing where it never does.
pub async fn until(what: &str, stage: &Arc<Stage>, mut missing: impl FnMut(&Stage) -> Option<String> + Send + 'static) {
    let (what, stage) = (what.to_owned(), stage.clone());
    let waiting = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        while let Some(missing) = missing(&stage) {
            assert!(begun.elapsed() < LONG, "{what}: not within {LONG:?}: {missing}");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    if let Err(error) = waiting.await {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Waits until all twenty servers and the master run and everybody knows exactly these.
pub async fn settled(stage: &Arc<Stage>) {
    let mut wanted: BTreeSet<String> = plan::servers().map(str::to_owned).collect();
    wanted.insert("master".into());
    let all = wanted.clone();
    until("the master's list has all servers and no others", stage, move |stage| {
        let running: BTreeSet<String> = stage.running().keys().cloned().collect();
        (running != all).then(|| {
            let differing: Vec<_> = running.symmetric_difference(&all).collect();
            format!("{differing:?} differ; listed: {}", stage.cluster.list())
        })
    })
    .await;
    until("every program's view has the members that the master's list has", stage, move |stage| {
        let programs = stage.programs();
        let differs = |(id, pid): (&String, &u32)| {
            // One that has ended just now has no file.
            let seen = view_file(*pid).map(|file| members(&seen_by(*pid, &file))).unwrap_or_default();
            (seen != wanted).then(|| format!("{id}: {:?}", seen.symmetric_difference(&wanted).collect::<Vec<_>>()))
        };
        let views: Vec<_> = programs.iter().filter_map(differs).collect();
        (programs.len() != wanted.len() - 1 || !views.is_empty())
            .then(|| format!("{} programs; {views:?}", programs.len()))
    })
    .await;
}

/// A file as a process finds it, which may be in another mount namespace.
fn seen_by(pid: u32, file: &Path) -> PathBuf {
    Path::new(&format!("/proc/{pid}/root")).join(file.strip_prefix("/").unwrap_or(file))
}

/// Memory and descriptors of the master and of each monitor.
#[derive(Debug)]
pub struct Figures(BTreeMap<u32, Figure>);

/// Those of one process.
#[derive(Clone, Debug)]
struct Figure {
    name: String,
    /// Resident memory, KiB.
    memory: u64,
    descriptors: u64,
}

impl Figure {
    /// None where the process has ended.
    fn of(name: &str, pid: u32) -> Option<Figure> {
        let process = Process::new(pid.cast_signed()).ok()?;
        let memory = process.status().ok()?.vmrss?;
        Some(Figure { name: name.to_owned(), memory, descriptors: process.fd_count().ok()? as u64 })
    }
}

impl Figures {
    pub fn of(stage: &Stage) -> Figures {
        let programs = stage.programs();
        let monitors = programs.iter().map(|(id, pid)| (id.as_str(), parent(*pid)));
        let all = monitors.chain([("master", stage.cluster.hosts[0].pid())]);
        Figures(all.filter_map(|(id, pid)| Some((pid, Figure::of(id, pid)?))).collect())
    }
}

/// Looks at everything, so that a run that failed shows all that is wrong.
pub fn hold(stage: &Stage, book: &Book, acts: &Acts, before: &Figures, long: bool) {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (asked, answered, cut, surplus) =
        (count(&book.asked), count(&book.answered), count(&book.cut), count(&book.surplus));
    let failed = book.failed.lock();
    let failures: u64 = failed.values().sum();
    println!("requests: {asked} asked, {answered} answered, {failures} failed, {cut} on connections that broke");
    println!("failures: {failed:?}");
    let mut wrong = book.faults.lock().clone();
    if surplus > 0 {
        wrong.push(format!("{surplus} answers to what was answered already"));
    }
    if asked != answered + failures + cut {
        wrong.push(format!("of {asked} requests {} have an outcome", answered + failures + cut));
    }
    wrong.extend(acts.refused.lock().iter().cloned());
    let stops = acts.stops.lock();
    let longest = stops.iter().max().copied().unwrap_or_default();
    println!("{} stops of level 1, the longest {longest:?}", stops.len());
    if long && longest > STOP {
        wrong.push(format!("level 1 waited {longest:?} for a `stop`"));
    }
    for (name, log) in stage.logs() {
        wrong.extend(log.lines().filter(|line| line.contains("panicked")).map(|line| format!("{name}: {line}")));
    }
    wrong.extend(grown(stage, before, long));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Processes that have more than a tenth more than before. Memory is looked at in a long run only, because what is kept up to a bound has not reached it in
/// a short one.
fn grown(stage: &Stage, before: &Figures, long: bool) -> Vec<String> {
    let after = Figures::of(stage);
    let both = before.0.iter().filter_map(|(pid, before)| Some((before, after.0.get(pid)?)));
    let mut wrong = Vec::new();
    for (before, after) in both {
        println!(
            "{}: {} MiB before, {} after; {} descriptors before, {} after",
            before.name,
            before.memory >> 10,
            after.memory >> 10,
            before.descriptors,
            after.descriptors
        );
        let more = |before: u64, after: u64| after > before + before.div_ceil(TENTH);
        if more(before.descriptors, after.descriptors) {
            wrong.push(format!("{}: {} descriptors, {} before", before.name, after.descriptors, before.descriptors));
        }
        if long && more(before.memory, after.memory) {
            wrong.push(format!("{}: {} KiB, {} before", before.name, after.memory, before.memory));
        }
    }
    wrong
}
