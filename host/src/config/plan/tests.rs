use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const MASTER: &str = r#"{"id": "master-server-1", "host": "127.0.0.1", "port": 3005}"#;
const SERVERS: &str = r#"{
    "connector": [{"id": "connector-1", "port": 3150, "frontend": true, "command": "./run ${port}", "env": {"A": "1"}}],
    "chat": [{"id": "chat-1", "port": 6050, "command": "./chat", "env": {"KEY": "swordfish"}}, {"id": "chat-2", "port": 6051}]
}"#;
const CRONS: &str = r#"{"chat": [{"id": 1, "time": "0 30 10 * * *", "action": "chatCron.send"}]}"#;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        files.with("master.json", MASTER).with("servers.json", SERVERS).with("crons.json", CRONS)
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    fn changed(self, name: &str, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(self.0.path().join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        self.with(name, &text.replace(from, to))
    }

    fn load(&self) -> Config {
        // Relative paths begin at the directory, so that both configurations need the same.
        let mut config = Config::load(self.0.path(), "development").unwrap_or_else(|faults| panic!("{faults}"));
        config.settings.modules.dir = Path::new("/modules").into();
        config.settings.data = None;
        config.settings.tls.dir = Path::new("/tls").into();
        config
    }
}

/// The plan from the files above to what `change` makes of them.
fn plan(change: impl FnOnce(Files) -> Files) -> Plan {
    Plan::between(&Files::new().load(), &change(Files::new()).load(), &NoneRuns)
}

/// The keys of the only server that has changed.
fn keys(change: impl FnOnce(Files) -> Files) -> (String, Vec<String>) {
    let plan = plan(change);
    assert_eq!((plan.changed.len(), plan.new.len(), plan.gone.len()), (1, 0, 0), "{plan}");
    (plan.changed[0].id.clone(), plan.changed[0].keys.clone())
}

#[test]
fn equal_files_make_an_empty_plan() {
    let plan = plan(|files| files);
    assert!(plan.is_empty(), "{plan}");
    assert_eq!(plan.lines(), ["nothing differs between the files and what runs"]);
    assert_eq!(plan.summary(), "nothing differs");
}

