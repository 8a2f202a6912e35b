//! The files of a configuration. Any texts are a configuration, or all their faults are told.
//!
//! An input is the texts of the files, one after another with a zero byte between them, in the order of [`FILES`]. A file whose text is empty is left out,
//! and `master.json` is then a good one, so that the others are read.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use pomelo_host::auth::Level;
use pomelo_host::config::{Config, NoneRuns, Plan, Texts, UserFile, check};

/// The files, in the order in which an input has them.
const FILES: [&str; 6] =
    ["master.json", "servers.json", "pomelo.toml", "adminUser.json", "adminServer.json", "crons.json"];
/// The master where an input has none.
const MASTER: &[u8] = br#"{"id": "master", "host": "127.0.0.1", "port": 3005}"#;
const ENVIRONMENT: &str = "development";

thread_local! {
    /// The directory that is written anew for each input. In memory, where the system has such a place.
    static DIRECTORY: RefCell<tempfile::TempDir> = RefCell::new(
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory"),
    );
}

/// Reads the texts as a configuration.
pub fn run(input: &[u8]) {
    DIRECTORY.with_borrow(|directory| read(directory.path(), input));
}

fn read(dir: &Path, input: &[u8]) {
    let mut texts = input.split(|byte| *byte == 0);
    for name in FILES {
        let (path, text) = (dir.join(name), texts.next().unwrap_or_default());
        match (text, name) {
            (b"", "master.json") => fs::write(path, MASTER).unwrap(),
            // What was there for the input before may be gone already.
            (b"", _) => _ = fs::remove_file(path),
            (text, _) => fs::write(path, text).unwrap(),
        }
    }
    let loaded = Config::load(dir, ENVIRONMENT);
    let report = check(dir, Some(ENVIRONMENT), |_| Default::default());
    match &loaded {
        Ok(config) => {
            in_force(config, dir);
            for cron in &config.crons {
                if let Some(schedule) = &cron.schedule {
                    next_is_later(schedule);
                }
            }
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "what is refused has a fault");
            // Whoever checks the files is told what keeps the cluster from starting.
            for fault in &errors.0 {
                assert!(!fault.what.is_empty());
                assert!(report.faults.iter().any(|found| found.fault == *fault), "not in the report: {fault}");
            }
        }
    }
    users(dir);
}

/// A configuration does not differ from itself, also not by way of the file that monitors are given.
fn in_force(config: &Config, dir: &Path) {
    let plan = Plan::between(config, config, &NoneRuns);
    assert!(plan.is_empty(), "{:?}", plan.lines());
    assert!(Plan::between(&Plan::applied(config, config), config, &NoneRuns).is_empty());
    let text = serde_json::to_string(&*config.texts).unwrap();
    let texts: Texts = serde_json::from_str(&text).unwrap();
    assert_eq!(texts.digest(), config.texts.digest());
    let handed_on = Config::load_for_monitor(dir, ENVIRONMENT, None, Some(&texts)).unwrap();
    let plan = Plan::between(config, &handed_on, &NoneRuns);
    assert!(plan.is_empty(), "{:?}", plan.lines());
    for server in &config.servers {
        assert_eq!(config.server(&server.id).map(|found| &found.id), Some(&server.id));
        assert!(config.data_dir(&server.id).is_none_or(|dir| dir.parent() == config.settings.data.as_deref()));
    }
}

fn next_is_later(schedule: &pomelo_host::cron::Schedule) {
    let at = chrono::DateTime::UNIX_EPOCH;
    assert!(schedule.next(&at).is_none_or(|next| next > at));
}

/// A user who is added is read again, and nobody else is lost.
fn users(dir: &Path) {
    let Ok(mut file) = UserFile::open(dir, ENVIRONMENT) else { return };
    let before: Vec<String> = file.users().iter().map(|user| user.username.clone()).collect();
    if file.add("someone-new", "a-stored-password", Level(2)).is_err() || file.save().is_err() {
        return;
    }
    let after =
        UserFile::open(dir, ENVIRONMENT).unwrap_or_else(|why| panic!("the file is not readable any more: {why}"));
    let mut wanted = before;
    wanted.push("someone-new".into());
    let now: Vec<String> = after.users().iter().map(|user| user.username.clone()).collect();
    assert_eq!(now, wanted);
}
