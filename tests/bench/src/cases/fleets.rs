//! Fleets of monitors that join at once: until all know all, `list`, a quiet master; and with ten thousand a reload and the loss of half of them.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::reloads::{LOOK, unseen, version};
use super::{Run, median_and_worst, millis, seconds};
use crate::client::{Ask, Client};
use crate::fleet::{Counts, Fleet, Species};
use crate::master::{Home, Master};
use crate::process::own_cpu;
use crate::wire::Wire;

const LIST: Ask<'static> = Ask::Module("__console__", r#"{"signal":"list"}"#);
/// How long a `list` of ten thousand may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a fleet has caused is over after it.
const SETTLED: Duration = Duration::from_secs(3);

/// A fleet that is to join.
struct Plan {
    name: String,
    species: Species,
    wire: Wire,
    size: usize,
    lists: usize,
    /// How long the quiet master is looked at.
    idle: Duration,
}

/// A fleet that has joined.
struct Joined {
    fleet: Fleet,
    master: Master,
    home: Home,
    client: Client,
}

pub fn plain(run: &mut Run<'_>) -> Result<()> {
    let idle = Duration::from_secs(if run.short { 5 } else { 20 });
    let name = "1,000 of pomelo's monitors".to_owned();
    let plan = Plan { name, species: Species::Plain, wire: Wire::Pomelo, size: 1000, lists: 21, idle };
    join(run, &plan).map(drop)
}

pub fn ours(run: &mut Run<'_>) -> Result<()> {
    let idle = Duration::from_secs(if run.short { 5 } else { 20 });
    let name = "1,000 of our monitors".to_owned();
    let plan = Plan { name, species: Species::Ours, wire: Wire::SocketIo, size: 1000, lists: 21, idle };
    join(run, &plan)?;
    let name = "1,000 of our monitors on pomelo's wire".to_owned();
    join(run, &Plan { name, wire: Wire::Pomelo, lists: 5, idle: Duration::ZERO, ..plan }).map(drop)
}

/// A version of a module that the master hands on to a thousand monitors, each of which fetches it.
pub fn handed_on(run: &mut Run<'_>) -> Result<()> {
    const SIZE: usize = 1000;
    for (wire, name) in
        [(Wire::SocketIo, "1,000 monitors that take modules"), (Wire::Pomelo, "the same on pomelo's wire")]
    {
        let name = name.to_owned();
        let plan = Plan { name, species: Species::Taking, wire, size: SIZE, lists: 1, idle: Duration::ZERO };
        let Joined { fleet, master, home, client: _client } = join(run, &plan)?;
        let fetched = |counts: &Counts| counts.fetched.load(Relaxed);
        fleet.wait(Instant::now(), PATIENCE, "have the first version", SIZE, fetched)?;
        let (process, new) = (master.process(), unseen(&run.probes()?[1]));
        let cpu = process.cpu()?;
        let closed = home.put_module("probe.wasm", &new)?;
        let all = fleet.wait(closed, PATIENCE, "have fetched the new version", 2 * SIZE, fetched)?;
        run.tell(&plan.name, "file closed to all have fetched it", "s", seconds(all));
        run.tell(&plan.name, "master's CPU for that", "s", seconds(process.cpu()? - cpu));
        run.tell(&plan.name, "memory, peak, after that", "MiB", process.peak_mib()?);
        run.tell(&plan.name, "failed, late or lost, after that", "", fleet.counts.trouble() as f64);
    }
    Ok(())
}

pub fn five_thousand(run: &mut Run<'_>) -> Result<()> {
    let name = "5,000 of our monitors".to_owned();
    let plan = Plan { name, species: Species::Ours, wire: Wire::SocketIo, size: 5000, lists: 5, idle: Duration::ZERO };
    join(run, &plan).map(drop)
}

/// On pomelo's wire first: what a connection keeps there does not grow with the table.
pub fn ten_thousand(run: &mut Run<'_>) -> Result<()> {
    let (size, name) = if run.short { (2000, "2,000") } else { (10_000, "10,000") };
    let on = |wire, name| Plan { name, species: Species::Ours, wire, size, lists: 5, idle: Duration::ZERO };
    let name = format!("{name} of our monitors");
    large(run, on(Wire::Pomelo, format!("{name} on pomelo's wire"))).context("on pomelo's wire")?;
    large(run, on(Wire::SocketIo, name))
}

fn large(run: &mut Run<'_>, plan: Plan) -> Result<()> {
    let mut joined = join(run, &plan)?;
    reload(run, &plan, &mut joined).context("the reload")?;
    loss(run, &plan, &mut joined).context("the loss of half of them")
}

