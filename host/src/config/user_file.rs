//! Changes `adminUser.json`: adds and removes users, and sets passwords.
//!
//! The rest of the text, the owner and the mode stay as they are. The file is replaced in one step, so that a master that reads it meanwhile sees
//! either the old or the new file. A second process that changes it waits for the first one.

use std::fs::{self, File as FsFile, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstObject, CstObjectProp, CstRootNode};

use super::credentials;
use super::fault::{ConfigErrors, Faults};
use super::files::{USERS, environments, read};
use super::reader::File;
use super::tree::{Source, Tree};
use crate::auth::{Level, User};
use crate::wire::{BadId, check_name};

/// `adminUser.json`, locked so that no other process changes it.
pub struct UserFile {
    path: PathBuf,
    environment: String,
    /// The text of the file, as a tree that can be changed.
    root: CstRootNode,
    users: Vec<User>,
    /// The directory, locked until this is dropped.
    _lock: FsFile,
}

/// Why the users cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no `master.json` in the directory.
    #[error("there is no master.json in {}: `--config DIR` names the configuration's directory", .0.display())]
    NoConfiguration(PathBuf),
    /// The file has faults, which must be mended first.
    #[error(transparent)]
    Faults(#[from] ConfigErrors),
    /// There is already a user of that name.
    #[error("there is a user `{0}` already: `pomelo user passwd {0}` changes the password")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user `{name}` in {}", path.display())]
    Unknown {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The text cannot be a user's name.
    #[error("that cannot be a user's name: {0}")]
    Name(BadId),
    /// No user would be left who may do everything.
    #[error(
        "`{0}` is the last user of level 1: without one nobody may stop, add or change anything (--force removes it all the same)"
    )]
    LastAdmin(String),
    /// The file cannot be read or written.
    #[error("{} cannot be {what}: {why}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// `read`, `locked` or `replaced`.
        what: &'static str,
        /// The error of the system.
        why: io::Error,
    },
}

impl UserFile {
    /// Opens the file in which an environment's users are looked for. A file that does not exist counts as empty.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn open(dir: &Path, environment: &str) -> Result<Self, EditError> {
        let inner = dir.join(environment);
        // A file that does not exist yet is made beside `master.json`.
        let home = [dir, &inner].into_iter().find(|dir| dir.join("master.json").is_file());
        let home = home.ok_or_else(|| EditError::NoConfiguration(dir.to_owned()))?;
        let path = [dir, &inner].into_iter().map(|dir| dir.join(USERS)).find(|path| path.exists());
        let path = path.unwrap_or_else(|| home.join(USERS));
        let failed = |what| {
            let path = path.clone();
            move |why| EditError::Io { path, what, why }
        };
        // If the path is a link, the file that it points to is replaced, not the link.
        let path = if path.exists() { fs::canonicalize(&path).map_err(failed("read"))? } else { path.clone() };
        let lock = FsFile::open(path.parent().unwrap_or(dir)).map_err(failed("locked"))?;
        lock.lock().map_err(failed("locked"))?;
        let text = read(&path).map_err(failed("read"))?.unwrap_or_else(|| "[]\n".to_owned());
        let faults = Faults::default();
        let source = Source::new(&path, text);
        let node = source.json().map_err(|fault| ConfigErrors(vec![fault]))?;
        let mine = match &node.value {
            Tree::Table(members) if !environments(&path, &node).is_empty() => {
                members.iter().rfind(|member| member.key == environment).map(|member| &member.node)
            }
            _ => Some(&node),
        };
        let users = mine.map(|mine| credentials::users(File { source: &source, faults: &faults }, mine));
        let users = faults.unless_any(Some(users.unwrap_or_default()))?;
        let root = CstRootNode::parse(&source.text, &ParseOptions::default());
        let root =
            root.map_err(|error| ConfigErrors(vec![source.fault(error.range().start, error.to_string(), "")]))?;
        Ok(UserFile { path, environment: environment.to_owned(), root, users, _lock: lock })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The users, in the order of the file.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Adds a user with the stored form of a password.
    ///
    /// # Errors
    /// [`EditError::Exists`], [`EditError::Name`].
    pub fn add(&mut self, name: &str, stored: &str, level: Level) -> Result<(), EditError> {
        check_name(name).map_err(EditError::Name)?;
        if self.users.iter().any(|user| user.username == name) {
            return Err(EditError::Exists(name.to_owned()));
        }
        let taken: Vec<String> = self.entries().filter_map(|user| text(&user, "id")).collect();
        let id = (1..).map(|n| format!("user-{n}")).find(|id| !taken.contains(id)).unwrap_or_default();
        let members = [
            ("id", id.into()),
            ("username", name.into()),
            ("password", stored.into()),
            ("level", CstInputValue::Number(level.0.to_string())),
        ];
        let members = members.map(|(key, value)| (key.to_owned(), value)).to_vec();
        if let Some(list) = self.list() {
            list.append(CstInputValue::Object(members));
        }
        Ok(())
    }

