//! `cert`: certificates of the cluster's own authority; and those of `init --tls`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::print;
use super::{Exit, table};
use crate::config::{Config, DEFAULT_ENVIRONMENT, file_name};
use crate::tls::{
    Authority, DAY, Described, Holder, IssueError, Issued, Lifetime, SERVER_DAYS, WARN_DAYS, describe_file, now, when,
};
use crate::wire::check_id;

#[derive(Args)]
pub(super) struct CertArgs {
    /// Directory of the configuration; the authority is in its directory `tls`
    #[arg(long, short = 'c', global = true, default_value = ".")]
    config: PathBuf,
    /// Environment of the configuration
    #[arg(long, short = 'e', global = true, default_value = DEFAULT_ENVIRONMENT)]
    env: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a certificate with which the monitor of a server registers, without a token
    Server {
        /// Server id
        id: String,
        /// Server type; needed for a server that the configuration does not name
        #[arg(value_name = "TYPE")]
        server_type: Option<String>,
    },
    /// Make a certificate with which a user logs in, without a password; the level is that of adminUser.json
    User {
        /// The user's name
        name: String,
    },
    /// Make those anew that end within 30 days; a running master takes its own over by itself
    Renew {
        /// Even those that are valid for longer, for example because the host of master.json has changed
        #[arg(long)]
        all: bool,
    },
    /// Show the certificates, for whom they are and until when
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A certificate's name without ending: `master.pem` and `master.key`.
const MASTER: &str = "master";
const AUTHORITY: &str = "ca";

/// The file name, without ending, of a holder's certificate. Monitors look for theirs under this name.
fn name_of(holder: &Holder) -> String {
    match holder {
        Holder::Server { id, .. } => format!("server-{}", file_name(id)),
        Holder::User(name) => format!("user-{}", file_name(name)),
    }
}

/// The names and addresses of the master's certificate: this machine's, and those under which the configuration makes it known.
fn hosts(host: &str, others: &[String]) -> Vec<String> {
    let own = ["localhost", "127.0.0.1", "::1", host.trim_start_matches('[').trim_end_matches(']')];
    let mut hosts: Vec<String> = Vec::new();
    for name in own.into_iter().chain(others.iter().map(String::as_str)) {
        if !hosts.iter().any(|known| known == name) {
            hosts.push(name.to_owned());
        }
    }
    hosts
}

/// The files of a first authority with the certificates of a master, servers and users: names within the directory `tls`, texts and modes.
pub(super) fn first(host: &str, holders: &[Holder]) -> Result<Vec<(String, String, u32)>, IssueError> {
    // Two clusters' authorities have different names, so that it can be told which of them has signed a certificate.
    let (authority, own) = Authority::make(&format!("pomelo cluster {:08x}", rand::random::<u32>()))?;
    let lifetime = Lifetime::days(SERVER_DAYS);
    let mut all = vec![(AUTHORITY.to_owned(), own), (MASTER.to_owned(), authority.host(&hosts(host, &[]), lifetime)?)];
    for holder in holders {
        all.push((name_of(holder), authority.holder(holder, lifetime)?));
    }
    let files = all.into_iter().flat_map(|(name, Issued { certificate, key })| {
        [(format!("{name}.pem"), certificate, 0o644), (format!("{name}.key"), key, 0o600)]
    });
    Ok(files.collect())
}

/// A directory of certificates.
struct Store {
    config: Config,
    dir: PathBuf,
}

/// A certificate in it.
struct Entry {
    pem: PathBuf,
    described: Described,
}

impl Entry {
    fn for_whom(&self) -> String {
        match (self.described.authority, self.described.holders.is_empty()) {
            (true, _) => "the authority".to_owned(),
            (_, false) => self.described.holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            _ => self.described.hosts.join(", "),
        }
    }
}

impl Store {
    fn authority(&self) -> anyhow::Result<Authority> {
        let at = |ending: &str| self.dir.join(format!("{AUTHORITY}.{ending}"));
        Authority::read(&at("pem"), &at("key")).map_err(|error| Exit::usage(error.to_string()))
    }

    /// The certificates, by file name.
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let listed = fs::read_dir(&self.dir).with_context(|| format!("{} cannot be read", self.dir.display()))?;
        let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "pem"));
        paths.sort();
        // Other files of this ending are not ours.
        let read = paths.into_iter().filter_map(|pem| {
            let described = describe_file(&pem).inspect_err(|bad| print::note(bad.to_string())).ok()?;
            Some(Entry { pem, described })
        });
        Ok(read.collect())
    }

    /// Where the key of a certificate is: for the master's where `[tls]` says, for others beside it.
    fn key_of(&self, pem: &Path) -> PathBuf {
        let master = self.config.settings.tls.server.as_ref().filter(|server| server.certificate == pem);
        master.map_or_else(|| pem.with_extension("key"), |server| server.key.clone())
    }

    /// Writes a certificate and its key. Each takes the place of the one before at once, with its owner and mode. The key comes first, so that a host
    /// which reads both in between finds that they do not belong together, and reads them again.
    fn write(&self, pem: &Path, issued: &Issued) -> anyhow::Result<()> {
        let key = self.key_of(pem);
        for (path, text, mode) in [(key.as_path(), &issued.key, 0o600), (pem, &issued.certificate, 0o644)] {
            let write = || {
                let beside = path.parent().unwrap_or(&self.dir);
                let mut file = tempfile::NamedTempFile::new_in(beside)?;
                file.write_all(text.as_bytes())?;
                let mut mode = mode;
                if let Ok(before) = fs::metadata(path) {
                    let own = file.as_file().metadata()?;
                    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                        // The owner stays, because a master that runs as that user must be able to read the file.
                        chown(file.path(), Some(before.uid()), Some(before.gid()))?;
                    }
                    mode = before.mode() & 0o777;
                }
                file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
                file.as_file().sync_all()?;
                file.persist(path).map_err(|error| error.error).map(drop)
            };
            write().with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    fn make(&self, holder: &Holder) -> anyhow::Result<()> {
        let issued = self.authority()?.holder(holder, Lifetime::days(SERVER_DAYS))?;
        let pem = self.dir.join(format!("{}.pem", name_of(holder)));
        self.write(&pem, &issued)?;
        let until = when(describe_file(&pem)?.until);
        let (cert, key) = (pem.display(), self.key_of(&pem));
        print::line(format!("{cert} and {} are the certificate of {holder}, until {until}", key.display()))?;
        Ok(())
    }
}

