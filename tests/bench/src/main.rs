//! What a request costs a master: this one, earlier builds of it, and the original from npm, in turns.
//!
//! Each master is a process of its own, whose CPU time and memory are measured. Every round starts each of them anew and asks the same of it. What is shown
//! is the median of the rounds, with the smallest and the largest value: on a shared machine a single figure says little.
//!
//! `cargo run --release -p pomelo-bench -- --help` has the options. A master is given as `NAME=FILE` (`--ours now=target/release/pomelo`).

mod load;
mod master;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use load::{Load, Wire};
use master::{Kind, Master};

/// What is run, and how often.
#[derive(Parser)]
#[command(about = "Measures what a request costs a master.")]
struct Arguments {
    /// A build of this project: a name for the table, and its program. May be given several times.
    #[arg(long, value_name = "NAME=FILE")]
    ours: Vec<String>,
    /// Measures pomelo-admin as well, from the packages in tests/fixtures/js.
    #[arg(long)]
    original: bool,
    /// How often each master is started and asked.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each case of a round takes, seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// One way of asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    wire: Wire,
    at_once: usize,
}

const CASES: [Case; 4] = [
    Case { wire: Wire::Pomelo, at_once: 64 },
    Case { wire: Wire::Pomelo, at_once: 1 },
    Case { wire: Wire::SocketIo, at_once: 64 },
    Case { wire: Wire::SocketIo, at_once: 1 },
];

/// What was measured in one case of one round.
#[derive(Clone, Copy)]
struct Figures {
    /// CPU time of the master for each request, microseconds.
    cpu: f64,
    /// Requests a second.
    rate: f64,
    /// The time until the answer that half of the requests do not exceed, and 99 in 100, microseconds.
    p50: f64,
    p99: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut masters: Vec<(String, Kind)> = Vec::new();
    for given in &arguments.ours {
        let (name, program) = given.split_once('=').with_context(|| format!("{given}: NAME=FILE is needed"))?;
        masters.push((name.to_owned(), Kind::Ours(program.into())));
    }
    if arguments.original {
        masters.push(("pomelo-admin".to_owned(), Kind::Original));
    }
    anyhow::ensure!(!masters.is_empty(), "nothing is to be measured: give --ours or --original");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut all: BTreeMap<(usize, usize), Vec<Figures>> = BTreeMap::new();
    let mut memory = vec![0; masters.len()];
    for round in 0..arguments.rounds {
        // The order changes with each round, so that none always comes after the same other.
        for turn in 0..masters.len() {
            let place = (turn + round) % masters.len();
            let (name, kind) = &masters[place];
            let master = Master::start(kind).with_context(|| format!("{name} cannot be started"))?;
            for (number, case) in CASES.iter().enumerate().filter(|(_, case)| kind.speaks(case.wire)) {
                let figures = runtime
                    .block_on(measure(&master, *case, Duration::from_secs(arguments.seconds)))
                    .with_context(|| format!("{name}, {} with {} at once", case.wire.name(), case.at_once))?;
                all.entry((number, place)).or_default().push(figures);
            }
            memory[place] = memory[place].max(master.peak_mib()?);
        }
    }
    let mut table = String::from(
        "| wire, in flight | master | CPU per request, µs | requests a second | p50, µs | p99, µs |\n|---|---|---|---|---|---|\n",
    );
    for ((number, place), rounds) in &all {
        let case = CASES[*number];
        let spread = |of: fn(&Figures) -> f64| spread(rounds.iter().map(of).collect());
        let figures = [spread(|f| f.cpu), spread(|f| f.rate), spread(|f| f.p50), spread(|f| f.p99)].join(" | ");
        let _ = writeln!(table, "| {}, {} | {} | {figures} |", case.wire.name(), case.at_once, masters[*place].0);
    }
    let peaks = masters.iter().zip(&memory).map(|((name, _), mib)| format!("{name} {mib} MiB")).collect::<Vec<_>>();
    writeln!(std::io::stdout(), "{table}\nMemory at most: {}", peaks.join(", "))?;
    Ok(())
}

/// The median of some rounds, and between which values they are.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (first, median, last) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    let digits = usize::from(median < 100.0);
    format!("**{median:.digits$}** ({first:.digits$}–{last:.digits$})")
}

async fn measure(master: &Master, case: Case, time: Duration) -> Result<Figures> {
    let load = Load::connect(master.address(), case.wire).await?;
    load.is_answered().await?;
    // What is made at the first request is not what is measured.
    load.ask(case.at_once, time / 4).await?;
    let before = master.cpu()?;
    let asked = load.ask(case.at_once, time).await?;
    let cpu = master.cpu()?.saturating_sub(before);
    let count = asked.times.len() as f64;
    let mut times = asked.times;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    Ok(Figures {
        cpu: cpu.as_secs_f64() * 1e6 / count,
        rate: count / asked.took.as_secs_f64(),
        p50: at(50),
        p99: at(99),
    })
}
