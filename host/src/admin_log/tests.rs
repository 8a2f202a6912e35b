use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::plugin::{Caller, CallerRole};
use crate::util::rotating::numbered;

fn caller() -> Arc<Caller> {
    let caller = Caller { user: Some("admin".into()), level: Some(1), ..Caller::of(CallerRole::Client) };
    Arc::new(Caller { id: Some("cli-1".into()), address: Some("127.0.0.1:9".into()), ..caller })
}

fn request(operation: &str) -> Record {
    let record = Record::new(Kind::Request, caller());
    Record { module: Some("__console__".into()), operation: Some(operation.into()), ..record }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a4_a_record_is_one_line_of_json_that_its_owner_alone_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/admin.log");
    let log = AdminLog::open(Options::new(&path), &Journal::default()).unwrap();
    let failure = Some("forbidden".into());
    log.take(Record { targets: vec!["chat-1".into()], failure, ..request("stop\n{\"kind\":\"forged\"}") });
    log.close();
    let [line] = &lines(&path)[..] else { panic!("{:?}", lines(&path)) };
    for (key, value) in [("kind", "request"), ("role", "client"), ("user", "admin"), ("id", "cli-1")] {
        assert_eq!(line[key], value, "{line}");
    }
    for (key, value) in [("address", "127.0.0.1:9"), ("module", "__console__"), ("result", "forbidden")] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!((&line["level"], &line["targets"][0]), (&1.into(), &"chat-1".into()));
    assert!(line["time"].as_str().unwrap().ends_with('Z') && line["ms"].is_number(), "{line}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a4_files_are_bounded_in_size_and_number_and_no_line_is_lost_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.log");
    let open =
        |keep| AdminLog::open(Options { max_bytes: 2000, keep, ..Options::new(&path) }, &Journal::default()).unwrap();
    let number = |line: &Value| line["operation"].as_str().unwrap().parse::<usize>().unwrap();
    let write = |log: &AdminLog, numbers: std::ops::Range<usize>| {
        for n in numbers {
            log.take(request(&n.to_string()));
        }
    };
    // The file is gone on with after a restart.
    let log = open(100);
    write(&log, 0..5);
    log.close();
    let log = open(100);
    for n in 5..40 {
        write(&log, n..n + 1);
        // One at a time: what is written in one go stays together.
        while lines(&path).last().map(number) != Some(n) {
            std::thread::yield_now();
        }
    }
    log.close();
    let files: Vec<PathBuf> =
        (1..=100).rev().map(|n| numbered(&path, n)).chain([path.clone()]).filter(|path| path.exists()).collect();
    assert!(files.len() > 2, "{files:?}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 2000));
    let all: Vec<usize> = files.iter().flat_map(|file| lines(file)).map(|line| number(&line)).collect();
    assert_eq!(all, (0..40).collect::<Vec<_>>());

    // With fewer to keep, no new ones come, and the oldest of those that are kept go.
    let old = files.len();
    let log = open(2);
    for n in 40..80 {
        write(&log, n..n + 1);
        while lines(&path).last().map(number) != Some(n) {
            std::thread::yield_now();
        }
    }
    log.close();
    assert!(!numbered(&path, u32::try_from(old).unwrap()).exists());
    let kept: Vec<usize> = [numbered(&path, 2), numbered(&path, 1), path.clone()]
        .iter()
        .flat_map(|file| lines(file))
        .map(|l| number(&l))
        .collect();
    assert_eq!(kept, (kept[0]..80).collect::<Vec<_>>());
}

#[test]
fn a4_what_cannot_be_kept_is_counted_and_the_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.log");
    // No thread takes from the queue, as if the disk hung.
    let queue = Arc::new(Queue::new(4));
    let (missing, folds) = (Arc::new(Missing::default()), Arc::new(Mutex::new(Folds::default())));
    let refusals = Mutex::new(TokenBucket::new(REFUSALS, REFUSAL_INTERVAL, Instant::now()));
    let writer = Writer {
        queue: queue.clone(),
        missing: missing.clone(),
        folds: folds.clone(),
        refusals,
        thread: Mutex::new(None),
    };
    let log = AdminLog(Some(writer));
    for n in 0..10 {
        log.take(request(&n.to_string()));
    }
    assert_eq!(missing.lost.load(Ordering::Relaxed), 6, "beyond the queue, and nobody waited");
    let open = |path: &Path| {
        Output::new(Rotating::open(path, u64::MAX, 1, Overflow::Grow).unwrap(), Journal::default(), at::ADMIN_LOG)
    };
    let (changes, looks) = (open(&path), open(&dir.path().join("looks.log")));
    drop(log);
    queue.end();
    Thread { queue, changes, looks, missing, folds }.run();
    let lines = lines(&path);
    assert_eq!((&lines[0]["kind"], &lines[0]["records"]), (&"lost".into(), &6.into()));
    assert_eq!(lines.len(), 5, "those that had room: {lines:?}");
}

