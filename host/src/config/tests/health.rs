//! `health` of servers.

use super::*;

#[test]
fn health_is_read_with_its_defaults_and_not_told() {
    let servers = r#"{"chat": [
        {"id": "a", "host": "::1", "port": 6050, "clientPort": 6051, "command": "x", "health": {"port": "${clientPort}"}},
        {"id": "b", "port": 6052, "command": "x", "health": {"http": "/healthz?id=${id}", "interval_ms": 100, "timeout_ms": 10,
            "failures": 1, "then": "unready", "max_memory_mib": 512, "max_memory_then": "restart", "profile_ms": 5000}},
        {"id": "c", "command": "x", "health": {"command": "./check ${id} 'a b'", "then": "restart"}},
        {"id": "d", "command": "x", "health": {"max_memory_mib": 64, "then": "restart"}},
        {"id": "e", "port": 6053, "command": "x", "health": {"port": true}},
        {"id": "f", "command": "x", "health": {"control": "status"}}, {"id": "g", "command": "x"}]}"#;
    let config = load(&[("master.json", MASTER), ("servers.json", servers)]).unwrap();
    let of = |id| config.server(id).unwrap().health.clone();
    let millis = Duration::from_millis;
    let report = Health {
        check: Some(HealthCheck::Port("[::1]:6051".into())),
        interval: millis(10_000),
        timeout: millis(5000),
        failures: 3,
        then: Then::Report,
        max_memory: None,
        memory_then: Then::Report,
        profile: None,
    };
    assert_eq!(of("a").unwrap(), report);
    let all = Health {
        check: Some(HealthCheck::Http { address: "127.0.0.1:6052".into(), path: "/healthz?id=b".into() }),
        interval: millis(100),
        timeout: millis(10),
        failures: 1,
        then: Then::Unready,
        max_memory: Some(512 << 20),
        memory_then: Then::Restart,
        profile: Some(millis(5000)),
    };
    assert_eq!(of("b").unwrap(), all);
    let (command, memory) = (of("c").unwrap(), of("d").unwrap());
    assert_eq!(command.check, Some(HealthCheck::Command(["./check", "c", "a b"].map(str::to_owned).into())));
    assert!(!format!("{command:?}").contains("a b"), "arguments may be secrets: {command:?}");
    assert_eq!((memory.check, memory.max_memory, memory.memory_then), (None, Some(64 << 20), Then::Restart));
    assert_eq!(of("e").unwrap().check, Some(HealthCheck::Port("127.0.0.1:6053".into())));
    assert_eq!(of("f").unwrap().check, Some(HealthCheck::Control("status".into())));
    assert_eq!(of("g"), None);
    assert!(config.servers.iter().all(|server| !server.info.contains_key("health")), "it is private");
    let added = crate::wire::Info::from_iter([("serverType", "chat"), ("id", "h")].map(|(k, v)| (k.into(), v.into())));
    let wrong = config.added(std::slice::from_ref(&added), &[], "127.0.0.1:3005").unwrap_err();
    assert!(wrong[0].contains("clientPort"), "an added server is checked as its type, by its own port: {wrong:?}");
    let added = added.into_iter().chain([("clientPort".to_owned(), 7000.into())]).collect();
    let added = config.added(&[added], &[], "127.0.0.1:3005").unwrap();
    assert_eq!(added[0].health.clone().unwrap().check, Some(HealthCheck::Port("127.0.0.1:7000".into())));
}

#[test]
fn faults_of_health_name_their_place_and_a_way_out() {
    /// Each fault has the value or key at which it is found.
    fn fault(health: &str, expected: &[(&str, &str, &str)]) {
        let servers = format!(r#"{{"chat": [{{"id": "c", "command": "x", "health": {health}}}]}}"#);
        let place = |at: &str| format!("1:{}", servers.rfind(at).unwrap() + 1);
        let places: Vec<String> = expected.iter().map(|(at, ..)| place(at)).collect();
        let expected: Vec<_> =
            places.iter().zip(expected).map(|(place, (_, what, hint))| (&**place, *what, *hint)).collect();
        check("servers.json", &servers, &expected);
    }
    let none = ("the server's own port, and it has none", r#""port": 3050"#);
    let no_port = ("true or a port from 1 to 65535", "${clientPort}");
    fault("7", &[("7", "`health` must be a table", "for example")]);
    fault("{}", &[("{}", "does not say what is checked", "/healthz")]);
    fault(r#"{"control": "a", "command": "b"}"#, &[(r#""b""#, "both `control` and `command`", "keep one")]);
    fault(r#"{"http": "/"}"#, &[(r#""/""#, none.0, none.1)]);
    fault(r#"{"port": true}"#, &[("true", none.0, none.1)]);
    fault(r#"{"port": false}"#, &[("false", no_port.0, no_port.1)]);
    fault(r#"{"port": 70000}"#, &[("70000", no_port.0, no_port.1)]);
    fault(r#"{"http": "http://x/"}"#, &[(r#""http://"#, "a path that begins with `/`", "own port")]);
    fault(r#"{"http": 1}"#, &[("1}", "`http` must be a string, but is a number", "/healthz")]);
    fault(r#"{"control": "stop"}"#, &[(r#""stop""#, "`stop` is no check", "changes nothing")]);
    fault(r#"{"control": ""}"#, &[(r#""""#, "`control` of `health` is empty", "for example")]);
    fault(r#"{"command": []}"#, &[("[]", "`command` of `health` is empty", "./check")]);
    fault(r#"{"command": "a ${prot}"}"#, &[(r#""a $"#, "names no member", "`$${prot}`")]);
    fault(
        r#"{"control": "a", "intervall_ms": 5}"#,
        &[(r#""intervall"#, "unknown key `intervall_ms` in `health`", "did you mean `interval_ms`?")],
    );
    fault(
        r#"{"control": "a", "interval_ms": 99, "timeout_ms": 9, "failures": 0, "then": "restat"}"#,
        &[
            ("99", "`interval_ms` must be a whole number from 100 to", "the default is 10000"),
            ("9, ", "`timeout_ms` must be a whole number from 10 to", "the default is 5000"),
            ("0, ", "`failures` must be a whole number from 1 to 1000", "the default is 3"),
            (r#""restat"#, "`then` cannot be `restat`", "did you mean `restart`?"),
        ],
    );
    fault(
        r#"{"max_memory_mib": 0, "profile_ms": 60001}"#,
        &[
            ("0, ", "`max_memory_mib` must be a whole number from 1 to", "512"),
            ("60001", "`profile_ms` must be a whole number from 1 to 60000", "5000"),
        ],
    );
    fault(r#"{"control": "a", "max_memory_then": "report"}"#, &[(r#"{"control"#, "without `max_memory_mib`", "512")]);
}