#[test]
fn each_changed_key_of_a_server_is_named_and_no_value_is() {
    let is = |id: &str, wanted: &[&str], change: fn(Files) -> Files| {
        assert_eq!(keys(change), (id.to_owned(), wanted.iter().map(ToString::to_string).collect::<Vec<_>>()));
    };
    is("connector-1", &["command"], |files| files.changed("servers.json", "./run", "./run2"));
    is("connector-1", &["command", "port"], |files| files.changed("servers.json", "3150", "3151"));
    is("connector-1", &["env.A", "env.B"], |files| files.changed("servers.json", r#""A": "1""#, r#""B": "2""#));
    is("chat-1", &["env.KEY"], |files| files.changed("servers.json", "swordfish", "s3cret"));
    is("chat-2", &["cpu", "logs", "restart", "ssh"], |files| {
        files.changed("servers.json", "6051", r#"6051, "cpu": 0, "logs": "l", "restart": "never", "ssh": false"#)
    });
    is("chat-1", &["health"], |files| {
        files.changed("servers.json", r#""port": 6050,"#, r#""port": 6050, "health": {"port": true},"#)
    });
    is("chat-2", &["command", "cwd", "ready"], |files| {
        files.changed("servers.json", "6051", r#"6051, "command": "./chat", "cwd": "x", "ready": "control""#)
    });
    is("chat-2", &["host"], |files| files.changed("servers.json", "6051", r#"6051, "host": "10.0.0.2""#));
    is("chat-2", &["auto-restart", "room"], |files| {
        files.changed("servers.json", "6051", r#"6051, "room": 7, "auto-restart": true"#)
    });
    is("chat-2", &["[pomelo] app", "[pomelo] node"], |files| files.with("pomelo.toml", "[pomelo]\napp = '/app.js'\n"));
    is("chat-2", &["crons.2"], |files| {
        let new = r#", {"id": 2, "time": "0 * * * * *", "action": "a.b", "serverId": "chat-2"}]"#;
        files.changed("crons.json", "]", new)
    });
    let plan = plan(|files| files.changed("servers.json", "swordfish", "s3cret"));
    let shown = format!("{plan}{plan:?}{}", serde_json::to_string(&plan).unwrap());
    assert!(!shown.contains("swordfish") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_cron_of_a_type_changes_all_servers_of_the_type() {
    let plan = plan(|files| files.changed("crons.json", "0 30 10", "0 30 11"));
    let changed: Vec<_> = plan.changed.iter().map(|server| (server.id.as_str(), server.keys.join(" "))).collect();
    assert_eq!(changed, [("chat-1", "crons.1".to_owned()), ("chat-2", "crons.1".to_owned())]);
}

#[test]
fn settings_are_named_with_who_takes_them() {
    let toml = "[limits]\ncpu_ms = 500\n[supervise]\nrestart = 'never'\nready = 'port'\nstarts_per_s = 5\n[network]\nping_interval_ms = 700\n\
                [commands.levels]\nlist = 1\n[watch]\ndrain_ms = 5\npoll = true\n[modules]\nallow_replace_builtin = true\nwaves = ['5%']\nfrom_master = true\n\
                [metrics]\ntoken = 'a-token-of-sixteen-bytes'\n[ssh]\n[module.probe]\ninterval = 7\ngrants = ['cluster']\n\
                [module.probe.options]\nunit = 'x'\n[module.probe.levels]\nlist = 2\n[module.probe.limits]\nqueue = 3\n\
                [module.big.limits]\nmemory_mib = 512\n[module.idle]\n\
                [scripts]\ngrants = ['process']\n[scripts.limits]\nwall_ms = 7\n";
    let plan = plan(|files| files.with("pomelo.toml", toml).changed("master.json", "3005", "3006"));
    let taken = |taken| plan.taken(taken).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        taken(Taken::AtOnce),
        [
            "[limits] cpu_ms",
            "[modules] allow_replace_builtin",
            "[modules] waves",
            "[scripts] grants",
            "[scripts.limits] wall_ms",
            "[watch] drain_ms",
            "[commands] levels.list"
        ]
    );
    assert_eq!(taken(Taken::NextStart), ["[modules] from_master", "[supervise] ready", "[supervise] restart"]);
    assert_eq!(
        taken(Taken::NewMaster),
        [
            "[network] ping_interval_ms",
            "[watch] poll",
            "[supervise] starts_per_s",
            "[ssh] (new)",
            "[metrics] token",
            "[module.big] limits.memory_mib",
            "master.json port"
        ]
    );
    let [probe] = &plan.modules[..] else { panic!("{plan}") };
    assert_eq!(probe.id, "probe");
    assert_eq!(probe.keys, ["options.unit", "interval", "limits.queue", "grants", "levels.list"]);
    // `[supervise]` is the same for all servers, so that none of them is restarted for it.
    assert!(plan.changed.is_empty(), "{plan}");
    assert!(!plan.to_string().contains("a-token"), "{plan}");
    assert!(plan.lines().contains(&"  [supervise] restart: servers take it when they start the next time".to_owned()));
}

#[test]
fn what_was_applied_is_no_difference_any_more() {
    let toml = "[limits]\ncpu_ms = 500\nmemory_mib = 700\n[network]\noutbox = 99\n[supervise]\nready = 'port'\n[monitor]\nhttp = '127.0.0.1:0'\n\
                [pomelo]\napp = '/app.js'\n[module.big.limits]\nmemory_mib = 512\nqueue = 2\n";
    let files = Files::new().with("pomelo.toml", toml).changed("servers.json", "6051", "6052").load();
    let in_force = Plan::applied(&Files::new().load(), &files);
    let left = Plan::between(&in_force, &files, &NoneRuns);
    let only: Vec<_> = left.settings.iter().map(|setting| (setting.key.as_str(), setting.taken)).collect();
    let expected = ["[limits] memory_mib", "[network] outbox", "[module.big] limits.memory_mib"];
    assert_eq!(only, expected.map(|key| (key, Taken::NewMaster)));
    assert_eq!(Plan { settings: Vec::new(), ..left }, Plan::default());
}

#[test]
fn a_spec_is_the_same_whatever_the_order_of_the_members() {
    let spec = |files: Files| {
        let config = files.load();
        config.server("chat-1").unwrap().spec(&config)
    };
    let usual = spec(Files::new());
    let turned = spec(Files::new().changed(
        "servers.json",
        r#"{"id": "chat-1", "port": 6050, "command": "./chat""#,
        r#"{"command": "./chat", "port": 6050, "id": "chat-1""#,
    ));
    assert_eq!(usual, turned);
    assert_ne!(usual, spec(Files::new().changed("servers.json", "swordfish", "s3cret")));
    assert_eq!(usual, spec(Files::new().with("pomelo.toml", "[supervise]\nstop_deadline_ms = 7\n")));
    assert!(!format!("{usual:?}").contains("swordfish"));
    let shown = usual.shown();
    assert_eq!((&shown["env.KEY"], &shown["port"]), (&"…".into(), &6050.into()), "{shown:?}");
}

#[test]
fn a_process_that_was_begun_in_another_way_is_a_difference_until_it_is_begun_anew() {
    struct Begun(Option<Spec>);
    impl Running for Begun {
        fn spec(&self, id: &str) -> Option<Spec> {
            self.0.clone().filter(|_| id == "chat-1")
        }
        fn strays(&self) -> Vec<(String, String)> {
            vec![("chat-9".into(), "chat".into())]
        }
        fn revision(&self) -> u64 {
            0
        }
    }
    let (before, after) = (Files::new().load(), Files::new().changed("servers.json", "6050", "6052").load());
    let spec = |config: &Config| config.server("chat-1").unwrap().spec(config);
    let changed = |in_force: &Config, files: &Config, begun: Option<Spec>| {
        Plan::between(in_force, files, &Begun(begun)).changed.iter().map(|server| server.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(changed(&after, &after, Some(spec(&before))), ["chat-1"], "its restart was put off");
    assert!(changed(&after, &before, Some(spec(&before))).is_empty(), "the change was taken back before");
    assert!(changed(&before, &after, Some(spec(&after))).is_empty());
    assert_eq!(changed(&before, &after, None), ["chat-1"]);
    assert_eq!(ids(&Plan::between(&before, &before, &Begun(None)).gone), ["chat-9"], "its end was put off");
}

#[test]
fn a_plan_goes_over_the_wire_and_comes_back() {
    let plan = plan(|files| {
        files
            .changed("servers.json", "chat-2", "chat-3")
            .with("pomelo.toml", "[module.a]\ninterval = 2\n[watch]\npoll = true\n")
    });
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains(r#""new":[{"id":"chat-3","serverType":"chat"}]"#), "{text}");
    assert!(text.contains(r#"{"key":"[watch] poll","taken":"new-master"}"#), "{text}");
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    assert_eq!(plan.summary(), "1 server is new, 1 server is gone, 2 settings differ");
}

/// One server of a random cluster: its number, port and a variable.
type One = (u8, u16, Option<u8>);

fn cluster(servers: &[One]) -> Config {
    let mut config = Files::new().load();
    let mut seen = BTreeSet::new();
    let template = config.servers[1].clone();
    config.servers.clear();
    for (number, port, variable) in servers.iter().filter(|(number, _, _)| seen.insert(*number)) {
        let mut server = template.clone();
        server.id = format!("chat-{number}");
        server.info.insert("id".into(), server.id.clone().into());
        server.info.insert("port".into(), (*port).into());
        if let (Some(launch), Some(variable)) = (&mut server.launch, variable) {
            launch.env.insert("V".into(), variable.to_string());
        }
        config.servers.push(server);
    }
    config
}

fn servers() -> impl Strategy<Value = Vec<One>> {
    proptest::collection::vec((0u8..8, 1u16..4, proptest::option::of(0u8..3)), 0..10)
}

fn ids(servers: &[PlannedServer]) -> Vec<&str> {
    servers.iter().map(|server| server.id.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_names_what_differs_and_nothing_else(before in servers(), after in servers(), wait in 0u64..3) {
        let (in_force, mut files) = (cluster(&before), cluster(&after));
        files.settings.supervise.ready_delay += Duration::from_millis(wait);
        let plan = Plan::between(&in_force, &files, &NoneRuns);
        // The ids in the order of the files, or of what is in force.
        let new: Vec<_> = files.servers.iter().filter(|s| in_force.server(&s.id).is_none()).map(|s| s.id.as_str()).collect();
        let gone: Vec<_> = in_force.servers.iter().filter(|s| files.server(&s.id).is_none()).map(|s| s.id.as_str()).collect();
        let same = |server: &&Server| in_force.server(&server.id).is_some_and(|before| before != *server);
        let changed: Vec<_> = files.servers.iter().filter(same).map(|s| s.id.as_str()).collect();
        prop_assert_eq!((ids(&plan.new), ids(&plan.changed), ids(&plan.gone)), (new, changed, gone));
        for server in &plan.changed {
            let (old, new) = (in_force.server(&server.id).unwrap(), files.server(&server.id).unwrap());
            let expected: Vec<&str> = [
                ("env.V", old.launch.as_ref().unwrap().env.get("V") != new.launch.as_ref().unwrap().env.get("V")),
                ("port", old.info["port"] != new.info["port"]),
            ].into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
            prop_assert_eq!(&server.keys, &expected);
        }
        prop_assert_eq!(plan.taken(Taken::NextStart).count(), usize::from(wait > 0));
        // Once it is applied, nothing is left; and nothing differs from itself.
        prop_assert!(Plan::between(&Plan::applied(&in_force, &files), &files, &NoneRuns).is_empty());
        prop_assert!(Plan::between(&files, &files, &NoneRuns).is_empty());
    }
}