#[test]
fn a4_strangers_whose_registrations_are_refused_cannot_roll_the_log_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.log");
    let log =
        AdminLog::open(Options { max_bytes: 100_000, keep: 1, ..Options::new(&path) }, &Journal::default()).unwrap();
    log.take(request("stop"));
    for _ in 0..20_000 {
        log.take_refusal(Record { reason: Some("x".repeat(128)), ..Record::new(Kind::Register, caller()) });
    }
    log.close();
    let lines = lines(&path);
    assert!(!numbered(&path, 1).exists() && lines.iter().any(|line| line["operation"] == "stop"), "{}", lines[0]);
    let kept = lines.iter().filter(|line| line["kind"] == "register").count();
    let counted: u64 =
        lines.iter().filter(|line| line["kind"] == "refused").map(|l| l["records"].as_u64().unwrap()).sum();
    assert_eq!(kept as u64 + counted, 20_000, "{kept} are kept");
}

#[test]
fn a4_a_rotation_that_fails_destroys_nothing_and_the_file_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.log");
    let older = |number| fs::read_to_string(numbered(&path, number)).unwrap_or_default();
    for number in 1..=2 {
        fs::write(numbered(&path, number), format!("older {number}\n")).unwrap();
    }
    let mut file = Rotating::open(&path, 100, 3, Overflow::Grow).unwrap();
    let line = |n: usize| format!("{n:0>59}\n");
    let mut append = |n: usize| file.append(line(n).as_bytes()).unwrap();
    // The new file cannot be begun.
    let obstacle = dir.path().join("admin.log.new");
    fs::create_dir(&obstacle).unwrap();
    (0..10).for_each(&mut append);
    assert_eq!(fs::read_to_string(&path).unwrap(), (0..10).map(line).collect::<String>());
    assert_eq!([older(1), older(2), older(3)], ["older 1\n", "older 2\n", ""]);
    // Nor, later, can the old one be moved away.
    fs::remove_dir(&obstacle).unwrap();
    fs::remove_file(numbered(&path, 1)).unwrap();
    fs::create_dir_all(numbered(&path, 1).join("full")).unwrap();
    fs::create_dir_all(numbered(&path, 3).join("full")).unwrap();
    (10..20).for_each(&mut append);
    assert_eq!(fs::read_to_string(&path).unwrap(), (0..20).map(line).collect::<String>());
    assert_eq!(older(2), "older 2\n");
    // As soon as it can, it is.
    fs::remove_dir_all(numbered(&path, 1)).unwrap();
    append(20);
    assert_eq!(fs::read_to_string(&path).unwrap(), line(20));
    assert_eq!(older(1), (0..20).map(line).collect::<String>());
    assert_eq!(older(2), "older 2\n");
}

#[test]
fn a4_a_line_that_a_crash_cut_short_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.log");
    fs::write(&path, "{\"time\":\"20").unwrap();
    let log = AdminLog::open(Options::new(&path), &Journal::default()).unwrap();
    log.take(request("list"));
    log.close();
    let text = fs::read_to_string(&path).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["operation"], "list");
}

#[test]
fn a4_a_place_that_cannot_be_written_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let refused =
        AdminLog::open(Options::new(dir.path().join("file/admin.log")), &Journal::default()).unwrap_err().to_string();
    assert!(refused.contains("file/admin.log") && refused.contains("[admin_log] file"), "{refused}");
}

