//! `init`: writes a first configuration.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::print::{self, Unprinted};
use super::{Exit, cert};
use crate::auth::hash_password;
use crate::config::{Config, DEFAULT_ENVIRONMENT};
use crate::tls::Holder;
use crate::util::private;

#[derive(Args)]
pub(super) struct InitArgs {
    /// Directory to write to; made if it is not there. No file that is there is changed
    dir: PathBuf,
    /// Port of the master
    #[arg(long, short = 'P', default_value_t = 3005, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Make an authority, certificates of the master, the servers and the user, and `[tls]` in pomelo.toml: from other machines TLS is required then
    #[arg(long)]
    tls: bool,
}

const SERVERS: &str = r#"{
  "gate": [
    {"id": "gate-server-1", "host": "127.0.0.1", "port": 3014, "frontend": true, "command": "${exe} demo-server --port ${port}"}
  ],
  "connector": [
    {"id": "connector-server-1", "host": "127.0.0.1", "port": 4050, "frontend": true, "command": "${exe} demo-server --port ${port}"}
  ],
  "chat": [
    {"id": "chat-server-1", "host": "127.0.0.1", "port": 6050, "command": "${exe} demo-server --port ${port}"},
    {"id": "chat-server-2", "host": "127.0.0.1", "port": 6051, "command": "${exe} demo-server --port ${port}"}
  ]
}
"#;

const TYPES: [&str; 3] = ["gate", "connector", "chat"];

/// The most important settings of `pomelo.toml`, with the defaults. A test removes the `# ` and loads it.
const SETTINGS: &str = r#"# Settings for which pomelo has no file. What stands behind a # is the default.

[modules]
dir = "modules"                     # .wasm files that are dropped in here run at once
# allow_replace_builtin = false     # may a file take the place of a built-in module?
# keep = 5                          # versions of each file that are kept once they have been good
# require_signature = false         # is a file refused that is signed with none of `keys`?
# from_master = false               # do monitors take modules from the master, and not from `dir` on their own machine?
# waves = []                        # then a new version may reach some first: ["1", "10%", "type:chat"]

[data]
dir = "data"                        # what outlives the processes; admin.log is in the master's part of it

[admin_log]                         # what every client asked for, allowed or refused
# file = "admin.log"
# max_mib = 16                      # size at which a new file is begun
# keep = 8                          # older files that are kept

[commands]                          # who may give the host's own commands; level 1 may do everything
# levels = { list = 2, modules = 2, enable = 1, disable = 1 }

[auth]                              # the operator's own checks, instead of adminUser.json and adminServer.json
# timeout_ms = 5000
# concurrent = 4

[tls]                               # `pomelo init --tls` makes certificates, `pomelo cert` further ones
# dir = "tls"                       # where monitors find certificates of their own: server-ID.pem and server-ID.key
# required = false                  # must others than this machine speak TLS?
# clear_networks = []               # from here they need not, such as ["10.0.0.0/8"] for servers of pomelo 2.x

[supervise]                         # the servers' programs
# restart = "always"                # or "on-failure", "never"
# stop_deadline_ms = 10000
# backoff_min_ms = 200
# backoff_max_ms = 30000
# starts_per_s = 20                 # programs that are started in a second on this machine, and at once

[network]
# wire = "socket.io"                # on what monitors reach the master; "pomelo" costs it less memory
# max_connections = 4096
# max_frame_kib = 4096
# info_kib = 8                      # what a server may say of itself
# request_deadline_ms = 10000

[limits]                            # of every module; [module.ID.limits] for one
# cpu_ms = 1000
# wall_ms = 10000
# memory_mib = 16

# [module.timeReport]               # settings of one module, by its id
# grants = ["cluster", "uplink"]    # what it may use
# levels = { report = 2 }           # operation to the highest user level that may ask for it
# interval = 5                      # seconds
"#;

/// What stands in the settings without certificates, and what in its place with them.
const TLS: (&str, &str) = (
    "# dir = \"tls\"                       # where monitors find certificates of their own: server-ID.pem and server-ID.key\n\
     # required = false                  # must others than this machine speak TLS?\n",
    "certificate = \"tls/master.pem\"\n\
     key = \"tls/master.key\"\n\
     ca = \"tls/ca.pem\"                  # with which monitors check the master\n\
     client_ca = \"tls/ca.pem\"           # which signs the certificates of servers and users\n\
     # dir = \"tls\"                       # where monitors find certificates of their own: server-ID.pem and server-ID.key\n\
     required = true                     # others than this machine must speak TLS\n",
);

