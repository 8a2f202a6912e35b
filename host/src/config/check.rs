//! Checks a configuration before it runs: finds its faults, and warns of what would run but should be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::{DateTime, Local};
use serde::Serialize;
use serde_json::Value;

use super::cluster::{Config, DEFAULT_ENVIRONMENT};
use super::fault::{Fault, Faults};
use super::files::{FILES, TOKENS, USERS, environments, read};
use super::reader::did_you_mean;
use super::servers::{Server, cpu_mark};
use super::settings::Settings;
use super::toml_file;
use super::tree::Source;
use crate::auth::{Exposure, Tokens, Users, Way};
use crate::supervise::has_cpu;
use crate::tls::{BadFile, DAY, ServerTls, WARN_DAYS, is_for_host, now, when};

/// A fault or a warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The place, what is wrong, and how to mend it.
    #[serde(flatten)]
    pub fault: Fault,
    /// The checked environments in which it was found.
    pub environments: Vec<String>,
}

/// What was found in a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The environments that were checked.
    pub environments: Vec<String>,
    /// What keeps the cluster from starting.
    pub faults: Vec<Finding>,
    /// What should be looked at.
    pub warnings: Vec<Finding>,
    /// The crons, in the order of the file.
    pub crons: Vec<CronLine>,
}

/// What a cron means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CronLine {
    /// The type of servers that it is for.
    pub server_type: String,
    /// The server that it is for alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// Its id.
    pub id: String,
    /// Its time, as in the file.
    pub time: String,
    /// The function that is called.
    pub action: String,
    /// What the time means, in words.
    pub means: String,
    /// The next three times at which it is due, in the time zone of this machine, as RFC 3339 has them.
    pub next: Vec<String>,
    /// The checked environments in which it was found.
    pub environments: Vec<String>,
}

/// Times of a cron that are shown.
const NEXT: usize = 3;

/// Adds what the crons of an environment mean. One that is in several environments is kept once, with their names.
fn mean(lines: &mut Vec<CronLine>, config: &Config, now: &DateTime<Local>) {
    for cron in &config.crons {
        let Some(schedule) = &cron.schedule else { continue };
        let text = |name: &str| cron.members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let next = std::iter::successors(schedule.next(now), |last| schedule.next(last)).take(NEXT);
        let line = CronLine {
            server_type: cron.server_type.clone(),
            server_id: cron.server_id.clone(),
            id: cron.id().unwrap_or_default(),
            time: text("time"),
            action: text("action"),
            means: schedule.to_string(),
            next: next.map(|next| next.to_rfc3339()).collect(),
            environments: Vec::new(),
        };
        let same = |other: &&mut CronLine| CronLine { environments: Vec::new(), ..(**other).clone() } == line;
        match lines.iter_mut().find(same) {
            Some(other) => other.environments.push(config.environment.clone()),
            None => lines.push(CronLine { environments: vec![config.environment.clone()], ..line }),
        }
    }
}

/// The content of a modules' directory. The caller reads it, because this part does not know what a module is.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The module ids that exist, built-in ones included. Absent if a file does not say its ids.
    pub ids: Option<BTreeSet<String>>,
    /// Files that would be refused, and why.
    pub refused: Vec<(String, String)>,
}

/// Checks one environment of a directory, or all that it has. `modules` reads a modules' directory.
pub fn check(dir: &Path, environment: Option<&str>, modules: impl Fn(&Settings) -> Found) -> Report {
    let names = environment.map_or_else(|| found(dir), |name| vec![name.to_owned()]);
    let mut report = Report { environments: names.clone(), ..Report::default() };
    let now = Local::now();
    for name in names {
        let faults = Faults::default();
        if let Some(config) = Config::read(dir, &name, None, None, &faults) {
            mean(&mut report.crons, &config, &now);
            look(&config, dir, &faults, &modules);
        }
        let (faults, warnings) = faults.into_lists();
        merge(&mut report.faults, faults, &name, Fault::eq);
        merge(&mut report.warnings, warnings, &name, same_warning);
    }
    report
}

/// The environments that a directory has: its directories that hold a file of the configuration, and the environments that its files name. If there
/// is none, the default environment.
fn found(dir: &Path) -> Vec<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let holds = FILES.iter().any(|file| entry.path().join(file).is_file());
        // `config` is no environment, because the configuration of a pomelo application is in the directory of that name.
        if let Some(name) = entry.file_name().to_str().filter(|name| holds && *name != "config") {
            names.insert(name.to_owned());
        }
    }
    for name in FILES {
        let path = dir.join(name);
        let Ok(Some(text)) = read(&path) else { continue };
        let source = Source::new(&path, text);
        if name.ends_with(".toml") {
            names.extend(toml_file::environments(&source.toml().0));
        } else if let Ok(node) = source.json() {
            names.extend(environments(&path, &node).into_iter().map(str::to_owned));
        }
    }
    if names.is_empty() {
        names.insert(DEFAULT_ENVIRONMENT.to_owned());
    }
    names.into_iter().collect()
}