#[test]
fn a4_a_flood_of_looks_and_refusals_displaces_no_change_and_no_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 20_000, keep: 1, ..Options::new(dir.path().join("admin.log")) };
    let (path, looks) = (options.file.clone(), options.looks());
    assert_eq!(looks, dir.path().join("admin-looks.log"));
    let log = AdminLog::open(options, &Journal::default()).unwrap();
    let low = Arc::new(Caller { user: Some("low".into()), level: Some(2), ..Caller::of(CallerRole::Client) });
    let by_low = |operation: &str| Record { caller: low.clone(), kind: Kind::Notify, ..request(operation) };
    let forbidden = |operation: &str| Record { failure: Some("forbidden".into()), ..by_low(operation) };
    log.take(Record { targets: vec!["a".into()], target_count: 40, ..request("stop") });
    log.take(forbidden("kill"));
    for _ in 0..50_000 {
        log.take(Record { reads: true, ..by_low("list") });
        log.take(forbidden("stop"));
    }
    log.close();
    let kept = lines(&path);
    assert!(!numbered(&path, 1).exists(), "no new file was begun");
    assert_eq!((&kept[0]["operation"], &kept[0]["targetCount"]), (&"stop".into(), &40.into()));
    assert_eq!((&kept[1]["operation"], &kept[1]["result"]), (&"kill".into(), &"forbidden".into()));
    let told = |lines: &[Value], operation: &str| -> u64 {
        let alike = lines.iter().filter(|line| line["operation"] == operation && line["user"] == "low");
        alike.map(|line| line["count"].as_u64().unwrap_or(1)).sum()
    };
    assert_eq!(told(&kept, "stop"), 50_000, "each is told, alone or with others");
    let looked = lines(&looks);
    assert!(looked.iter().all(|line| line["operation"] == "list"), "{looked:?}");
    assert_eq!(told(&looked, "list"), 50_000);
    let folded = looked.last().unwrap();
    assert!(folded["since"].as_str() <= folded["time"].as_str() && folded["count"].as_u64() > Some(1), "{folded}");
}

#[test]
fn a4_nothing_in_a_line_steers_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.log");
    let log = AdminLog::open(Options::new(&path), &Journal::default()).unwrap();
    log.take(Record { reason: Some("\u{9b}1m\u{202e}\u{200b}\n".into()), ..request("\u{7f}\u{feff}") });
    log.close();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.trim_end_matches('\n').contains(crate::util::visible::steers), "{text:?}");
    assert_eq!(lines(&path)[0]["reason"], "\u{9b}1m\u{202e}\u{200b}\n");
}

#[test]
fn records_that_come_together_are_taken_together() {
    const RECORDS: usize = 1000;
    let queue = Arc::new(Queue::new(RECORDS));
    let taking = {
        let queue = queue.clone();
        std::thread::spawn(move || {
            let (mut taken, mut batch) = (Vec::new(), Vec::new());
            loop {
                let last = queue.take(&mut batch, Duration::from_secs(60));
                taken.push(batch.len());
                batch.clear();
                if last {
                    return taken;
                }
            }
        })
    };
    let begun = Instant::now();
    for n in 0..RECORDS {
        // At half of its room the thread is woken at once, and has made room long before there is none.
        while queue.push(Written::alone(request(&n.to_string()))).is_err() {
            std::thread::yield_now();
        }
    }
    queue.end();
    let taken = taking.join().unwrap();
    assert_eq!(taken.iter().sum::<usize>(), RECORDS);
    // Each time takes 20 ms, but for those at which the queue was half full, and the last.
    let most = begun.elapsed().as_millis() / 20 + 4;
    assert!(taken.len() as u128 <= most, "{} times, {most} at most", taken.len());
}

#[test]
fn what_comes_after_the_end_is_not_taken() {
    let queue = Queue::new(8);
    assert!(queue.push(Written::alone(request("1"))).is_ok());
    queue.end();
    assert!(queue.push(Written::alone(request("2"))).is_err());
    let mut batch = Vec::new();
    assert!(queue.take(&mut batch, Duration::ZERO));
    assert_eq!(batch.len(), 1);
}
