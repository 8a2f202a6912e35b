//! Who may come in, what they may do, and what is written down of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::clients::script;
use crate::support::*;

/// How many lines of the admin log have all of these members.
fn count(asked: &[Value], members: &Value) -> usize {
    let members = members.as_object().unwrap();
    asked.iter().filter(|line| members.iter().all(|(key, value)| line[key] == *value)).count()
}

#[test]
fn a2_a4_level_2_does_what_the_spec_lets_it_and_nothing_else_over_every_route_and_all_is_logged() {
    let settings = format!("{SETTINGS}[modules]\nsystem_monitor = true\n");
    let mut cluster = Cluster::start(json!({"chat": [{"id": "chat-1", "script": GRACEFUL}]}), &settings);
    let before = cluster.wait_for(&["chat-1"]);
    let said = script("levels.js", &[&cluster.port.to_string()]);
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let allowed = ["__console__ {\"signal\":\"list\"}", "command list", "command modules"];
    for answer in &answers {
        let what = answer["what"].as_str().unwrap();
        let expected = match answer["route"].as_str().unwrap() {
            "event" => "closed",
            _ if allowed.contains(&what) => "ok",
            _ => "forbidden",
        };
        assert_eq!(answer["code"], expected, "{answer}");
    }
    assert!(answers.len() > 40, "{said}");
    // Nothing has come of it.
    let after = cluster.wait_for(&["chat-1"]);
    assert_eq!(
        (&before["chat-1"]["pid"], &before["master"]["pid"]),
        (&after["chat-1"]["pid"], &after["master"]["pid"])
    );
    let modules: Value = serde_json::from_str(&cluster.done(&["modules", "--json"])).unwrap();
    assert!(modules["modules"].as_array().unwrap().iter().all(|module| module["state"] == "enabled"), "{modules}");
    cluster.done(&["stop", "--all"]);
    cluster.hosts[0].ended();

    // Each attempt is a line, with who, from where, what and the result.
    let asked = cluster.asked();
    let line = |kind: &str, module: &str, operation: &str, result: &str| {
        json!({"kind": kind, "role": "client", "user": "monitor", "level": 2, "id": "level-2",
               "module": module, "operation": operation, "result": result})
    };
    for operation in ["kill", "restart", "add", "addCron", "removeCron", "blacklist"] {
        // As an event and with an acknowledgement; and as a notify.
        assert_eq!(
            count(&asked, &line("request", "__console__", operation, "forbidden")),
            2,
            "{operation}: {asked:#?}"
        );
        assert_eq!(count(&asked, &line("notify", "__console__", operation, "forbidden")), 1, "{operation}: {asked:#?}");
    }
    assert_eq!(count(&asked, &line("request", "__console__", "list", "ok")), 2, "{asked:#?}");
    assert_eq!(count(&asked, &line("notify", "__console__", "list", "ok")), 1, "{asked:#?}");
    for (command, result) in [("enable", "forbidden"), ("disable", "forbidden"), ("list", "ok"), ("modules", "ok")] {
        assert_eq!(count(&asked, &line("command", "__console__", command, result)), 3, "{command}: {asked:#?}");
    }
    let nothing_else = json!({"user": "monitor", "result": "ok"});
    assert_eq!(count(&asked, &nothing_else), 3 + 2 * 3 + 1, "list, two commands, and the registration: {asked:#?}");
    assert_eq!(count(&asked, &json!({"kind": "register", "id": "level-2", "result": "ok"})), 1);
    let stop = asked.iter().find(|line| line["operation"] == "stop" && line["user"] == "monitor").unwrap();
    assert_eq!(stop["targets"], json!(["chat-1", "chat-1"]));
    assert!(stop["address"].as_str().unwrap().starts_with("127.0.0.1:") && stop["ms"].is_number(), "{stop}");
    assert_eq!(count(&asked, &json!({"user": "admin", "operation": "stop", "result": "ok"})), 1, "{asked:#?}");
    let mode = std::fs::metadata(cluster.admin_log()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a2_levels_of_operations_and_commands_are_the_configurations_where_it_says_so() {
    let levels = "[module.__console__]\nlevels = { stop = 2, list = 1 }\n[commands]\nlevels = { list = 1, modules = 1, disable = 2 }\n";
    let cluster = Cluster::start(
        json!({"chat": [{"id": "chat-1", "script": GRACEFUL}, {"id": "chat-2", "script": GRACEFUL}]}),
        &format!("{SETTINGS}{levels}"),
    );
    cluster.wait_for(&["chat-1", "chat-2"]);
    let monitor = |arguments: &[&str]| {
        let user = ["--username=monitor", "--password=monitor"];
        cluster.ask(&[arguments, &user].concat())
    };
    let forbidden = |arguments: &[&str]| {
        let done = monitor(arguments);
        assert_eq!((done.code, done.err.contains("needs level 1")), (Some(1), true), "{arguments:?}: {done:?}");
    };
    forbidden(&["list"]);
    forbidden(&["restart", "chat-1"]);
    forbidden(&["modules"]);
    forbidden(&["modules", "enable", "__console__"]);
    assert_eq!(monitor(&["stop", "chat-1"]).code, Some(0));
    cluster.wait_for(&["chat-2"]);
    assert_eq!(monitor(&["modules", "disable", "__console__"]).code, Some(0));
    let disabled = cluster.ask(&["list"]);
    assert!(disabled.err.contains("disabled"), "{disabled:?}");
    cluster.done(&["modules", "enable", "__console__"]);
    cluster.wait_for(&["chat-2"]);
}

#[test]
fn a1_a3_wrong_passwords_and_tokens_slow_their_address_down_and_right_ones_are_no_way_to_probe() {
    let cluster = Cluster::configured(json!({"chat": []}), SETTINGS);
    cluster.write("adminServer.json", r#"[{"type": "chat", "token": "the-right-token"}]"#);
    let mut cluster = cluster;
    cluster.host("master", &[]);
    cluster.wait_for(&[]);
    let said = script("guess.js", &[&cluster.port.to_string(), "monitor", "monitor", "the-right-token"]);
    for check in [
        "guesses of a password are slowed down, right ones too",
        "only so many wait",
        "guesses of a token are slowed down, the right one is not",
    ] {
        assert!(said.lines().any(|line| line == check), "{check} is not in {said}");
    }
    // Another user is not kept waiting by guesses for this one, nor another server.
    cluster.wait_for(&[]);
    let asked = cluster.asked();
    let refused = |role: &str| {
        let refused = asked.iter().filter(|line| line["kind"] == "register" && line["role"] == role);
        let mut results: BTreeMap<String, usize> = BTreeMap::new();
        refused.for_each(|line| *results.entry(line["result"].as_str().unwrap().to_owned()).or_default() += 1);
        results
    };
    let monitors = BTreeMap::from([("forbidden".to_owned(), 6), ("busy".to_owned(), 4)]);
    assert_eq!(refused("monitor"), monitors, "{asked:#?}");
    assert_eq!((refused("client")["forbidden"], refused("client")["busy"]), (4, 8), "{asked:#?}");
    assert!(asked.iter().any(|line| line["reason"] == "unknown user or wrong password" && line["user"] == "monitor"));
    let log = std::fs::read_to_string(cluster.admin_log()).unwrap();
    assert!(!log.contains("the-right-token") && !log.contains("password\":"), "{log}");
}

#[test]
fn a1_a3_the_operators_own_commands_decide_who_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let user = dir.path().join("user");
    // A user's password is what stands in the file, and tools send its md5; a server's token is its own id.
    std::fs::write(&user, "s3cret").unwrap();
    let checks = format!(
        "[auth]\nuser_command = ['sh', '-c', '''\n\
         grep -q \"\\\"username\\\":\\\"ann\\\",\\\"password\\\":\\\"$(tr -d '\\n' < {} | md5sum | cut -c 1-32)\\\"\" && echo '{{\"ok\": true, \"level\": 2}}' ''']\n\
         server_command = ['sh', '-c', '''\n\
         grep -q '\"id\":\"chat-1\",\"serverType\":\"chat\",\"token\":\"chat-1\"' && echo '{{\"ok\": true}}' ''']\n",
        user.display()
    );
    let mut cluster = Cluster::configured(json!({}), &format!("{SETTINGS}{checks}"));
    cluster.host("master", &[]);
    let ask = |cluster: &Cluster, name: &str, password: &str| {
        cluster.ask(&["list", "--json", "--username", name, "--password", password])
    };
    eventually("ann is let in", || (ask(&cluster, "ann", "s3cret").code == Some(0)).then_some(()));
    let stop = cluster.ask(&["stop", "--all", "--username=ann", "--password=s3cret"]);
    assert_eq!((stop.code, stop.err.contains("user ann has level 2")), (Some(1), true), "{stop:?}");
    let wrong = ask(&cluster, "ann", "admin");
    assert_eq!((wrong.code, wrong.err.contains("unknown user or wrong password")), (Some(4), true), "{wrong:?}");
    // The file's users do not count beside it.
    assert_eq!(ask(&cluster, "admin", "admin").code, Some(4));
    // Nothing is kept of an answer.
    std::fs::write(&user, "an0ther").unwrap();
    assert_eq!(ask(&cluster, "ann", "s3cret").code, Some(4));
    assert_eq!(ask(&cluster, "ann", "an0ther").code, Some(0));

    let arguments = ["--id=chat-1", "--type=chat", "--token=chat-1"];
    cluster.monitor(&arguments);
    eventually("the server is let in", || ask(&cluster, "ann", "an0ther").out.contains("chat-1").then_some(()));
    let refused = cluster.monitor(&["--id=chat-2", "--type=chat", "--token=chat-1"]);
    eventually("the other is not", || refused.log().contains("the token is not that of").then_some(()));
    let log = cluster.hosts[0].log();
    assert!(!log.contains("s3cret") && !log.contains("an0ther"), "{log}");
}