/// Adds faults or warnings. One that was found in several environments is kept once, with their names.
fn merge(all: &mut Vec<Finding>, more: Vec<Fault>, environment: &str, same: impl Fn(&Fault, &Fault) -> bool) {
    for fault in more {
        match all.iter_mut().find(|finding| same(&finding.fault, &fault)) {
            Some(finding) => finding.environments.push(environment.to_owned()),
            None => all.push(Finding { fault, environments: vec![environment.to_owned()] }),
        }
    }
}

/// Whether two warnings say the same of the same file. If a user is in several environments of a file, only the first place is kept.
fn same_warning(one: &Fault, other: &Fault) -> bool {
    one == other || (one.file.ends_with(USERS) && one.file == other.file && one.what == other.what)
}

/// Adds the warnings that need all files.
fn look(config: &Config, dir: &Path, faults: &Faults, modules: &impl Fn(&Settings) -> Found) {
    let auth = &config.settings.auth;
    let file = |name: &str| {
        let inner = dir.join(&config.environment).join(name);
        if !dir.join(name).exists() && inner.exists() { inner } else { dir.join(name) }
    };
    let (users, tokens) = (Users::new(config.users.clone()), Tokens::new(config.tokens.clone()));
    if auth.user.is_none() {
        for name in users.with_default_passwords() {
            let hint = format!("`pomelo user passwd {name}` gives another");
            faults.warn_at(&format!("user {name}"), format!("anybody would guess the password of `{name}`"), hint);
        }
        if config.users.is_empty() {
            let hint = "`pomelo user add NAME --level 1` writes one";
            faults.warn_whole(file(USERS), "there is no user: no client is let in", hint);
        } else if !config.users.iter().any(|user| user.level.0 == 1) {
            faults.warn_whole(file(USERS), "no user has level 1: nobody may do everything", "give one \"level\": 1");
        }
    }
    if auth.server.is_none() {
        missing_tokens(config, &file(TOKENS), faults);
    }
    let own = &config.settings.modules;
    if !own.from_master {
        let unused = [("waves", !own.waves.is_empty()), ("local", own.local.is_some())];
        for (key, _) in unused.into_iter().filter(|(_, given)| *given) {
            let what = format!("`{key}` under [modules] is for monitors that take modules from their master");
            faults.warn_whole(file("pomelo.toml"), what, "`from_master = true` has those of these files do so");
        }
    }
    readable(&file(USERS), config.users.iter().any(|user| user.password.is_plain()), faults);
    readable(&file(TOKENS), config.tokens.is_some(), faults);
    exposed(config, &users, &tokens, &file("master.json"), faults);
    for (key, way) in [("user", &auth.user), ("server", &auth.server)] {
        match way {
            Some(Way::Url(address))
                if address.scheme_str() != Some("https") && !address.host().is_some_and(is_loopback) =>
            {
                let what =
                    format!("`{key}_url` sends what peers show to {} in clear", address.host().unwrap_or_default());
                faults.warn_whole(
                    file("pomelo.toml"),
                    what,
                    "give an https address (`ca` in [auth] names its authority), or a command",
                );
            }
            Some(Way::Command(words, base)) => {
                let program = words.first().filter(|program| program.contains('/')).map(|program| base.join(program));
                if let Some(program) = program.filter(|program| !program.exists()) {
                    let what =
                        format!("there is no {}, which `{key}_command` names: nobody is let in", program.display());
                    faults.warn_whole(
                        file("pomelo.toml"),
                        what,
                        "a relative path begins at the configuration's directory",
                    );
                }
            }
            _ => {}
        }
    }
    missing_cpus(config, faults);
    look_at_certificates(config, faults);
    look_at_modules(config, &file("pomelo.toml"), faults, modules);
}

/// Warns of CPUs that servers of this machine name and that it does not have.
fn missing_cpus(config: &Config, faults: &Faults) {
    // A host name is not looked up, as with the master's.
    let is_here = |server: &&Server| server.ssh != Some(true) && is_loopback(&server.host);
    for server in config.servers.iter().filter(is_here) {
        let missing = server.cpus.iter().filter(|cpu| !has_cpu(**cpu)).map(usize::to_string).collect::<Vec<_>>();
        if !missing.is_empty() {
            let what = format!("this machine has no CPU {} for a program", missing.join(", "));
            let hint = match missing.len() == server.cpus.len() {
                true => "the program would not be started; `lscpu` shows the CPUs",
                false => "the program would run on the others; `lscpu` shows the CPUs",
            };
            faults.warn_at(&cpu_mark(&server.id), what, hint);
        }
    }
}

