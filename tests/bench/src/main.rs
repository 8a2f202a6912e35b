//! What a master costs: this one, earlier builds of it, and the original from npm, in turns.
//!
//! Each master is a process of its own, whose CPU time and memory are measured. Every round starts each of them anew and asks the same of it. What is shown
//! is the median of the rounds, with the smallest and the largest value: on a shared machine a single figure says little.
//!
//! - `wire` and `scan` are the messages, `client` and `fleet` those who send them.
//! - `master` and `process` are what is measured.
//! - `cases` is what is done, `goals` what is to be reached, `report` what is shown.
//!
//! ```console
//! $ npm --prefix tests/fixtures/js ci --ignore-scripts       # once: the original
//! $ modules/build.sh                                         # once: the fixtures that are called and reloaded
//! $ cargo build --release -p pomelo-host -p pomelo-bench
//! $ target/release/pomelo-bench --ours now=target/release/pomelo --original --markdown table.md --json table.json
//! $ target/release/pomelo-bench --ours now=target/release/pomelo --original --short
//! ```
//!
//! All cases take less than 20 minutes on two cores, the short form about two. Ten thousand monitors need 11,100 open files a process (`ulimit -Hn`), and a
//! master that takes more than 12 GB of memory is given up. What is counted in instructions, and not in time, is not here.

mod cases;
mod client;
mod fleet;
mod goals;
mod master;
mod process;
mod report;
mod scan;
mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use cases::{CASES, Case, Handler, Run};
use master::Kind;
use report::Report;

/// What is run, and how often.
#[derive(Parser)]
#[command(about = "Measures what a master costs, beside the one that it replaces.")]
struct Arguments {
    /// A build of this project: a name for the table, and its program. May be given several times.
    #[arg(long, value_name = "NAME=FILE")]
    ours: Vec<String>,
    /// Measures pomelo-admin as well, from the packages in tests/fixtures/js.
    #[arg(long)]
    original: bool,
    /// Only these cases: requests, start, handlers, notify-all, logins, reload, plain, ours, handed-on, 5000, 10000.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Two minutes: one round, less of everything, and no more than a thousand monitors.
    #[arg(long)]
    short: bool,
    /// How often each case is run at most. What takes long is run less often.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a load lasts, seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// No further round of a case is begun that would end later, minutes.
    #[arg(long, default_value_t = 18)]
    minutes: u64,
    /// Where the repository's components are.
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// A component in whatever language, whose client handler is asked with `{}`. May be given several times.
    #[arg(long, value_name = "NAME=MODULE=FILE")]
    handler: Vec<Handler>,
    /// Writes the table to a file as well.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Writes all figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let masters = masters(&arguments)?;
    let cases = cases(&arguments)?;
    let files = process::raise_open_files();
    if files < 20_000 {
        say(&format!("only {files} files may be open: the largest fleets may not find room (ulimit -Hn)"));
    }
    let mut report = Report::new(masters.iter().map(|(name, kind)| (name.clone(), kind.is_ours())).collect());
    run(&arguments, &masters, &cases, &mut report)?;
    let table = report.markdown();
    writeln!(std::io::stdout(), "{table}")?;
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, &table).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, format!("{:#}\n", report.json())).with_context(|| file.display().to_string())?;
    }
    ensure!(!report.has_failures(), "some cases have failed: they are in the table");
    Ok(())
}

fn masters(arguments: &Arguments) -> Result<Vec<(String, Kind)>> {
    let mut masters = Vec::new();
    for given in &arguments.ours {
        let (name, program) = given.split_once('=').with_context(|| format!("{given}: NAME=FILE is needed"))?;
        let program = Path::new(program).canonicalize().with_context(|| program.to_owned())?;
        masters.push((name.to_owned(), Kind::Ours(program)));
    }
    if arguments.original {
        masters.push(("pomelo-admin".to_owned(), Kind::Original));
    }
    ensure!(!masters.is_empty(), "nothing is to be measured: give --ours or --original");
    Ok(masters)
}

fn cases(arguments: &Arguments) -> Result<Vec<&'static Case>> {
    let Arguments { only, short, .. } = arguments;
    for name in only {
        ensure!(CASES.iter().any(|case| case.name == name), "there is no case {name}");
    }
    let wanted = |case: &&Case| {
        if only.is_empty() { case.in_short || !short } else { only.iter().any(|name| name == case.name) }
    };
    Ok(CASES.iter().filter(wanted).collect())
}

/// Runs all cases once, and then those again that are to have more rounds, as long as there is time.
fn run(arguments: &Arguments, masters: &[(String, Kind)], cases: &[&'static Case], report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let rounds = arguments.rounds.unwrap_or(if arguments.short { 1 } else { 5 });
    let time = Duration::from_secs_f64(arguments.seconds.unwrap_or(if arguments.short { 0.5 } else { 2.0 }));
    let end = Duration::from_secs(60 * arguments.minutes);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = arguments.modules.clone().unwrap_or_else(|| root.join("../../target/modules"));
    let codes = masters.iter().map(|_| tempfile::tempdir()).collect::<Result<Vec<_>, _>>()?;
    let mut took = vec![Duration::ZERO; cases.len()];
    for round in 0..rounds {
        for (number, case) in cases.iter().enumerate().filter(|(_, case)| round < case.rounds) {
            if round > 0 && began.elapsed() + took[number] > end {
                say(&format!("no time for round {} of {}", round + 1, case.name));
                continue;
            }
            let case_began = Instant::now();
            // The order changes with each round, so that none always comes after the same other.
            for turn in 0..masters.len() {
                let place = (turn + round) % masters.len();
                let (name, kind) = &masters[place];
                let original = case.original && (case.original_in_short || !arguments.short);
                if !kind.is_ours() && !original {
                    continue;
                }
                let started = Instant::now();
                let mut run = Run {
                    kind,
                    short: arguments.short,
                    time,
                    modules: &modules,
                    code: codes[place].path(),
                    handlers: &arguments.handler,
                    found: Vec::new(),
                    notes: Vec::new(),
                };
                let outcome = (case.run)(&mut run);
                report.add(place, run.found);
                report.note(place, run.notes);
                let (minutes, took) = (began.elapsed().as_secs_f64() / 60.0, started.elapsed().as_secs_f64());
                let said = match &outcome {
                    Ok(()) => String::new(),
                    Err(why) => format!(", FAILED: {why:#}"),
                };
                say(&format!("{minutes:5.1} min: {}, round {}, {name}: {took:.1} s{said}", case.name, round + 1));
                if let Err(why) = outcome {
                    report.failed(case.name, place, round, format!("{why:#}"));
                }
            }
            took[number] = case_began.elapsed();
        }
    }
    Ok(())
}

/// How far it is. That nobody sees it is no reason to end.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
