use std::os::unix::fs::PermissionsExt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn open(directory: &Path) -> StateDb {
    StateDb::open(directory, Damaged::Refuse).unwrap()
}

#[test]
fn m4_what_was_put_is_there_when_the_file_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let (master, monitor) = (state.of("master"), state.of("monitor"));
    master.put("m", "a", Some("1".into()));
    master.put("m", "a", Some("2".into()));
    master.put("m", "b", Some("gone".into()));
    master.put("m", "b", None);
    monitor.put("m", "a", Some("another".into()));
    master.put("m2", "c", Some("3".into()));
    let refused = StateDb::open(directory.path(), Damaged::SetAside).err().expect("one process at a time");
    let StateError::Open { why, .. } = &refused else { panic!("{refused}") };
    let why = why.to_string();
    let said = format!("{:#}", anyhow::Error::from(refused));
    assert_eq!(said.matches(&why).count(), 1, "{said}");
    drop((state, master, monitor));

    let state = open(directory.path());
    let master = state.of("master");
    assert_eq!(master.load("m").unwrap(), [("a".into(), "2".into())]);
    master.put("m", "d", Some("4".into()));
    state.flush().unwrap();
    assert_eq!(
        master.load("m").unwrap(),
        [("a".into(), "2".into()), ("d".into(), "4".into())],
        "what was flushed is in the file"
    );
    assert_eq!(state.of("monitor").load("m").unwrap(), [("a".into(), "another".into())]);
    assert_eq!(state.of("master").load("none").unwrap(), []);
}

#[test]
fn the_file_is_for_its_owner_alone_also_one_that_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data/master");
    drop(open(&data));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = data.join(FILE);
    assert_eq!((mode(&data), mode(data.parent().unwrap()), mode(&path)), (0o700, 0o700, 0o600));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&data));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing else is left there");
}

/// The bytes of a database with some thousand keys, which was closed in order.
fn some(directory: &Path) -> Vec<u8> {
    let state = open(directory);
    let keeper = state.of("master");
    for number in 0..3000 {
        keeper.put("m", &format!("key-{number}"), Some("value ".repeat(number % 40).into()));
        if number % 500 == 0 {
            state.flush().unwrap();
        }
    }
    state.flush().unwrap();
    drop((keeper, state));
    std::fs::read(directory.join(FILE)).unwrap()
}

/// What was kept, if the file is taken for whole. It must be all that was.
fn looked_at(directory: &Path, damaged: Damaged) -> Result<(usize, Option<PathBuf>), StateError> {
    let state = StateDb::open(directory, damaged)?;
    let found = state.of("master").load("m").unwrap();
    for (key, value) in &found {
        let number: usize = key.strip_prefix("key-").unwrap().parse().unwrap();
        assert_eq!(*value, "value ".repeat(number % 40), "{key}");
    }
    Ok((found.len(), state.set_aside().map(Path::to_owned)))
}

#[test]
fn a_damaged_file_is_never_a_panic_nor_taken_for_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let whole = some(directory.path());
    let path = directory.path().join(FILE);
    let mut seeded = StdRng::seed_from_u64(11);
    let (mut refused, mut turns) = (0, 0);
    let mut check = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        turns += 1;
        match looked_at(directory.path(), Damaged::Refuse) {
            // Not all bytes of the file mean something.
            Ok((found, _)) => assert_eq!(found, 3000, "{what}: something is missing, and nobody has said so"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("state.redb"), "{what}: {error}");
            }
        }
    };
    for length in [0, 1, 9, 64, 100, 319, 320, 511, 512, 4095, 4096, 4097, whole.len() / 2, whole.len() - 1] {
        check(&whole[..length], &format!("cut to {length}"));
    }
    for _ in 0..20 {
        let length = seeded.random_range(0..whole.len());
        check(&whole[..length], &format!("cut to {length}"));
    }
    for turn in 0..150 {
        let mut bytes = whole.clone();
        // The header decides what all else means.
        let place = if turn % 3 == 0 { seeded.random_range(0..512) } else { seeded.random_range(0..whole.len()) };
        let bit = seeded.random_range(0..8);
        bytes[place] ^= 1 << bit;
        check(&bytes, &format!("bit {bit} of byte {place}"));
    }
    for _ in 0..20 {
        let mut bytes = whole.clone();
        let from = seeded.random_range(0..whole.len());
        let to = (from + seeded.random_range(1..20_000)).min(whole.len());
        bytes[from..to].fill(seeded.random());
        check(&bytes, &format!("bytes {from} to {to}"));
    }
    check(b"something else entirely, and long enough for a header of the database, or so one would think", "a text");
    println!("{refused} of {turns} damaged files are refused, the others have lost nothing");
    assert!(refused > turns / 4);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(looked_at(directory.path(), Damaged::Refuse).unwrap(), (3000, None));
}

