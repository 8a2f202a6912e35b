use super::*;
use crate::auth::{StoredPassword, hash_password};

fn dir(users: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("master.json"), "{}").unwrap();
    if let Some(users) = users {
        fs::write(dir.path().join(USERS), users).unwrap();
    }
    dir
}

fn names(dir: &Path, environment: &str) -> Vec<(String, u32)> {
    let file = UserFile::open(dir, environment).unwrap();
    file.users().iter().map(|user| (user.username.clone(), user.level.0)).collect()
}

#[test]
fn a5_a_new_file_is_for_its_owner_alone_and_a_kept_one_keeps_its_mode_and_order() {
    let dir = dir(None);
    let stored = hash_password("s3cret").unwrap();
    let mut file = UserFile::open(dir.path(), "development").unwrap();
    file.add("ann", &stored, Level(1)).unwrap();
    file.save().unwrap();
    let path = dir.path().join(USERS);
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(), names(dir.path(), "development")), (0o600, vec![("ann".into(), 1)]));

    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let mut file = UserFile::open(dir.path(), "development").unwrap();
    file.add("bob", &stored, Level(3)).unwrap();
    assert!(matches!(UserFile::add(&mut file, "ann", &stored, Level(1)), Err(EditError::Exists(_))));
    file.save().unwrap();
    assert_eq!((mode(), names(dir.path(), "any")), (0o640, vec![("ann".into(), 1), ("bob".into(), 3)]));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"id\": \"user-2\",\n    \"username\": \"bob\",\n"), "{text}");
}

#[test]
fn a5_the_level_of_environments_and_all_else_stay() {
    let dir =
        dir(Some(r#"{"production": [{"level": 1, "username": "ann", "password": "x", "id": 7}], "development": []}"#));
    let mut file = UserFile::open(dir.path(), "production").unwrap();
    file.set_password("ann", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA").unwrap();
    file.save().unwrap();
    let mut file = UserFile::open(dir.path(), "test").unwrap();
    file.add("bob", "y", Level(2)).unwrap();
    file.save().unwrap();
    let text = fs::read_to_string(dir.path().join(USERS)).unwrap();
    let order: Vec<usize> =
        ["production", "\"level\": 1", "ann", "$argon2id$", "\"id\": 7", "\"development\": []", "\"test\": [", "bob"]
            .iter()
            .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}")))
            .collect();
    assert!(order.is_sorted(), "{text}");
    assert_eq!(names(dir.path(), "development"), []);
}

#[test]
fn a5_what_is_not_changed_stays_as_it_is_written() {
    let text = "{\n\t\"staging\": [{\"username\": \"eve\", \"n\": 1e40, \"n\": 2}],\n\n\t\"development\": [\n\
                \t\t{\"username\": \"ann\",  \"password\": \"x\", \"level\": 1},\n\
                \t\t{\"username\": \"bob\",  \"password\": \"y\", \"level\": 2}\n\t]\n}\n";
    let dir = dir(Some(text));
    let mut file = UserFile::open(dir.path(), "development").unwrap();
    file.set_password("ann", "another").unwrap();
    file.remove("bob", false).unwrap();
    file.save().unwrap();
    let expected = "{\n\t\"staging\": [{\"username\": \"eve\", \"n\": 1e40, \"n\": 2}],\n\n\t\"development\": [\n\
                    \t\t{\"username\": \"ann\",  \"password\": \"another\", \"level\": 1}\n\t]\n}\n";
    assert_eq!(fs::read_to_string(dir.path().join(USERS)).unwrap(), expected);
}

#[test]
fn a5_the_last_user_of_level_1_and_a_broken_file_are_not_touched() {
    let dir = dir(Some(
        r#"[{"username": "ann", "password": "x", "level": 1}, {"username": "bob", "password": "y", "level": 2}]"#,
    ));
    let mut file = UserFile::open(dir.path(), "development").unwrap();
    assert!(matches!(file.remove("ann", false), Err(EditError::LastAdmin(_))));
    assert!(matches!(file.remove("eve", false), Err(EditError::Unknown { .. })));
    file.remove("bob", false).unwrap();
    file.remove("ann", true).unwrap();
    file.save().unwrap();
    assert_eq!(names(dir.path(), "development"), []);

    for broken in ["[", "[{\"username\": \"ann\"}]", "5"] {
        fs::write(dir.path().join(USERS), broken).unwrap();
        let refused = UserFile::open(dir.path(), "development").err().unwrap();
        assert!(matches!(refused, EditError::Faults(_)), "{refused}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(UserFile::open(empty.path(), "development"), Err(EditError::NoConfiguration(_))));
}

#[test]
fn a5_two_who_change_the_file_wait_for_each_other() {
    let dir = dir(None);
    let add = |n: usize| {
        let mut file = UserFile::open(dir.path(), "development").unwrap();
        file.add(&format!("user-of-{n}"), "x8-long-and-odd", Level(2)).unwrap();
        file.save().unwrap();
    };
    std::thread::scope(|scope| (0..16).for_each(|n| drop(scope.spawn(move || add(n)))));
    assert_eq!(names(dir.path(), "development").len(), 16);
}

#[test]
fn a5_what_is_written_is_verified_as_pomelos_tools_send_it() {
    let stored = hash_password("päss \"wörd\"").unwrap();
    let dir = dir(None);
    let mut file = UserFile::open(dir.path(), "development").unwrap();
    file.add("ann", &stored, Level(1)).unwrap();
    file.save().unwrap();
    let users = crate::auth::Users::new(UserFile::open(dir.path(), "development").unwrap().users().to_vec());
    assert_eq!(users.verify("ann", "päss \"wörd\"", false), Ok(Level(1)));
    assert!(!StoredPassword::parse(&stored).unwrap().is_plain());
}
