//! `adminUser.json` and `adminServer.json`: who may come in.

use super::reader::File;
use super::tree::{Node, Tree};
use crate::auth::{Level, MonitorToken, Secret, StoredPassword, User};

/// Reads the users.
pub(super) fn users(file: File<'_>, node: &Node) -> Vec<User> {
    const EXAMPLE: &str = r#"[{"id": "user-1", "username": "admin", "password": "…", "level": 1}]"#;
    let mut users: Vec<User> = Vec::new();
    for node in entries(file, node, "adminUser.json", EXAMPLE) {
        let Some(mut table) = file.table(node, "a user") else { continue };
        // pomelo numbers its users; nothing asks for the number.
        table.get("id");
        let name = table.required("username", r#""username": "admin""#);
        let password = table.required("password", r#""password": "…""#);
        let level = table.number("level", 2, 1..=1000);
        if !table.members().iter().any(|member| member.key == "level") {
            file.fault(table.at, "a user has no `level`", "1 may do everything, 2 may look: \"level\": 2");
        }
        table.close();
        if let Some((name, at)) = name
            && users.iter().any(|user| user.username == name)
        {
            file.fault(at, format!("the user `{name}` is there twice"), "keep one of the two");
        }
        let (Some((name, _)), Some((password, at))) = (name, password) else { continue };
        match StoredPassword::parse(password) {
            Ok(password) => {
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
        if let (Some((server_type, _)), Some((token, _))) = (server_type, token) {
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
