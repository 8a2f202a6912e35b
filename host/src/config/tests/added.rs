use serde_json::json;

use super::*;
use crate::wire::Info;

/// What is wrong with an added server of the only type.
fn wrong(server: &str, added: Value) -> String {
    let servers = format!(r#"{{"chat": [{server}]}}"#);
    let config = load(&[("master.json", MASTER), ("servers.json", &servers)]).unwrap();
    let mut info: Info = added.as_object().unwrap().clone();
    info.insert("serverType".into(), "chat".into());
    config.added(&[info], &[], "127.0.0.1:3005").err().map_or_else(String::new, |wrong| wrong.join("; "))
}

#[test]
fn no_argument_of_an_added_server_decides_which_program_is_run() {
    let exe = r#"{"id": "a", "port": 6050, "command": "${exe} demo-server --port ${port}"}"#;
    assert_eq!(wrong(exe, json!({"id": "b", "port": 6051})), "");
    for own in ["exe", "master", "environment"] {
        let said = wrong(exe, json!({"id": "b", "port": 6051, own: "/bin/true"}));
        assert_eq!(said, format!("`{own}` is the host's own placeholder `${{{own}}}`, which no server sets"));
    }
    let of_members = r#"{"id": "a", "port": 6050, "bin": "chat", "heap": "1",
        "command": ["./${bin}/run-${id}", "--heap=${heap}"], "health": {"command": "./${look} ${id}"}, "look": "x"}"#;
    let heap = json!({"id": "b", "port": 6051, "heap": "2", "bin": "x", "look": "y"});
    let said = wrong(of_members, heap);
    assert!(said.contains("`bin` decides which program is run") && said.contains("`look` decides"), "{said}");
    assert!(!said.contains("heap"), "{said}");
    let path = r#"{"id": "a", "port": 6050, "command": "./run-${id} '$${bin}'"}"#;
    assert_eq!(wrong(path, json!({"id": "b", "port": 6051, "bin": "x"})), "");
    let said = wrong(path, json!({"id": "../../bin/true", "port": 6051}));
    assert_eq!(said, "`id` is a part of the program's path, and must have no `/`");
}