#[test]
fn a_damaged_file_is_set_aside_where_it_is_to_be_and_only_some_times() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    for turn in 0..MAX_SET_ASIDE {
        std::fs::write(&path, "").unwrap();
        let (found, aside) = looked_at(directory.path(), Damaged::SetAside).unwrap();
        let aside = aside.expect("it was set aside");
        assert!(found == 0 && aside.exists(), "{turn}");
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("state.redb.damaged-"), "{}", aside.display());
        assert_eq!(looked_at(directory.path(), Damaged::SetAside).unwrap(), (0, None), "the new one is whole");
        // The names are of the moment.
        std::fs::rename(&aside, directory.path().join(format!("state.redb.damaged-{turn}"))).unwrap();
    }
    std::fs::write(&path, "").unwrap();
    let refused = looked_at(directory.path(), Damaged::SetAside).unwrap_err().to_string();
    assert!(refused.contains("it is empty") && refused.contains("beside it already"), "{refused}");
}

#[test]
fn what_is_no_file_is_an_error_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join(FILE)).unwrap();
    let refused = StateDb::open(directory.path(), Damaged::SetAside).err().expect("it is a directory").to_string();
    assert!(refused.contains("state.redb") && refused.contains("no file"), "{refused}");
}

/// In the place of the file is what is no file, so that every attempt to write fails.
struct TakenAway {
    path: PathBuf,
    away: PathBuf,
}

impl TakenAway {
    fn new(state: &StateDb, directory: &Path) -> Self {
        let (path, away) = (directory.join(FILE), directory.join("away"));
        std::fs::rename(&path, &away).unwrap();
        std::fs::create_dir(&path).unwrap();
        // The file is opened anew for the next attempt.
        state.open.writes.forget();
        TakenAway { path, away }
    }

    fn back(self) {
        std::fs::remove_dir(&self.path).unwrap();
        std::fs::rename(&self.away, &self.path).unwrap();
    }
}

#[test]
fn keys_that_come_and_go_while_the_disk_takes_nothing_leave_nothing_that_waits() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let keeper = state.of("master");
    keeper.put("m", "first", Some("1".into()));
    keeper.put("m", "second", Some("2".into()));
    state.flush().unwrap();
    let taken_away = TakenAway::new(&state, directory.path());
    keeper.put("m", "waits", Some("3".into()));
    assert!(state.flush().is_err());
    for number in 0..20_000 {
        let key = format!("key-{number}");
        keeper.put("m", &key, Some("x".into()));
        if number % 5_000 == 0 {
            // One that is being written, or is about to be.
            assert!(state.flush().is_err());
        }
        keeper.put("m", &key, None);
    }
    keeper.put("m", "first", None);
    assert!(state.flush().is_err());
    assert_eq!(state.open.writes.waiting(), 2, "what waits, and the removal of what the file has");
    taken_away.back();
    state.flush().unwrap();
    let kept = [("second".to_owned(), "2".to_owned()), ("waits".to_owned(), "3".to_owned())];
    assert_eq!(keeper.load("m").unwrap(), kept);
}

#[test]
fn whoever_waits_for_a_change_that_is_taken_back_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let keeper = state.of("master");
    for number in 0..200 {
        let key = format!("key-{number}");
        keeper.put("m", &key, Some("x".into()));
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| state.flush());
            keeper.put("m", &key, None);
            flushed.join().unwrap().unwrap();
        });
    }
    state.flush().unwrap();
    assert_eq!(keeper.load("m").unwrap(), []);
}

#[test]
fn a_fault_is_over_with_the_disks_also_where_nothing_waits_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    let keeper = state.of("master");
    let taken_away = TakenAway::new(&state, directory.path());
    keeper.put("m", "key", Some("x".into()));
    assert!(state.flush().is_err());
    keeper.put("m", "key", None);
    taken_away.back();
    let begun = std::time::Instant::now();
    while state.open.writes.is_failing() {
        assert!(begun.elapsed().as_secs() < 60, "it is tried again");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