/// All join at once. Tells what that cost, then what `list` and quiet cost.
fn join(run: &mut Run<'_>, plan: &Plan) -> Result<Joined> {
    let Plan { name, species, wire, size, lists, idle } = plan;
    let size = *size;
    let home = run.home(size)?;
    if run.kind.is_ours() {
        home.put_module("probe.wasm", &run.probes()?[0])?;
    }
    let master = Master::start(run.kind, &home)?;
    let mut client = Client::connect(master.address(), Wire::Pomelo)?;
    // The modules are in force.
    client.until_answered(if run.kind.is_ours() { LOOK } else { Ask::Module("nodeInfo", "{}") })?;
    let process = master.process();
    let (alone, cpu, own) = (process.resident_mib()?, process.cpu()?, own_cpu());
    let fleet = Fleet::new(&master, *wire, *species, size)?;
    fleet.all_are(0..size)?;
    let (began, patience) = (Instant::now(), Duration::from_secs(30 + 15 * size as u64 / 1000));
    fleet.join(0..size)?;
    let joined = fleet.until_registered(began, patience, size).and_then(|registered| {
        run.tell(name, "all registered", "s", seconds(registered));
        fleet.until_knowing(began, patience, size)
    });
    let (spent, own, peak) = (process.cpu()? - cpu, own_cpu() - own, process.peak_mib()?);
    let knew = joined.with_context(|| {
        let (spent, own, words) = (seconds(spent), seconds(own), master.last_words());
        format!(
            "with {spent:.0} s of the master's CPU, {own:.0} s of the monitors', {peak:.0} MiB; last words: {words}"
        )
    })?;
    run.tell(name, "all know all", "s", seconds(knew));
    run.tell(name, "master's CPU until then", "s", seconds(spent));
    run.tell(name, "master's CPU per monitor", "ms", millis(spent) / size as f64);
    run.tell(name, "the monitors' own CPU until then", "s", seconds(own));
    run.tell(name, "orders to the monitors until then", "", fleet.counts.orders.load(Relaxed) as f64);
    run.tell(name, "memory, peak", "MiB", peak);
    thread::sleep(SETTLED);
    let resident = process.resident_mib()?;
    run.tell(name, "memory when quiet", "MiB", resident);
    run.tell(name, "memory per monitor when quiet", "KiB", (resident - alone) * 1024.0 / size as f64);
    let mut joined = Joined { fleet, master, home, client };
    list(run, name, &mut joined, size, *lists)?;
    if *idle > Duration::ZERO {
        quiet(run, name, &joined, *idle)?;
    }
    let (counts, late) = (&joined.fleet.counts, joined.master.late_lines());
    run.tell(name, "failed, late or lost", "", (counts.trouble() + late) as f64);
    if counts.trouble() + late > 0 {
        let (troubles, last, away) = (counts.troubles(), joined.master.last_words(), joined.master.turned_away());
        run.notes.push(format!(
            "{name}: {troubles}; {late} lines of the log tell of deadlines; {away}; the master's last words: {last}"
        ));
    }
    Ok(joined)
}

fn list(run: &mut Run<'_>, name: &str, joined: &mut Joined, size: usize, count: usize) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let answer = joined.client.ask(LIST, PATIENCE).context("`list`")?;
        times.push(began.elapsed());
        // A server that has answered has this figure; the master may be among them.
        let listed = memchr::memmem::find_iter(&answer, b"\"heapUsed\":").count();
        ensure!(listed == size || listed == size + 1, "`list` shows {listed} of {size}");
    }
    if let Some((median, worst)) = median_and_worst(times) {
        run.tell(name, "`list`, p50", "ms", millis(median));
        run.tell(name, "`list`, slowest", "ms", millis(worst));
    }
    Ok(())
}

/// Nobody asks for anything: what is left are timers, pings, and the monitors' own checks.
fn quiet(run: &mut Run<'_>, name: &str, joined: &Joined, time: Duration) -> Result<()> {
    let process = joined.master.process();
    let (cpu, woken, began) = (process.cpu_of_threads()?, process.wake_ups()?, Instant::now());
    thread::sleep(time);
    let took = began.elapsed().as_secs_f64();
    let spent = process.cpu_of_threads()?.saturating_sub(cpu);
    run.tell(name, "quiet: CPU a minute", "ms", millis(spent) * 60.0 / took);
    run.tell(name, "quiet: wake-ups a second", "", process.wake_ups()?.saturating_sub(woken) as f64 / took);
    Ok(())
}

/// A new version of a module while all are there.
fn reload(run: &mut Run<'_>, plan: &Plan, joined: &mut Joined) -> Result<()> {
    let closed = joined.home.put_module("probe.wasm", &unseen(&run.probes()?[1]))?;
    while version(&joined.client.ask(LOOK, PATIENCE)?) != 1 {
        ensure!(closed.elapsed() < PATIENCE, "the new version does not answer within {PATIENCE:?}");
    }
    run.tell(&plan.name, "reload: file closed to first answer", "ms", millis(closed.elapsed()));
    Ok(())
}

/// Half of the connections break at once. They are fewer than would be retained; they come back when the others know that they are gone.
fn loss(run: &mut Run<'_>, plan: &Plan, joined: &mut Joined) -> Result<()> {
    let (name, size, half) = (&plan.name, plan.size, plan.size / 2);
    let process = joined.master.process();
    let patience = Duration::from_secs(30 + 15 * size as u64 / 1000);
    let fleet = &joined.fleet;
    let (cpu, began) = (process.cpu()?, Instant::now());
    fleet.all_are(half..size)?;
    fleet.cut(0..half)?;
    let knew = fleet.until_knowing(began, patience, size - half)?;
    run.tell(name, "half lost: the others know", "s", seconds(knew));
    run.tell(name, "half lost: master's CPU until then", "s", seconds(process.cpu()? - cpu));
    list(run, &format!("{name}, half lost"), joined, size - half, 3)?;
    let fleet = &joined.fleet;
    let (cpu, began) = (process.cpu()?, Instant::now());
    fleet.all_are(0..size)?;
    fleet.join(0..half)?;
    let knew = fleet.until_knowing(began, patience, size)?;
    run.tell(name, "they come back: all know all", "s", seconds(knew));
    run.tell(name, "they come back: master's CPU until then", "s", seconds(process.cpu()? - cpu));
    run.tell(name, "memory, peak, after that", "MiB", process.peak_mib()?);
    run.tell(name, "failed, late or lost, after that", "", joined.fleet.counts.trouble() as f64);
    Ok(())
}