pub(super) fn run(arguments: &InitArgs) -> anyhow::Result<()> {
    let InitArgs { dir, port, tls } = arguments;
    let password = random_password();
    let user = json!([{ "id": "user-1", "username": "admin", "password": hash_password(&password)?, "level": 1 }]);
    let tokens = TYPES.map(|name| json!({ "type": name, "token": hex::encode(rand::random::<[u8; 24]>()) }));
    let master = json!({ "id": "master-server-1", "host": "127.0.0.1", "port": port });
    let settings = if *tls { SETTINGS.replacen(TLS.0, TLS.1, 1) } else { SETTINGS.to_owned() };
    // Only their owner can read the files with secrets.
    let mut files = vec![
        ("master.json".to_owned(), format!("{master:#}\n"), 0o644),
        ("servers.json".into(), SERVERS.to_owned(), 0o644),
        ("adminUser.json".into(), format!("{user:#}\n"), 0o600),
        ("adminServer.json".into(), format!("{:#}\n", json!(tokens)), 0o600),
        ("pomelo.toml".into(), settings, 0o600),
    ];
    if *tls {
        let made = cert::first("127.0.0.1", &holders()?)?;
        files.extend(made.into_iter().map(|(name, text, mode)| (format!("tls/{name}"), text, mode)));
    }
    let there: Vec<&str> =
        files.iter().map(|(name, ..)| name.as_str()).filter(|name| dir.join(name).exists()).collect();
    if !there.is_empty() {
        let names = there.join(", ");
        return Err(Exit::usage(format!("{} has {names} already; nothing was written", dir.display())));
    }
    let mut made = Made::default();
    made.directory(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let modules = dir.join("modules");
    made.directory(&modules).with_context(|| format!("{} cannot be made", modules.display()))?;
    if *tls {
        let certificates = dir.join("tls");
        made.directory(&certificates).with_context(|| format!("{} cannot be made", certificates.display()))?;
    }
    for (name, text, mode) in &files {
        made.file(&dir.join(name), text, *mode).with_context(|| format!("{name} cannot be written"))?;
    }
    // A configuration that does not load is removed again, for example if a port is used twice.
    Config::load(dir, DEFAULT_ENVIRONMENT)?;
    // If the password cannot be shown, everything is removed again, because nobody could log in.
    say(dir, *port, &password, *tls)?;
    made.keep();
    Ok(())
}

/// Who gets a certificate: the user, and the monitors of the servers.
fn holders() -> anyhow::Result<Vec<Holder>> {
    let servers: BTreeMap<String, Vec<Value>> = serde_json::from_str(SERVERS)?;
    let servers = servers.into_iter().flat_map(|(server_type, servers)| {
        servers.into_iter().filter_map(move |server| {
            Some(Holder::Server { server_type: server_type.clone(), id: server["id"].as_str()?.to_owned() })
        })
    });
    Ok(std::iter::once(Holder::User("admin".into())).chain(servers).collect())
}

fn say(dir: &Path, port: u16, password: &str, tls: bool) -> Result<(), Unprinted> {
    let program = std::env::args().next().unwrap_or_else(|| "pomelo".into());
    let secure = match tls {
        true => format!("  export POMELO_CA={}\n", dir.join("tls/ca.pem").display()),
        false => String::new(),
    };
    let about = match tls {
        true => {
            "\n\nFrom other machines the master takes TLS only. tls/ca.key signs certificates: keep it from others. Certificates end after a \
                 year; `pomelo cert renew` makes new ones."
        }
        false => "",
    };
    let at = if port == 3005 { String::new() } else { format!(" --port {port}") };
    print::lines(format!(
        "A configuration was written to {dir}.\n\n\
         The user admin, of level 1, has the password\n\n  {password}\n\n\
         It is shown this once, and only its hash is kept; `{program} user passwd admin --config {dir}` changes it.\n\n\
         Next:\n  \
         {program} check {dir}\n  \
         {program} start --config {dir}\n\
         and in another terminal:\n  \
         export POMELO_PASSWORD={password}\n\
         {secure}  \
         {program} list{at}\n\n\
         servers.json runs the demo's server program: put the commands of your own servers in its place.{about}",
        dir = dir.display(),
    ))
}

/// 24 letters and digits that cannot be mistaken for each other: 120 bits.
fn random_password() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    rand::random::<[u8; 24]>().iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// Files and directories that were made. They are removed again unless [`Made::keep`] is called.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Made {
    /// Makes a directory, and those above it, unless they exist.
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        private::directory(path)?;
        self.directories.extend(missing.into_iter().rev());
        Ok(())
    }

    /// Makes a file that must not exist yet.
    fn file(&mut self, path: &Path, text: &str, mode: u32) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        self.files.push(path.to_owned());
        file.write_all(text.as_bytes())
    }

    fn keep(mut self) {
        self.files.clear();
        self.directories.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A file that cannot be removed stays, because the error that led here is the one to report.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for directory in self.directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a5_what_the_written_settings_say_behind_their_comments_is_so() {
        let dir = tempfile::tempdir().unwrap();
        let load = |settings: &str| {
            fs::write(dir.path().join("master.json"), "{}").unwrap();
            fs::write(dir.path().join("pomelo.toml"), settings).unwrap();
            Config::load(dir.path(), DEFAULT_ENVIRONMENT).unwrap().settings
        };
        let plain = load("");
        assert_eq!(load(SETTINGS), plain, "what is not behind a # is the default as well");
        let bare: Vec<&str> = SETTINGS.lines().skip(1).map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
        let mut all = load(&bare.join("\n"));
        // Two settings have no default: the example of a module, and the levels of commands.
        assert_eq!((all.module.len(), all.command_levels["enable"]), (1, 1));
        all.module.clear();
        all.command_levels.clear();
        assert_eq!(all, plain);

        let tls = load(&SETTINGS.replacen(TLS.0, TLS.1, 1)).tls;
        assert!(tls.clear.tls_required && tls.takes_certificates() && tls.is_on());
    }

    #[test]
    fn a5_passwords_are_random() {
        let (one, other) = (random_password(), random_password());
        assert!(one.len() == 24 && one != other);
    }
}
