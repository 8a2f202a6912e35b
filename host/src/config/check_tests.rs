use super::*;

/// The warnings for these files that say `part`, as they are shown, each with its environments.
fn warnings(files: &[(&str, &str)], part: &str) -> Vec<(String, Vec<String>)> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("master.json"), "{}").unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let report = check(dir.path(), None, |_| Found::default());
    assert_eq!(report.faults, []);
    let warnings = report.warnings.into_iter().filter(|warning| warning.fault.what.contains(part));
    let shown = |fault: &Fault| format!("{}:{}: {} ({})", fault.line, fault.column, fault.what, fault.hint);
    warnings.map(|warning| (shown(&warning.fault), warning.environments)).collect()
}

#[test]
fn servers_that_pomelos_application_runs_are_not_said_to_run_nothing() {
    let servers = ("servers.json", r#"{"chat": [{"id": "chat-1"}]}"#);
    let toml = |text| ("pomelo.toml", text);
    assert_eq!(warnings(&[servers, toml("")], "nothing is run for it").len(), 1);
    assert_eq!(warnings(&[servers, toml("[pomelo]\napp = 'app.js'")], "nothing is run for it"), []);
}

#[test]
fn a_password_is_warned_of_once_a_user_and_file() {
    let both = r#"{"development": [{"username": "ann", "password": "odd-and-long", "level": 1}],
        "production": [{"username": "ann", "password": "odd-and-long", "level": 1},
            {"username": "bob", "password": "odd-and-long", "level": 2}]}"#;
    let said = warnings(&[("adminUser.json", both)], "stands here in clear");
    let environments: Vec<&[String]> = said.iter().map(|(_, environments)| &environments[..]).collect();
    assert_eq!(environments, [&["development".to_owned(), "production".to_owned()][..], &["production".to_owned()]]);
    assert!(said[0].0.contains("`ann`") && said[1].0.contains("`bob`"), "{said:?}");

    let one = r#"[{"username": "ann", "password": "odd-and-long", "level": 1}]"#;
    let apart = [("development/adminUser.json", one), ("production/adminUser.json", one)];
    assert_eq!(warnings(&apart, "stands here in clear").len(), 2, "these are two files");
}

#[test]
fn cpus_that_this_machine_does_not_have_are_warned_of() {
    let servers = r#"{"chat": [{"id": "a", "cpu": "0,1023"}, {"id": "b", "cpu": 0}, {"id": "c", "cpu": 1023, "host": "10.9.8.7"},
        {"clusterCount": 3, "cpu": 1022}]}"#;
    let said = warnings(&[("servers.json", servers)], "no CPU");
    let [(one, _), (counted, _)] = &said[..] else { panic!("{said:?}") };
    assert!(one.starts_with("1:30: this machine has no CPU 1023") && one.contains("on the others"), "{one}");
    assert!(
        counted.starts_with("2:36: this machine has no CPU 1022") && counted.contains("not be started"),
        "{counted}"
    );
}

#[test]
fn health_that_cannot_do_what_it_says_is_warned_of() {
    let said = |members: &str, part: &str| {
        let servers = format!(r#"{{"chat": [{{"id": "a", {members}}}]}}"#);
        warnings(&[("servers.json", &servers)], part).len()
    };
    let nobody = "nobody checks it";
    assert_eq!(said(r#""health": {"control": "x"}"#, nobody), 1);
    assert_eq!(said(r#""command": "x", "health": {"control": "x"}"#, nobody), 0);
    let ended = "it would only be ended";
    let restarts = r#""command": "x", "health": {"max_memory_mib": 1, "max_memory_then": "restart", "profile_ms": 1}"#;
    assert_eq!(said(&format!(r#""restart": "never", {restarts}"#), ended), 1);
    assert_eq!(said(restarts, ended), 0);
    let no_profile = "no profile is taken";
    assert_eq!(said(restarts, no_profile), 0);
    assert_eq!(said(r#""command": "x", "health": {"control": "x", "profile_ms": 1}"#, no_profile), 1);
}

const CHATS: (&str, &str) =
    ("servers.json", r#"{"chat": [{"id": "chat-1"}, {"id": "chat-2"}], "gate": [{"id": "gate-1"}]}"#);

#[test]
fn crons_that_nobody_fires_are_warned_of_and_stop_no_start() {
    let said = |crons: &str, part: &str| {
        let said = warnings(&[CHATS, ("crons.json", crons)], part);
        said.into_iter().map(|(warning, _)| warning).collect::<Vec<_>>()
    };
    let cron = r#"{"id": 1, "time": "0 0/5 * * * *", "action": "a"}"#;
    let unknown = said(&format!(r#"{{"chatt": [{cron}]}}"#), "no server of type `chatt`");
    assert!(unknown.len() == 1 && unknown[0].contains("did you mean `chat`?"), "{unknown:?}");
    let unknown = said(r#"{"zzz": []}"#, "no server of type `zzz`");
    assert!(unknown[0].contains("known here: chat, gate"), "each is named once: {unknown:?}");
    let unknown = said(
        r#"{"chat": [{"id": 1, "time": "* * * * * *", "action": "a", "serverId": "chat-9"}]}"#,
        "no server `chat-9`",
    );
    assert!(unknown.len() == 1 && unknown[0].starts_with("1:71: "), "{unknown:?}");
    let foreign =
        said(r#"{"chat": [{"id": "persist", "time": "1 */5 * * * *", "action": "a"}]}"#, "pomelo's own servers");
    assert!(foreign.len() == 1 && foreign[0].contains("`*/5`"), "{foreign:?}");
    let elsewhere = ("crons.json", r#"{"remotetest": {"chat": []}}"#);
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("master.json", "{}"), CHATS, elsewhere] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    assert!(Config::load(dir.path(), DEFAULT_ENVIRONMENT).unwrap().crons.is_empty());
    let report = check(dir.path(), Some(DEFAULT_ENVIRONMENT), |_| Found::default());
    assert!(report.warnings.iter().any(|warning| warning.fault.what.contains("it has no crons")), "{report:?}");
}

#[test]
fn what_crons_mean_is_told_once_for_all_environments() {
    let dir = tempfile::tempdir().unwrap();
    let crons = r#"{"development": {"chat": [{"id": 1, "time": "0 0/5 * * * *", "action": "chatCron.sweep", "serverId": "chat-1"}]},
        "production": {"chat": [{"id": 1, "time": "0 0/5 * * * *", "action": "chatCron.sweep", "serverId": "chat-1"}]}}"#;
    for (name, text) in [("master.json", "{}"), CHATS, ("crons.json", crons)] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let report = check(dir.path(), None, |_| Found::default());
    let [cron] = &report.crons[..] else { panic!("{report:?}") };
    assert_eq!(cron.means, "second 0 of minutes 0, 5, 10, … 55 of every hour on every day");
    assert_eq!(cron.environments, ["development", "production"]);
    let next: Vec<_> = cron.next.iter().map(|next| DateTime::parse_from_rfc3339(next).unwrap()).collect();
    assert!(next.len() == 3 && next.is_sorted() && next.iter().all(|next| next.timestamp() % 300 == 0), "{next:?}");
}

#[test]
fn waves_that_reach_no_monitor_are_warned_of() {
    let toml = |text| [("pomelo.toml", text)];
    let said = warnings(&toml("[modules]\nwaves = ['1']\nlocal = 'own'"), "is for monitors that take modules");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].0.contains("`from_master = true`"), "{said:?}");
    assert_eq!(warnings(&toml("[modules]\nwaves = ['1']\nfrom_master = true"), "take modules"), []);
}
