//! The request that is answered from what the master keeps: pomelo's `nodeInfo`, the same module here and there.

use std::time::Instant;

use anyhow::{Context, Result};

use super::Run;
use crate::client::{Ask, Client};
use crate::master::Master;
use crate::wire::Wire;

/// What is asked.
const ASK: Ask<'static> = Ask::Module("nodeInfo", "{}");
const WAYS: [(Wire, usize); 4] = [(Wire::Pomelo, 64), (Wire::Pomelo, 1), (Wire::SocketIo, 64), (Wire::SocketIo, 1)];

pub fn run(run: &mut Run<'_>) -> Result<()> {
    let home = run.home(0)?;
    let master = Master::start(run.kind, &home)?;
    for (wire, at_once) in WAYS.into_iter().filter(|(wire, _)| run.kind.speaks(*wire)) {
        let case = format!("cached request, {}, {at_once} in flight", wire.name());
        measure(run, &master, &case, (wire, at_once), ASK).context(case)?;
    }
    run.tell("cached request", "memory, peak", "MiB", master.process().peak_mib()?);
    Ok(())
}

/// Has so many requests under way for the run's time, and tells what they cost.
pub fn measure(
    run: &mut Run<'_>,
    master: &Master,
    case: &str,
    (wire, at_once): (Wire, usize),
    ask: Ask<'_>,
) -> Result<()> {
    let mut client = Client::connect(master.address(), wire)?;
    client.until_answered(ask)?;
    // What is made at the first request is not what is measured.
    let end = Instant::now() + run.time / 4;
    client.load(ask, at_once, |now| now < end, |_, _| {})?;
    let (process, before) = (master.process(), master.process().cpu()?);
    let end = Instant::now() + run.time;
    let asked = client.load(ask, at_once, |now| now < end, |_, _| {})?;
    let cpu = process.cpu()?.saturating_sub(before);
    anyhow::ensure!(asked.failed == 0, "{} failed: {}", asked.failed, asked.failure.unwrap_or_default());
    let count = asked.times.len() as f64;
    run.tell(case, "CPU per request", "µs", cpu.as_secs_f64() * 1e6 / count);
    run.tell(case, "requests a second", "", count / asked.took.as_secs_f64());
    run.tell(case, "p50", "µs", asked.at(50));
    run.tell(case, "p99", "µs", asked.at(99));
    Ok(())
}
