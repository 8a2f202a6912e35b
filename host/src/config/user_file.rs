//! `adminUser.json`, changed: users come, go, and get other passwords.
//!
//! The file stays as it is in all else: with or without the level of environments, its owner and its mode. It is replaced in one step, so that a
//! master that reads it meanwhile sees the one or the other; two who change it wait for each other.

use std::fs::{self, File as FsFile, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::fault::{ConfigErrors, Faults};
use super::reader::File;
use super::tree::{Member, Node, Source, Tree};
use super::{USERS, credentials, environments, read};
use crate::auth::{Level, User};

/// `adminUser.json`, held so that nobody else changes it.
pub struct UserFile {
    path: PathBuf,
    environment: String,
    /// The users as they stand in the file.
    list: Vec<Node>,
    /// The members of the file, where it has the level of environments; that of this environment is without its value.
    around: Option<Vec<Member>>,
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
    #[error("{} cannot be {what}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// `read`, `locked` or `replaced`.
        what: &'static str,
        /// Why not.
        source: io::Error,
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
            move |source| EditError::Io { path, what, source }
        };
        // What is replaced is what a link points to, not the link.
        let path = if path.exists() { fs::canonicalize(&path).map_err(failed("read"))? } else { path.clone() };
        let lock = FsFile::open(path.parent().unwrap_or(dir)).map_err(failed("locked"))?;
        lock.lock().map_err(failed("locked"))?;
        let text = read(&path).map_err(failed("read"))?.unwrap_or_else(|| "[]".to_owned());
        let faults = Faults::default();
        let source = Source::new(&path, text);
        let root = source.json().map_err(|fault| ConfigErrors(vec![fault]))?;
        let level = !environments(&path, &root).is_empty();
        let (around, mine) = match root.value {
            Tree::Table(mut members) if level => {
                let mine = members.iter_mut().rfind(|member| member.key == environment);
                let mine = mine.map(|member| std::mem::replace(&mut member.node, Node { at: 0, value: Tree::Null }));
                (Some(members), mine)
            }
            value => (None, Some(Node { at: root.at, value })),
        };
        let users = mine.as_ref().map(|mine| credentials::users(File { source: &source, faults: &faults }, mine));
        let list = match mine.map(|mine| mine.value) {
            Some(Tree::List(list)) => list,
            // Absent, or a fault that has been kept.
            _ => Vec::new(),
        };
        let (environment, users) = (environment.to_owned(), users.unwrap_or_default());
        let file = UserFile { path, environment, list, around, users, _lock: lock };
        faults.unless_any(Some(file)).map_err(EditError::Faults)
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
        let taken: Vec<&str> = self.list.iter().filter_map(|user| text(user, "id")).collect();
        let id = (1..).map(|n| format!("user-{n}")).find(|id| !taken.contains(&id.as_str())).unwrap_or_default();
        let member = |key: &str, value| Member { key: key.to_owned(), at: 0, node: Node { at: 0, value } };
        let user = vec![
            member("id", Tree::Text(id)),
            member("username", Tree::Text(name.to_owned())),
            member("password", Tree::Text(stored.to_owned())),
            member("level", Tree::Number(level.0.into())),
        ];
        self.list.push(Node { at: 0, value: Tree::Table(user) });
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
        self.list.retain(|user| text(user, "username") != Some(name));
        Ok(())
    }

    /// Gives a user another password, in its stored form.
    ///
    /// # Errors
    /// [`EditError::Unknown`].
    pub fn set_password(&mut self, name: &str, stored: &str) -> Result<(), EditError> {
        self.get(name)?;
        for user in self.list.iter_mut().filter(|user| text(user, "username") == Some(name)) {
            let Tree::Table(members) = &mut user.value else { continue };
            for member in members.iter_mut().filter(|member| member.key == "password") {
                member.node.value = Tree::Text(stored.to_owned());
            }
        }
        Ok(())
    }

    /// Replaces the file. Its owner and mode stay; a new one can be read by its owner alone.
    ///
    /// # Errors
    /// [`EditError::Io`]: the file is then as it was.
    pub fn save(mut self) -> Result<(), EditError> {
        let failed = |source| EditError::Io { path: self.path.clone(), what: "replaced", source };
        let mut json = String::new();
        let list = Node { at: 0, value: Tree::List(std::mem::take(&mut self.list)) };
        let root = match self.around.take() {
            None => list,
            Some(mut members) => {
                match members.iter_mut().rfind(|member| member.key == self.environment) {
                    Some(member) => member.node = list,
                    None => members.push(Member { key: self.environment.clone(), at: 0, node: list }),
                }
                Node { at: 0, value: Tree::Table(members) }
            }
        };
        write(&root, 0, &mut json);
        json.push('\n');
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

    fn get(&self, name: &str) -> Result<&User, EditError> {
        let user = self.users.iter().find(|user| user.username == name);
        user.ok_or_else(|| EditError::Unknown { name: name.to_owned(), path: self.path.clone() })
    }
}

/// A member of a user that is a text.
fn text<'a>(user: &'a Node, key: &str) -> Option<&'a str> {
    let Tree::Table(members) = &user.value else { return None };
    members.iter().rfind(|member| member.key == key).and_then(|member| match &member.node.value {
        Tree::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

/// Writes JSON as people read it, with the members in their order.
fn write(node: &Node, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match &node.value {
        Tree::List(nodes) if !nodes.is_empty() => {
            out.push('[');
            for (i, node) in nodes.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(out, depth + 1);
                write(node, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        Tree::Table(members) if !members.is_empty() => {
            out.push('{');
            for (i, member) in members.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(out, depth + 1);
                out.push_str(&serde_json::Value::from(member.key.as_str()).to_string());
                out.push_str(": ");
                write(&member.node, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        _ => out.push_str(&node.to_json().to_string()),
    }
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
