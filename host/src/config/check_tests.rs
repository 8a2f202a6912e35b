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
