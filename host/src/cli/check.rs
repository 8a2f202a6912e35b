//! `check`: prints all faults and warnings of a configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::print::{self, Unprinted};
use super::{Exit, assemble, inspect};
use crate::built_in::built_in;
use crate::config::{self, CronLine, Finding, Found};
use crate::plugin::NotGranted;

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Directory of the configuration
    dir: PathBuf,
    /// Environment to check; without it all that the directory has
    #[arg(long, short = 'e')]
    env: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CheckArgs) -> anyhow::Result<()> {
    let CheckArgs { dir, env, json } = arguments;
    let report = config::check(dir, env.as_deref(), modules);
    if *json {
        print::line(serde_json::to_string(&report)?)?;
    } else {
        let several = report.environments.len() > 1;
        show("", &report.faults, several)?;
        show("warning: ", &report.warnings, several)?;
        crons(&report.crons, several)?;
        print::line(summary(&report.environments, report.faults.len(), report.warnings.len()))?;
    }
    match report.faults.len() {
        0 => Ok(()),
        1 => Err(Exit::usage("the configuration has 1 fault")),
        count => Err(Exit::usage(format!("the configuration has {count} faults"))),
    }
}

fn show(kind: &str, findings: &[Finding], several: bool) -> Result<(), Unprinted> {
    for Finding { fault, environments } in findings {
        let place = if several { format!("[{}] ", environments.join(", ")) } else { String::new() };
        print::lines(format!("{kind}{place}{fault}"))?;
    }
    Ok(())
}

/// What each cron means, with its next times.
fn crons(lines: &[CronLine], several: bool) -> Result<(), Unprinted> {
    for cron in lines {
        let place = if several { format!("[{}] ", cron.environments.join(", ")) } else { String::new() };
        let servers = cron.server_id.as_ref().unwrap_or(&cron.server_type);
        let CronLine { id, time, action, means, next, .. } = cron;
        print::line(format!(
            "cron: {place}{servers} {id} \"{time}\" {action}: {means}\n    next: {}",
            next.join(", ")
        ))?;
    }
    Ok(())
}

fn summary(environments: &[String], faults: usize, warnings: usize) -> String {
    let count = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    format!("{}: {}, {}", environments.join(", "), count(faults, "fault"), count(warnings, "warning"))
}

/// The module ids with those of a modules' directory, and the files that would be refused. No file is run.
fn modules(settings: &config::Settings) -> Found {
    let mut ids: BTreeSet<String> = built_in(true).into_iter().flat_map(|built_in| built_in.ids).collect();
    let of_modules = assemble::settings(settings, 1, "", None);
    let (mut refused, mut all_told) = (Vec::new(), true);
    for entry in std::fs::read_dir(&settings.modules.dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let inspected = inspect::read(&of_modules, &path, settings.modules.max_file);
        let why = match inspected {
            Ok(inspected) => {
                // A module without a descriptor says its ids only when it runs. What is granted to it is known then, too.
                all_told &= inspected.descriptor.is_some();
                let not_granted = match inspected.check_grants() {
                    Err(NotGranted::Missing(_)) if inspected.descriptor.is_none() => None,
                    checked => checked.err().map(|why| why.to_string()),
                };
                ids.extend(inspected.ids.into_iter().map(|id| id.id));
                not_granted
            }
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            // A parser's message may have several lines.
            let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
            refused.push((entry.file_name().to_string_lossy().into_owned(), why));
        }
    }
    refused.sort();
    Found { ids: all_told.then_some(ids), refused }
}