pub(super) fn run(arguments: &CertArgs) -> anyhow::Result<()> {
    let CertArgs { config, env, action } = arguments;
    let config = Config::load(config, env)?;
    let store = Store { dir: config.settings.tls.dir.clone(), config };
    match action {
        Action::Server { id, server_type } => server(&store, id, server_type.clone()),
        Action::User { name } => {
            let users = &store.config.users;
            if !users.iter().any(|user| user.username == *name) {
                return Err(Exit::usage(format!(
                    "there is no user `{name}` in adminUser.json: `pomelo user add {name} --level 2` adds one"
                )));
            }
            store.make(&Holder::User(name.clone()))
        }
        Action::Renew { all } => renew(&store, *all),
        Action::List { json } => list(&store, *json),
    }
}

fn server(store: &Store, id: &str, server_type: Option<String>) -> anyhow::Result<()> {
    check_id(id).map_err(|bad| Exit::usage(bad.to_string()))?;
    let configured = store.config.server(id).map(|server| server.server_type.clone());
    let server_type = match (configured, server_type) {
        (Some(configured), Some(given)) if configured != given => {
            return Err(Exit::usage(format!("`{id}` is configured as a server of type `{configured}`, not `{given}`")));
        }
        (Some(server_type), _) | (None, Some(server_type)) => server_type,
        (None, None) => {
            return Err(Exit::usage(format!("there is no server `{id}` in servers.json: name its type behind the id")));
        }
    };
    store.make(&Holder::Server { server_type, id: id.to_owned() })
}

fn renew(store: &Store, all: bool) -> anyhow::Result<()> {
    let authority = store.authority()?;
    let (mut renewed, mut left_alone) = (0, 0);
    for Entry { pem, described } in store.entries()? {
        let is_due = all || described.until - now() <= WARN_DAYS * DAY;
        if described.authority {
            if described.until - now() <= WARN_DAYS * DAY {
                print::note(format!(
                    "{} ends on {}: a new authority needs a new directory, `pomelo init --tls` shows how it looks",
                    pem.display(),
                    when(described.until)
                ));
            }
            continue;
        }
        if !authority.has_signed(&described) || !is_due {
            left_alone += 1;
            continue;
        }
        let lifetime = Lifetime::days(SERVER_DAYS);
        let issued = match &described.holders[..] {
            holders @ [_, ..] => authority.holders(holders, lifetime)?,
            [] => {
                let (host, network) = (&store.config.master.host, &store.config.settings.network);
                authority.host(&hosts(host, &network.allowed_hosts), lifetime)?
            }
        };
        store.write(&pem, &issued)?;
        renewed += 1;
        print::line(format!("renewed: {}", pem.display()))?;
    }
    print::line(format!("{renewed} renewed, {left_alone} left as they are"))?;
    Ok(())
}

fn list(store: &Store, json: bool) -> anyhow::Result<()> {
    let entries = store.entries()?;
    let file = |entry: &Entry| entry.pem.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if json {
        let rows = entries.iter().map(|entry| {
            json!({ "file": file(entry), "for": entry.for_whom(), "uris": entry.described.holders.iter().map(Holder::uri)
                .collect::<Vec<_>>(), "until": when(entry.described.until), "days": (entry.described.until - now()) / DAY })
        });
        print::line(serde_json::to_string(&rows.collect::<Vec<_>>())?)?;
        return Ok(());
    }
    let columns = [table::Column::whole("file"), table::Column::whole("for"), table::Column::whole("until")];
    let rows = entries.iter().map(|entry| vec![file(entry), entry.for_whom(), when(entry.described.until)]);
    Ok(table::print(&columns, rows.collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_known_by_its_own_names_and_those_of_the_configuration() {
        assert_eq!(hosts("127.0.0.1", &[]), ["localhost", "127.0.0.1", "::1"]);
        let named = hosts("[fd00::1]", &["admin.example".into(), "localhost".into()]);
        assert_eq!(named, ["localhost", "127.0.0.1", "::1", "fd00::1", "admin.example"]);
    }

    #[test]
    fn the_first_files_are_of_the_right_modes_and_names() {
        let holder = Holder::Server { server_type: "chat".into(), id: "a/b".into() };
        let files = first("master.example", &[holder, Holder::User("admin".into())]).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, ..)| name.as_str()).collect();
        let expected = ["ca", "master", "server-a%2Fb", "user-admin"];
        assert_eq!(
            names,
            expected.iter().flat_map(|name| [format!("{name}.pem"), format!("{name}.key")]).collect::<Vec<_>>()
        );
        for (name, text, mode) in &files {
            assert_eq!(*mode == 0o600, name.ends_with(".key"), "{name}");
            assert_eq!(text.contains("PRIVATE KEY"), name.ends_with(".key"), "{name}");
        }
    }
}
