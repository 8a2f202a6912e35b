//! `adminUser.json` and `adminServer.json`: who may come in.

use std::path::{Path, PathBuf};

use super::fault::{ConfigErrors, Faults};
use super::files::{Files, TOKENS, USERS};
use super::reader::File;
use super::tree::{Node, Tree};
use crate::auth::{Level, MonitorToken, Secret, StoredPassword, User};
use crate::wire::check_name;

/// The users and the tokens, each absent if its file is not there. A running master reads them again.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `adminUser.json`.
    pub users: Option<Vec<User>>,
    /// `adminServer.json`.
    pub tokens: Option<Vec<MonitorToken>>,
}

impl Credentials {
    /// Reads both files.
    ///
    /// # Errors
    /// All faults of both files.
    pub fn load(dir: &Path, environment: &str) -> Result<Self, ConfigErrors> {
        let faults = Faults::default();
        let files = Files::new(dir, environment, &faults);
        let credentials = Credentials { users: files.with(USERS, users), tokens: files.with(TOKENS, tokens) };
        faults.unless_any(Some(credentials))
    }

    /// The paths at which the files may be.
    pub fn paths(dir: &Path, environment: &str) -> [PathBuf; 4] {
        let inner = dir.join(environment);
        [dir.join(USERS), inner.join(USERS), dir.join(TOKENS), inner.join(TOKENS)]
    }
}

/// The shortest token that cannot be guessed, bytes.
const SHORT_TOKEN: usize = 16;

/// Reads the users.
pub(super) fn users(file: File<'_>, node: &Node) -> Vec<User> {
    const EXAMPLE: &str = r#"[{"id": "user-1", "username": "admin", "password": "…", "level": 1}]"#;
    let mut users: Vec<User> = Vec::new();
    for node in entries(file, node, "adminUser.json", EXAMPLE) {
        let Some(mut table) = file.table(node, "a user") else { continue };
        // pomelo numbers its users, but nothing uses the number.
        table.get("id");
        let name = table.required("username", r#""username": "admin""#);
        let password = table.required("password", r#""password": "…""#);
        let level = table.number("level", 2, 1..=1000);
        if !table.members().iter().any(|member| member.key == "level") {
            file.fault(table.at, "a user has no `level`", "1 may do everything, 2 may look: \"level\": 2");
        }
        table.close();
        if let Some((name, at)) = name
            && let Err(bad) = check_name(name)
        {
            file.fault(at, format!("that cannot be a user's name: {bad}"), r#"for example: "username": "admin""#);
        }
        if let Some((name, at)) = name
            && users.iter().any(|user| user.username == name)
        {
            file.fault(at, format!("the user `{name}` is there twice"), "keep one of the two");
        }
        let (Some((name, _)), Some((password, at))) = (name, password) else { continue };
        match StoredPassword::parse(password) {
            Ok(password) => {
                file.mark(format!("user {name}"), at);
                if password.is_plain() {
                    let what = format!("the password of `{name}` stands here in clear");
                    file.warn(at, what, format!("`pomelo user passwd {name}` writes its argon2id hash instead"));
                }
                let level = Level(u32::try_from(level).unwrap_or(u32::MAX));
                users.push(User { username: name.to_owned(), password, level });
            }
            Err(why) => file.fault(at, why.to_string(), "it is a text, or `$argon2id$…` of the md5 of a text"),
        }
    }
    users
}

/// Reads the tokens of monitors.
pub(super) fn tokens(file: File<'_>, node: &Node) -> Vec<MonitorToken> {
    const EXAMPLE: &str = r#"[{"type": "connector", "token": "…"}]"#;
    let mut tokens = Vec::new();
    for node in entries(file, node, "adminServer.json", EXAMPLE) {
        let Some(mut table) = file.table(node, "a token") else { continue };
        let server_type = table.required("type", r#""type": "connector""#);
        let token = table.required("token", r#""token": "…""#);
        table.close();
        if let Some((server_type, at)) = server_type
            && let Err(bad) = check_name(server_type)
        {
            file.fault(at, format!("that cannot be a type of servers: {bad}"), r#"for example: "type": "connector""#);
        }
        if let (Some((server_type, _)), Some((token, at))) = (server_type, token) {
            if token.len() < SHORT_TOKEN {
                let what = format!("the token of `{server_type}` is short enough to be guessed");
                file.warn(at, what, "for example the output of `openssl rand -hex 24`");
            }
            tokens.push(MonitorToken { server_type: server_type.to_owned(), token: Secret::new(token) });
        }
    }
    tokens
}

fn entries<'a>(file: File<'_>, node: &'a Node, name: &str, example: &str) -> &'a [Node] {
    match &node.value {
        Tree::List(nodes) => nodes,
        _ => {
            file.wrong_type(node, name, "an array of objects", example);
            &[]
        }
    }
}