fn missing_tokens(config: &Config, path: &Path, faults: &Faults) {
    let Some(tokens) = &config.tokens else {
        let hint =
            r#"for example: [{"type": "chat", "token": "…"}], the output of `openssl rand -hex 24` for each type"#;
        return faults.warn_whole(path, "the file is not there: any monitor that reaches the master may join", hint);
    };
    let types: BTreeSet<&str> = config.servers.iter().map(|server| server.server_type.as_str()).collect();
    for server_type in types.into_iter().filter(|wanted| !tokens.iter().any(|token| token.server_type == **wanted)) {
        let what = format!("there is no token for servers of type `{server_type}`: they cannot join");
        faults.warn_whole(path, what, format!(r#"for example: {{"type": "{server_type}", "token": "…"}}"#));
    }
}

/// Finds what keeps the master from speaking TLS, and warns of a certificate that ends soon or is for other hosts.
fn look_at_certificates(config: &Config, faults: &Faults) {
    let Some(files) = &config.settings.tls.server else { return };
    let bad = |bad: BadFile| {
        let place = match &bad.path {
            path if *path == files.key && files.key != files.certificate => "tls key",
            path if Some(path) == files.client_ca.as_ref() => "tls client_ca",
            _ => "tls certificate",
        };
        faults.fault_at(place, bad.place_and_reason(), bad.hint);
    };
    let tls = match ServerTls::load(files.clone()) {
        Ok(tls) => tls,
        Err(error) => return bad(error),
    };
    let left = tls.until() - now();
    let what = match left {
        ..=0 => Some(format!("the certificate has expired on {}: nobody who checks it connects", when(tls.until()))),
        _ if left <= WARN_DAYS * DAY => Some(format!("the certificate ends on {}", when(tls.until()))),
        _ => None,
    };
    if let Some(what) = what {
        faults.warn_at("tls certificate", what, "`pomelo cert renew` makes a new one");
    }
    let host = &config.master.host;
    match is_for_host(&files.certificate, host) {
        Ok(true) => {}
        Ok(false) => {
            let what = format!("the certificate is not for `{host}`, by which master.json lets monitors connect");
            faults.warn_at("tls certificate", what, "`pomelo cert renew --all` makes one for the host of master.json");
        }
        Err(error) => bad(error),
    }
    readable(&files.key, true, faults);
}

/// Warns if others on this machine can read secrets.
fn readable(path: &Path, secret: bool, faults: &Faults) {
    let Ok(mode) = fs::metadata(path).map(|metadata| metadata.permissions().mode()) else { return };
    if secret && mode & 0o004 != 0 {
        let hint = format!("chmod o-rwx {}", path.display());
        faults.warn_whole(path, "everybody on this machine can read the secrets in it", hint);
    }
}

/// Warns if the master would not start. A host name is not looked up, because it may have another address on the machine that the master runs on.
fn exposed(config: &Config, users: &Users, tokens: &Tokens, path: &Path, faults: &Faults) {
    let Ok(address) = config.master.host.parse::<IpAddr>() else { return };
    let auth = &config.settings.auth;
    let (users_checked, servers_checked) = (auth.user.is_some(), auth.server.is_some());
    let exposure = Exposure {
        address,
        certificates: config.settings.tls.takes_certificates(),
        users,
        tokens,
        users_checked,
        servers_checked,
    };
    if let Err(exposed) = exposure.check() {
        faults.warn_whole(path, format!("the master would not start: {exposed}"), "--allow-exposed overrides this");
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn look_at_modules(config: &Config, path: &Path, faults: &Faults, modules: &impl Fn(&Settings) -> Found) {
    let settings = &config.settings;
    let dir = &settings.modules.dir;
    if !dir.is_dir() {
        let what = format!("the modules' directory {} is not there", dir.display());
        faults.warn_whole(path, what, "it is made at the start; `[modules] dir` names another");
    }
    let Found { ids, refused } = modules(settings);
    for (name, why) in refused {
        faults.warn_whole(dir.join(name), why, "it would not be loaded");
    }
    let types: BTreeMap<&str, ()> = config.servers.iter().map(|server| (server.server_type.as_str(), ())).collect();
    for (id, module) in &settings.module {
        let place = format!("module {id}");
        match &module.file {
            Some(file) if !dir.join(file).with_extension("wasm").is_file() => {
                let what = format!("[module.{id}] names the file {file}, which is not in {}", dir.display());
                faults.warn_at(&place, what, "it would be loaded when it appears");
            }
            Some(_) => {}
            None => {
                if let Some(ids) = ids.as_ref().filter(|ids| !ids.contains(id)) {
                    let known: Vec<&str> = ids.iter().map(String::as_str).collect();
                    let what = format!("there is no module `{id}`, neither built in nor in {}", dir.display());
                    faults.warn_at(&place, what, did_you_mean(id, &known));
                }
            }
        }
        let unknown = module.server_types.iter().filter(|name| *name != "master" && !types.contains_key(name.as_str()));
        for server_type in unknown {
            let what = format!("[module.{id}] is for servers of type `{server_type}`, of which there are none");
            let known: Vec<&str> = types.keys().copied().collect();
            faults.warn_at(&place, what, did_you_mean(server_type, &known));
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
