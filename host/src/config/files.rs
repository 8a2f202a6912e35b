//! The files of a configuration's directory: where each is looked for, and which part of it is for an environment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::fault::Faults;
use super::reader::{self, File};
use super::settings::Settings;
use super::texts::Texts;
use super::toml_file;
use super::tree::{Node, Source, Tree};
use crate::util::regular;

/// Who may log in.
pub(super) const USERS: &str = "adminUser.json";
/// Which monitors may join.
pub(super) const TOKENS: &str = "adminServer.json";
/// What programs do at set times.
pub(super) const CRONS: &str = "crons.json";
/// The files of a configuration.
pub(super) const FILES: [&str; 6] = ["master.json", "servers.json", USERS, TOKENS, CRONS, "pomelo.toml"];

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The directory that is being read.
pub(super) struct Files<'a> {
    pub(super) dir: &'a Path,
    pub(super) environment: &'a str,
    pub(super) faults: &'a Faults,
    /// Texts that stand for the files; absent where the directory is read.
    pub(super) in_place: Option<&'a Texts>,
    /// The texts that were read, without those of users and tokens.
    pub(super) texts: RefCell<BTreeMap<String, String>>,
}

impl<'a> Files<'a> {
    /// The files of a directory, as they are.
    pub(super) fn new(dir: &'a Path, environment: &'a str, faults: &'a Faults) -> Self {
        Files { dir, environment, faults, in_place: None, texts: RefCell::default() }
    }

    /// `pomelo.toml`.
    pub(super) fn settings(&self) -> Settings {
        let source = self.find("pomelo.toml");
        let node = source.as_ref().map(|source| {
            let (node, errors) = source.toml();
            errors.into_iter().for_each(|fault| self.faults.push(fault));
            node
        });
        let table = source.as_ref().zip(node.as_ref()).and_then(|(source, node)| {
            let file = File { source, faults: self.faults };
            file.table(toml_file::part(file, node, self.environment)?, "pomelo.toml")
        });
        toml_file::read(table, self.dir)
    }

    /// Reads a JSON file, if it is there, and hands on the part for the environment.
    pub(super) fn with<T>(&self, name: &str, read: impl FnOnce(File<'_>, &Node) -> T) -> Option<T>
    where
        T: Default,
    {
        let source = self.find(name)?;
        let file = File { source: &source, faults: self.faults };
        match source.json() {
            Ok(node) => Some(self.environment(file, &node).map_or_else(T::default, |node| read(file, node))),
            Err(fault) => {
                self.faults.push(fault);
                Some(T::default())
            }
        }
    }

    /// The text of a file. It is looked for in the directory, then in the environment's directory, as in pomelo.
    fn find(&self, name: &str) -> Option<Source> {
        [name.to_owned(), format!("{}/{name}", self.environment)].into_iter().find_map(|below| {
            let path = self.dir.join(&below);
            match self.text(name, &below, &path) {
                Ok(text) => text.map(|text| Source::new(&path, text)),
                Err(error) => {
                    self.faults.whole(
                        &path,
                        format!("cannot be read: {error}"),
                        "it must be a UTF-8 text of at most 16 MiB",
                    );
                    Some(Source::new(&path, String::from("null")))
                }
            }
        })
    }

    fn text(&self, name: &str, below: &str, path: &Path) -> io::Result<Option<String>> {
        if [USERS, TOKENS].contains(&name) {
            return read(path);
        }
        let text = match self.in_place {
            Some(texts) => texts.get(below).map(str::to_owned),
            None => read(path)?,
        };
        if let Some(text) = &text {
            self.texts.borrow_mut().insert(below.to_owned(), text.clone());
        }
        Ok(text)
    }

    /// The part of a file that is for the environment: the member of its name, or the whole file if its members are not environments.
    fn environment<'n>(&self, file: File<'_>, node: &'n Node) -> Option<&'n Node> {
        let Tree::Table(members) = &node.value else {
            // `null` stands for a file that could not be read, whose fault has been kept.
            return (!matches!(node.value, Tree::Null)).then_some(node);
        };
        if let Some(member) = members.iter().rfind(|member| member.key == self.environment) {
            return Some(&member.node);
        }
        let names = environments(&file.source.path, node);
        if !names.is_empty() {
            let what = format!("there is no environment `{}` in this file", self.environment);
            let hint = reader::did_you_mean(self.environment, &names);
            // Applications have crons for some environments alone. Any other file is needed.
            match file.source.path.file_name().is_some_and(|name| name == CRONS) {
                true => file.warn(node.at, format!("{what}: it has no crons"), hint),
                false => file.fault(node.at, what, hint),
            }
            return None;
        }
        Some(node)
    }

    /// Adds the fault that there is no `master.json`.
    pub(super) fn master_is_missing(&self) {
        let path = self.dir.join("master.json");
        let inner = self.dir.join("config");
        let hint = if inner.join("master.json").exists() {
            format!("the configuration seems to be in {}", inner.display())
        } else {
            r#"for example: {"id": "master-server-1", "host": "127.0.0.1", "port": 3005}"#.to_owned()
        };
        self.faults.whole(path, "the file is not there", hint);
    }
}

/// The environments that a JSON file has; none if the file is for all of them.
pub(super) fn environments<'n>(path: &Path, node: &'n Node) -> Vec<&'n str> {
    let Tree::Table(members) = &node.value else { return Vec::new() };
    let name = path.file_name().unwrap_or_default();
    let is_level = |node: &Node| match &node.value {
        Tree::Table(_) => true,
        // A member that is a list is a server type in servers.json, but an environment in a file whose content is a list.
        Tree::List(_) => name == USERS || name == TOKENS,
        _ => false,
    };
    if !members.iter().all(|member| is_level(&member.node)) {
        return Vec::new();
    }
    members.iter().map(|member| member.key.as_str()).collect()
}

/// A file's text; absent if there is no such file.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match regular::read(path, MAX_FILE).map_err(io::Error::from) {
        Ok(bytes) => {
            String::from_utf8(bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
