//! Servers that are added while a cluster runs. An added server has its own id and address, and runs what the first server of its type runs.

use std::env;

use serde_json::{Map, Value};

use super::cluster::{Config, Origin, PLACEHOLDERS, placeholders, server_defaults};
use super::command::programs;
use super::fault::Faults;
use super::reader::{File, did_you_mean};
use super::servers::{self, PRIVATE, Server, Taken};
use super::tree::Source;
use crate::wire::{Info, shown};

/// Members that name a program or its surroundings in pomelo. Only the configuration may set these and those in [`PRIVATE`].
const RESERVED: [&str; 4] = ["args", "main", "execArgv", "token"];
/// Members that may be a part of the path of a program, because they say which server it is. They name no other place then.
const OF_PATHS: [&str; 4] = ["id", "host", "port", "clientPort"];
/// The longest text of a member, bytes.
const MAX_TEXT: usize = 256;
/// The most members of one server.
const MAX_MEMBERS: usize = 64;

impl Config {
    /// Checks servers that are to be added, and adds the members that they inherit. `added` has the members of `servers.json`, and `serverType`.
    /// `clusterCount` makes several servers of one, and ports that end in `++` count up. `running` are ids that are taken beside the configured ones.
    /// `master` is the master's `host:port`.
    ///
    /// Texts may only have letters, digits and `. _ : @ % + , / -`, and may not begin with `-`, because they become words of a configured command,
    /// which a shell may read.
    ///
    /// # Errors
    /// All faults, a sentence each.
    pub fn added(&self, added: &[Info], running: &[String], master: &str) -> Result<Vec<Server>, Vec<String>> {
        let (mut wrong, mut groups) = (Vec::new(), Map::new());
        for info in added {
            match self.completed(info) {
                Ok((server_type, members)) => {
                    if let Value::Array(group) = groups.entry(server_type).or_insert_with(|| Value::Array(Vec::new())) {
                        group.push(members);
                    }
                }
                Err(why) => wrong.extend(why),
            }
        }
        let mut taken = Taken::by(&self.master, &self.servers);
        running.iter().for_each(|id| taken.running(id));
        let source = Source::new("".as_ref(), Value::Object(groups).to_string());
        let faults = Faults::default();
        let servers = source.json().ok().and_then(|node| {
            let table = File { source: &source, faults: &faults }.table(&node, "the servers to be added")?;
            let extra = placeholders(&self.environment, Some(master.to_owned()));
            let base = match &self.origin {
                Origin::Directory(dir) => dir.clone(),
                Origin::Demo => env::temp_dir(),
            };
            Some(servers::servers(&table, &mut taken, &server_defaults(&self.settings, &extra, &base)))
        });
        match faults.unless_any(servers) {
            Ok(mut servers) if wrong.is_empty() => {
                // Each server that the count stood for is in the list now.
                servers.iter_mut().for_each(|server| drop(server.info.remove("clusterCount")));
                Ok(servers)
            }
            Ok(_) => Err(wrong),
            Err(faults) => {
                wrong.extend(faults.0.into_iter().map(|fault| format!("{} ({})", fault.what, fault.hint)));
                Err(wrong)
            }
        }
    }

    /// The type of a server that is to be added, and its members with those that it inherits.
    fn completed(&self, info: &Info) -> Result<(String, Value), Vec<String>> {
        let mut wrong = Vec::new();
        if info.len() > MAX_MEMBERS {
            wrong.push(format!("a server has at most {MAX_MEMBERS} members, this one has {}", info.len()));
        }
        for (key, value) in info.iter().take(MAX_MEMBERS) {
            if PLACEHOLDERS.contains(&key.as_str()) {
                wrong.push(format!("`{key}` is the host's own placeholder `${{{key}}}`, which no server sets"));
            } else if PRIVATE.contains(&key.as_str()) || RESERVED.contains(&key.as_str()) {
                wrong.push(format!("`{key}` is for the configuration alone: an added server runs what its type runs"));
            } else if !is_plain(key) {
                wrong.push(format!("`{}` is no name for a member", shown(key)));
            } else if !is_plain_value(value) {
                let what = "must be a number, true or false, or a text of letters, digits and . _ : @ % + , / - \
                            that does not begin with -";
                wrong.push(format!("`{key}` {what}"));
            }
        }
        let known: Vec<&str> = self.servers.iter().map(|server| server.server_type.as_str()).collect();
        let first = match info.get("serverType").and_then(Value::as_str) {
            None => Err("`serverType` is missing".to_owned()),
            Some(wanted) => self.servers.iter().find(|server| server.server_type == wanted).ok_or_else(|| {
                let hint = if known.is_empty() { "none is".to_owned() } else { did_you_mean(wanted, &known) };
                format!("no server of type `{}` is configured ({hint})", shown(wanted))
            }),
        };
        for part in first.as_ref().map_or_else(|_| Vec::new(), |first| programs(&first.inherited)) {
            let Some(value) = info.get(&part).filter(|_| !PLACEHOLDERS.contains(&part.as_str())) else { continue };
            if !OF_PATHS.contains(&part.as_str()) {
                wrong.push(format!("`{part}` decides which program is run, and is for the configuration alone"));
            } else if value.as_str().is_some_and(|text| text.contains('/')) {
                wrong.push(format!("`{part}` is a part of the program's path, and must have no `/`"));
            }
        }
        match first {
            Ok(first) if wrong.is_empty() => {
                let mut members = first.inherited.clone();
                members.extend(info.clone());
                members.remove("serverType");
                Ok((first.server_type.clone(), Value::Object(members)))
            }
            Ok(_) => Err(wrong),
            Err(why) => {
                wrong.push(why);
                Err(wrong)
            }
        }
    }
}

fn is_plain_value(value: &Value) -> bool {
    match value {
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => is_plain(text),
        _ => false,
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@%+,/-".contains(&byte);
    !text.is_empty() && text.len() <= MAX_TEXT && !text.starts_with('-') && text.bytes().all(plain)
}
