//! `adminUser.json`, changed: users come, go, and get other passwords.
//!
//! The file stays as it is in all else: with or without the level of environments, its owner and its mode. It is replaced in one step, so that a
//! master that reads it meanwhile sees the one or the other; two who change it wait for each other.

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

/// `adminUser.json`, held so that nobody else changes it.
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
    /// There is no configuration in the directory.
    #[error("there is no master.json in {}: `--config DIR` names the configuration's directory", .0.display())]
    NoConfiguration(PathBuf),
    /// The file has faults: they are to be mended first.
    #[error(transparent)]
    Faults(#[from] ConfigErrors),
    /// The user is there already.
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
    /// A name that cannot be one.
    #[error("a user's name has 1 to {max} bytes and no control characters", max = UserFile::MAX_NAME)]
    Name,
    /// Nobody would be left who may do everything.
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
        /// Why not.
        why: io::Error,
    },
}

impl UserFile {
    /// The longest name, bytes.
    pub const MAX_NAME: usize = 128;

    /// Opens the file of an environment, where it would be looked for; one that is not there is empty.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn open(dir: &Path, environment: &str) -> Result<Self, EditError> {
        let inner = dir.join(environment);
        // A file that is not there yet is made where the others are.
        let home = [dir, &inner].into_iter().find(|dir| dir.join("master.json").is_file());
        let home = home.ok_or_else(|| EditError::NoConfiguration(dir.to_owned()))?;
        let path = [dir, &inner].into_iter().map(|dir| dir.join(USERS)).find(|path| path.exists());
        let path = path.unwrap_or_else(|| home.join(USERS));
        let failed = |what| {
            let path = path.clone();
            move |why| EditError::Io { path, what, why }
        };
        // What is replaced is what a link points to, not the link.
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
        if name.is_empty() || name.len() > Self::MAX_NAME || name.chars().any(char::is_control) {
            return Err(EditError::Name);
        }
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

    /// Removes a user; the last one of level 1 only with `force`.
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

    /// Gives a user another password, in its stored form.
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

