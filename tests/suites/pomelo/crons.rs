//! Crons are due when pomelo's own scheduler says that they are.

use std::process::Command;

use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use pomelo_host::cron::Schedule;
use serde_json::json;

/// Times in pomelo's form, with all that it reads.
const TIMES: &[&str] = &[
    "0 30 10 * * *",
    "* * * * * *",
    "0 * * * * *",
    "0 0/1 * * * *",
    "0/30 * * * * *",
    "0 0/5 * * * *",
    "3/5 2/7 1/3 * * *",
    "0 0 0/6 * * *",
    "0 0 0/24 * * *",
    "0 0 24 * * *",
    "0 0 1,24 15 * *",
    "0 30 2 * * *",
    "15 59 23 31 * *",
    "0 0 5 * * 0",
    "0 0 12 13 * 5",
    "0 0 12 1 0 *",
    "0 0 12 29 1 *",
    "0 0 12 29 1 1",
    "0 0 0 1-7 3,8 1-5",
    "0 0,10,20,30,40,50 * * * *",
    "5,15-17,0/20 * 9-17 * * 1-5",
    "0 0 0 0/10 * *",
    "0 0 0 1/2 0/3 0/3",
];

#[test]
fn the_next_times_are_those_of_pomelos_scheduler() {
    // In the hour that comes twice pomelo's scheduler fires again and again, so no start is in it.
    let starts = [
        "2026-11-27T06:15:00.000Z",
        "2027-02-28T22:59:59.999Z",
        "2027-03-28T00:59:30.250Z",
        "2027-03-28T09:30:00Z",
        "2027-10-30T23:30:00Z",
        "2027-12-31T22:59:59Z",
        "2028-02-29T10:59:59.001Z",
    ];
    let starts = starts.map(|start| DateTime::parse_from_rfc3339(start).unwrap().timestamp_millis());
    for zone in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"] {
        let wanted = json!({"times": TIMES, "starts": starts, "count": 4});
        let js = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/js");
        let output =
            Command::new("node").arg("crons.js").arg(wanted.to_string()).current_dir(js).env("TZ", zone).output();
        let output = output.expect("node is installed by tests/run.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs: Vec<Vec<Vec<Option<i64>>>> = serde_json::from_slice(&output.stdout).unwrap();
        let tz: Tz = zone.parse().unwrap();
        let mut compared = 0;
        for (time, theirs) in TIMES.iter().zip(&theirs) {
            let schedule = Schedule::parse(time).unwrap();
            for (start, theirs) in starts.iter().zip(theirs) {
                let mut last = tz.timestamp_millis_opt(*start).unwrap();
                for theirs in theirs {
                    let theirs = theirs.expect("it comes");
                    let shown = |millis: i64| Utc.timestamp_millis_opt(millis).unwrap().with_timezone(&tz).to_rfc3339();
                    // Where the search of theirs goes back, ours has no equal. It is known to be no earlier than what came before.
                    if theirs <= last.timestamp_millis() {
                        break;
                    }
                    last = schedule.next(&last).expect("it comes");
                    assert_eq!(
                        shown(last.timestamp_millis()),
                        shown(theirs),
                        "{time} in {zone} after {}",
                        shown(*start)
                    );
                    compared += 1;
                }
            }
        }
        let all = TIMES.len() * starts.len() * 4;
        assert!(compared * 100 >= all * 98, "{zone}: {compared} of {all} were compared");
    }
}
