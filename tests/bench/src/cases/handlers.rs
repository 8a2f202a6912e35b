//! Calls of handlers: of the host itself, of a module whose instance is warm, one that reads what it keeps; and one request that notifies a hundred monitors.
//!
//! The repository builds no module in JavaScript or Python: `--handler` names components of other languages, which are asked with `{}`, one call at a time, because
//! each instance has a runtime of its own and few have room. There is no row for a fresh instance, because the host keeps an instance for the next call wherever
//! it may.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::requests::measure;
use super::{Handler, Run};
use crate::client::{Ask, Client};
use crate::fleet::{Fleet, Species};
use crate::master::Master;
use crate::wire::Wire;

/// How long it may take until a component of another language answers.
const COMPILES: Duration = Duration::from_secs(120);
/// The monitors that are notified.
const MONITORS: usize = 100;
const CALLS: [(&str, Ask<'static>); 4] = [
    ("command `list`, native", Ask::Command("list")),
    ("echo, Rust, warm", Ask::Module("echo", r#"{"hello":"you"}"#)),
    ("one read of the store, Rust, warm", Ask::Module("probe", r#"{"do":"get","key":"x"}"#)),
    ("figures of the call, Rust, warm", Ask::Module("probe", r#"{"do":"look"}"#)),
];

pub fn run(run: &mut Run<'_>) -> Result<()> {
    let home = run.home(0)?;
    if run.kind.is_ours() {
        let [probe, _] = run.probes()?;
        home.put_module("probe.wasm", &probe)?;
        home.put_module("echo.wasm", &run.module("fixtures/echo-v1.wasm")?)?;
        for (number, Handler { file, module, .. }) in run.handlers.iter().enumerate() {
            home.roomy(module)?;
            let component = std::fs::read(file).with_context(|| file.display().to_string())?;
            home.put_module(&format!("handler-{number}.wasm"), &component)?;
        }
    }
    let master = Master::start(run.kind, &home)?;
    for (name, ask) in &CALLS[..if run.kind.is_ours() { CALLS.len() } else { 1 }] {
        for at_once in [64, 1] {
            let case = format!("{name}, {at_once} in flight");
            measure(run, &master, &case, (Wire::Pomelo, at_once), *ask).context(case)?;
        }
    }
    let handlers: Vec<_> = if run.kind.is_ours() { run.handlers.to_vec() } else { Vec::new() };
    for Handler { name, module, .. } in &handlers {
        let (case, ask) = (format!("{name}, 1 in flight"), Ask::Module(module, "{}"));
        // It may take long to compile.
        let began = Instant::now();
        while let Err(why) = Client::connect(master.address(), Wire::Pomelo)?.until_answered(ask) {
            anyhow::ensure!(began.elapsed() < COMPILES, "{case}: {why}");
        }
        measure(run, &master, &case, (Wire::Pomelo, 1), ask).context(case)?;
    }
    Ok(())
}

/// `blacklist` goes to all frontend servers as a notify. The servers are pomelo's, on both masters.
pub fn notify_all(run: &mut Run<'_>) -> Result<()> {
    let home = run.home(MONITORS)?;
    let master = Master::start(run.kind, &home)?;
    let fleet = Fleet::new(&master, Wire::Pomelo, Species::Plain, MONITORS)?;
    fleet.all_are(0..MONITORS)?;
    let (began, patience) = (Instant::now(), Duration::from_secs(20));
    fleet.join(0..MONITORS)?;
    fleet.until_knowing(began, patience, MONITORS)?;
    let (case, ask) = (
        "notify all of 100 monitors",
        Ask::Module("__console__", r#"{"signal":"blacklist","args":["10.9.8.7"],"blacklist":["10.9.8.7"]}"#),
    );
    let mut client = Client::connect(master.address(), Wire::Pomelo)?;
    client.until_answered(ask)?;
    // An answer does not wait for the monitors.
    std::thread::sleep(Duration::from_millis(500));
    let process = master.process();
    let (before, notified, began) = (process.cpu()?, fleet.counts.notified.load(Relaxed), Instant::now());
    let end = began + run.time;
    let asked = client.load(ask, 1, |now| now < end, |_, _| {})?;
    anyhow::ensure!(asked.failed == 0, "{}", asked.failure.unwrap_or_default());
    let requests = asked.times.len();
    fleet.wait(Instant::now(), patience, "notifies have come", notified + requests * MONITORS, |counts| {
        counts.notified.load(Relaxed)
    })?;
    let cpu = (process.cpu()? - before).as_secs_f64() * 1e6;
    run.tell(case, "CPU per request", "µs", cpu / requests as f64);
    run.tell(case, "requests a second", "", requests as f64 / began.elapsed().as_secs_f64());
    run.tell(case, "p50", "µs", asked.at(50));
    run.tell(case, "p99", "µs", asked.at(99));
    Ok(())
}
