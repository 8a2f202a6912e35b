//! `modules inspect`: what can be said of a module without running it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::admin::{Session, parse};
use super::exit::Exit;
use super::table::{self, Column};
use super::{assemble, print};
use crate::config::Config;
use crate::console::{ModuleInspection, Settings};
use crate::plugin::{IdDescriptor, Import, TimerKind};
use crate::util::regular;

/// Whether `inspect` is asked of a file, and not of a module id.
pub(super) fn is_file(word: &str) -> bool {
    word.ends_with(".wasm") || word.contains('/')
}

/// Reads a file of at most `most` bytes as a host would before it compiles it.
///
/// # Errors
/// Why a host would refuse it, whatever is granted to it.
pub(super) fn read(settings: &Settings, path: &Path, most: u64) -> Result<ModuleInspection, String> {
    let bytes = regular::read(path, most).map_err(|error| error.to_string())?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    ModuleInspection::of_file(settings, &name, &bytes).map_err(|error| error.to_string())
}

/// Shows a file.
pub(super) fn file(path: &Path, config: Option<&Path>, environment: &str, as_json: bool) -> anyhow::Result<()> {
    let settings = match config {
        Some(dir) => Config::load(dir, environment)?.settings,
        None => crate::config::Settings::default(),
    };
    let of_modules = assemble::settings(&settings, 1, environment, None);
    let inspected = read(&of_modules, path, settings.modules.max_file)
        .map_err(|why| Exit::failed(format!("{} would be refused: {why}", path.display())))?;
    if as_json {
        return Ok(print::json(&serde_json::to_string(&inspected)?)?);
    }
    show(&path.display().to_string(), &inspected)?;
    let ask = match (config, &inspected.descriptor) {
        (None, Some(_)) => "--config DIR shows what a configuration grants",
        (_, None) => {
            "which ids it has, and so what is granted to it, is known when it is run: it has no section `pomelo:descriptor`"
        }
        (Some(_), Some(_)) => return Ok(()),
    };
    print::note(format!("({ask})"));
    Ok(())
}

/// Shows a module of the master.
pub(super) async fn module(session: &Session, id: &str) -> anyhow::Result<()> {
    let answer = session.client.command("inspect", Some(id), json!({})).await?;
    if session.json {
        return Ok(print::json(&answer)?);
    }
    show(id, &parse(&answer)?)
}

fn show(what: &str, inspected: &ModuleInspection) -> anyhow::Result<()> {
    let descriptor = inspected.descriptor.clone().unwrap_or_default();
    let mut lines = vec![("digest", inspected.digest.clone()), ("size", format!("{} bytes", inspected.size))];
    let mut line = |name, text: String| {
        if !text.is_empty() {
            lines.push((name, text));
        }
    };
    line("name", [descriptor.name.as_str(), &descriptor.version].join(" ").trim().to_owned());
    let signer = inspected.signer.as_ref().map(|name| format!("`{name}`"));
    line(
        "signed with",
        signer
            .or_else(|| inspected.unknown_key.as_ref().map(|key| format!("{key}, which is not known")))
            .unwrap_or_default(),
    );
    line("made by", joined(&inspected.toolchain));
    inspected.ids.iter().for_each(|id| line("id", id_line(id)));
    line("exports", joined(&inspected.handlers));
    line("serial", joined(&descriptor.serial));
    let operations = &descriptor.operations;
    if let Some(by) = &operations.by {
        line("operations by", by.clone());
    }
    for (operation, level) in &operations.levels {
        let reads = if operations.is_read(operation) { ", only shows" } else { "" };
        line("operation", format!("{operation}: level {level}{reads}"));
    }
    operations.reads.iter().filter(|name| !operations.levels.contains_key(*name)).for_each(|operation| {
        line("operation", format!("{operation}: level {}, only shows", operations.level(operation)));
    });
    line("durable keys", joined(&descriptor.durable));
    let limits = serde_json::to_value(descriptor.limits)?;
    let limits = limits.as_object().into_iter().flatten().map(|(name, limit)| format!("{name} = {limit}"));
    line("limits wanted", joined(limits));
    line("granted", joined(&inspected.grants));
    print::line(format!("{what}:"))?;
    for (name, text) in lines {
        print::line(format!("  {name:14} {text}"))?;
    }
    let columns = [Column::whole("import"), Column::whole("is"), "which means that it".into()];
    table::print(&columns, rows(&inspected.imports))?;
    refusal(inspected)
}

/// A row for each import; one for all of a package where they mean the same.
fn rows(imports: &[Import]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for import in imports {
        let state = match (import.granted, &import.grant) {
            (true, None) => "always",
            (true, Some(_)) => "granted",
            (false, Some(_)) => "missing",
            (false, None) => "not offered",
        };
        let row = vec![import.name.clone(), state.to_owned(), import.allows.clone()];
        let package = import.name.split('/').next().unwrap_or(&import.name);
        match rows.iter_mut().find(|known| known[0].split('/').next() == Some(package) && known[1..] == row[1..]) {
            Some(known) => known[0] = format!("{package}/*"),
            None => rows.push(row),
        }
    }
    rows
}

/// Whether a host would refuse it for what it imports, and what would grant what is missing.
fn refusal(inspected: &ModuleInspection) -> anyhow::Result<()> {
    for import in inspected.imports.iter().filter(|import| !import.granted && import.grant.is_none()) {
        print::line(format!("It would be refused: {}", import.allows))?;
    }
    let missing = inspected.imports.iter().filter(|import| !import.granted).filter_map(|import| import.grant.as_ref());
    let missing: BTreeSet<String> = missing.map(|grant| format!("{grant:?}")).collect();
    let Some(id) = inspected.ids.first().filter(|_| !missing.is_empty()) else { return Ok(()) };
    let missing = joined(missing);
    match inspected.grants.is_empty() {
        true => print::lines(format!(
            "It would be refused. These lines of pomelo.toml grant what is missing:\n  [module.{:?}]\n  grants = [{missing}]",
            id.id
        ))?,
        // What one id has is not another's.
        false => print::line(format!("It would be refused: add {missing} to `grants` of [module.{:?}]", id.id))?,
    }
    Ok(())
}

fn joined<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

/// A module id, where it is there, and its timer.
fn id_line(id: &IdDescriptor) -> String {
    let roles = id.roles.as_deref().unwrap_or_default();
    let roles =
        if roles.is_empty() { "master, monitor".to_owned() } else { joined(roles.iter().map(|role| role.as_str())) };
    let timer = match (id.timer, id.interval) {
        (Some(TimerKind::Pull), Some(seconds)) => format!(", pulls every {seconds} s"),
        (Some(TimerKind::Push), Some(seconds)) => format!(", pushes every {seconds} s"),
        _ => String::new(),
    };
    format!("{} on {roles}{timer}", id.id)
}