    /// Replaces the file. Its owner and mode stay; a new one can be read by its owner alone.
    ///
    /// # Errors
    /// [`EditError::Io`]: the file is then as it was.
    pub fn save(self) -> Result<(), EditError> {
        let failed = |why| EditError::Io { path: self.path.clone(), what: "replaced", why };
        let mut json = self.root.to_string();
        if !json.ends_with('\n') {
            json.push('\n');
        }
        let parent = self.path.parent().unwrap_or(Path::new("."));
        // Made for its owner alone.
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
        file.write_all(json.as_bytes()).map_err(failed)?;
        if let Ok(before) = fs::metadata(&self.path) {
            let own = file.as_file().metadata().map_err(failed)?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                // Else a master that runs as its owner could read it no more.
                chown(file.path(), Some(before.uid()), Some(before.gid())).map_err(failed)?;
            }
            file.as_file().set_permissions(Permissions::from_mode(before.mode() & 0o7777)).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The list of this environment's users, which is made where there is none.
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
mod tests {
    use super::*;
    use crate::auth::{StoredPassword, hash_password};

    fn dir(users: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("master.json"), "{}").unwrap();
        if let Some(users) = users {
            fs::write(dir.path().join(USERS), users).unwrap();
        }
        dir
    }

    fn names(dir: &Path, environment: &str) -> Vec<(String, u32)> {
        let file = UserFile::open(dir, environment).unwrap();
        file.users().iter().map(|user| (user.username.clone(), user.level.0)).collect()
    }

    #[test]
    fn a5_a_new_file_is_for_its_owner_alone_and_a_kept_one_keeps_its_mode_and_order() {
        let dir = dir(None);
        let stored = hash_password("s3cret").unwrap();
        let mut file = UserFile::open(dir.path(), "development").unwrap();
        file.add("ann", &stored, Level(1)).unwrap();
        file.save().unwrap();
        let path = dir.path().join(USERS);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(), names(dir.path(), "development")), (0o600, vec![("ann".into(), 1)]));

        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut file = UserFile::open(dir.path(), "development").unwrap();
        file.add("bob", &stored, Level(3)).unwrap();
        assert!(matches!(UserFile::add(&mut file, "ann", &stored, Level(1)), Err(EditError::Exists(_))));
        file.save().unwrap();
        assert_eq!((mode(), names(dir.path(), "any")), (0o640, vec![("ann".into(), 1), ("bob".into(), 3)]));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"id\": \"user-2\",\n    \"username\": \"bob\",\n"), "{text}");
    }

    #[test]
    fn a5_the_level_of_environments_and_all_else_stay() {
        let dir = dir(Some(
            r#"{"production": [{"level": 1, "username": "ann", "password": "x", "id": 7}], "development": []}"#,
        ));
        let mut file = UserFile::open(dir.path(), "production").unwrap();
        file.set_password("ann", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA").unwrap();
        file.save().unwrap();
        let mut file = UserFile::open(dir.path(), "test").unwrap();
        file.add("bob", "y", Level(2)).unwrap();
        file.save().unwrap();
        let text = fs::read_to_string(dir.path().join(USERS)).unwrap();
        let order: Vec<usize> = [
            "production",
            "\"level\": 1",
            "ann",
            "$argon2id$",
            "\"id\": 7",
            "\"development\": []",
            "\"test\": [",
            "bob",
        ]
        .iter()
        .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}")))
        .collect();
        assert!(order.is_sorted(), "{text}");
        assert_eq!(names(dir.path(), "development"), []);
    }

    #[test]
    fn a5_what_is_not_changed_stays_as_it_is_written() {
        let text = "{\n\t\"staging\": [{\"username\": \"eve\", \"n\": 1e40, \"n\": 2}],\n\n\t\"development\": [\n\
                    \t\t{\"username\": \"ann\",  \"password\": \"x\", \"level\": 1},\n\
                    \t\t{\"username\": \"bob\",  \"password\": \"y\", \"level\": 2}\n\t]\n}\n";
        let dir = dir(Some(text));
        let mut file = UserFile::open(dir.path(), "development").unwrap();
        file.set_password("ann", "another").unwrap();
        file.remove("bob", false).unwrap();
        file.save().unwrap();
        let expected = "{\n\t\"staging\": [{\"username\": \"eve\", \"n\": 1e40, \"n\": 2}],\n\n\t\"development\": [\n\
                        \t\t{\"username\": \"ann\",  \"password\": \"another\", \"level\": 1}\n\t]\n}\n";
        assert_eq!(fs::read_to_string(dir.path().join(USERS)).unwrap(), expected);
    }

    #[test]
    fn a5_the_last_user_of_level_1_and_a_broken_file_are_not_touched() {
        let dir = dir(Some(
            r#"[{"username": "ann", "password": "x", "level": 1}, {"username": "bob", "password": "y", "level": 2}]"#,
        ));
        let mut file = UserFile::open(dir.path(), "development").unwrap();
        assert!(matches!(file.remove("ann", false), Err(EditError::LastAdmin(_))));
        assert!(matches!(file.remove("eve", false), Err(EditError::Unknown { .. })));
        file.remove("bob", false).unwrap();
        file.remove("ann", true).unwrap();
        file.save().unwrap();
        assert_eq!(names(dir.path(), "development"), []);

        for broken in ["[", "[{\"username\": \"ann\"}]", "5"] {
            fs::write(dir.path().join(USERS), broken).unwrap();
            let refused = UserFile::open(dir.path(), "development").err().unwrap();
            assert!(matches!(refused, EditError::Faults(_)), "{refused}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(UserFile::open(empty.path(), "development"), Err(EditError::NoConfiguration(_))));
    }

    #[test]
    fn a5_two_who_change_the_file_wait_for_each_other() {
        let dir = dir(None);
        let add = |n: usize| {
            let mut file = UserFile::open(dir.path(), "development").unwrap();
            file.add(&format!("user-of-{n}"), "x8-long-and-odd", Level(2)).unwrap();
            file.save().unwrap();
        };
        std::thread::scope(|scope| (0..16).for_each(|n| drop(scope.spawn(move || add(n)))));
        assert_eq!(names(dir.path(), "development").len(), 16);
    }

    #[test]
    fn a5_what_is_written_is_verified_as_pomelos_tools_send_it() {
        let stored = hash_password("päss \"wörd\"").unwrap();
        let dir = dir(None);
        let mut file = UserFile::open(dir.path(), "development").unwrap();
        file.add("ann", &stored, Level(1)).unwrap();
        file.save().unwrap();
        let users = crate::auth::Users::new(UserFile::open(dir.path(), "development").unwrap().users().to_vec());
        assert_eq!(users.verify("ann", "päss \"wörd\"", false), Ok(Level(1)));
        assert!(!StoredPassword::parse(&stored).unwrap().is_plain());
    }
}