    /// Removes a user. Removes the last one of level 1 only with `force`.
    ///
    /// # Errors
    /// [`EditError::Unknown`], [`EditError::LastAdmin`].
    pub fn remove(&mut self, name: &str, force: bool) -> Result<(), EditError> {
        let level = self.get(name)?.level;
        let others = self.users.iter().filter(|user| user.level == Level::ADMIN && user.username != name);
        if !force && level == Level::ADMIN && others.count() == 0 {
            return Err(EditError::LastAdmin(name.to_owned()));
        }
        self.entries_of(name).for_each(CstObject::remove);
        Ok(())
    }

    /// Sets the stored form of a user's password.
    ///
    /// # Errors
    /// [`EditError::Unknown`].
    pub fn set_password(&mut self, name: &str, stored: &str) -> Result<(), EditError> {
        self.get(name)?;
        for password in self.entries_of(name).filter_map(|user| user.get("password")) {
            password.set_value(stored.into());
        }
        Ok(())
    }

    /// Replaces the file. Its owner and mode stay as they are. Only its owner can read a new file.
    ///
    /// # Errors
    /// [`EditError::Io`]. The file is then unchanged.
    pub fn save(self) -> Result<(), EditError> {
        let failed = |why| EditError::Io { path: self.path.clone(), what: "replaced", why };
        let mut json = self.root.to_string();
        if !json.ends_with('\n') {
            json.push('\n');
        }
        let parent = self.path.parent().unwrap_or(Path::new("."));
        // Only its owner can read the temporary file.
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
        file.write_all(json.as_bytes()).map_err(failed)?;
        if let Ok(before) = fs::metadata(&self.path) {
            let own = file.as_file().metadata().map_err(failed)?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                // The owner stays, because a master that runs as that user must be able to read the file.
                chown(file.path(), Some(before.uid()), Some(before.gid())).map_err(failed)?;
            }
            file.as_file().set_permissions(Permissions::from_mode(before.mode() & 0o7777)).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The list of this environment's users, which is added to the file if there is none.
    fn list(&self) -> Option<CstArray> {
        let Some(environments) = self.root.object_value() else { return self.root.array_value() };
        let is_mine = |property: &CstObjectProp| property.decoded_name().as_ref() == Some(&self.environment);
        match environments.properties().into_iter().rfind(is_mine) {
            Some(mine) => mine.array_value(),
            None => environments.array_value_or_create(&self.environment),
        }
    }

    fn entries(&self) -> impl Iterator<Item = CstObject> {
        self.list().into_iter().flat_map(|list| list.elements()).filter_map(|entry| entry.as_object())
    }

    fn entries_of(&self, name: &str) -> impl Iterator<Item = CstObject> {
        self.entries().filter(move |user| text(user, "username").as_deref() == Some(name))
    }

    fn get(&self, name: &str) -> Result<&User, EditError> {
        let user = self.users.iter().find(|user| user.username == name);
        user.ok_or_else(|| EditError::Unknown { name: name.to_owned(), path: self.path.clone() })
    }
}

/// A member of a user that is a text.
fn text(user: &CstObject, key: &str) -> Option<String> {
    user.get(key)?.value()?.as_string_lit()?.decoded_value().ok()
}

#[cfg(test)]
#[path = "user_file_tests.rs"]
mod tests;
