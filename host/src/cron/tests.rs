use chrono_tz::Europe::Berlin;

use super::*;

#[test]
fn c6_six_fields_begin_with_seconds() {
    let at = |hour, minute, second| Local.with_ymd_and_hms(2030, 5, 1, hour, minute, second).unwrap();
    let check = |time: &str, from, expected| {
        assert_eq!(Schedule::parse(time).unwrap().next(&from), Some(expected), "{time}");
    };
    check("0 30 10 * * *", at(9, 0, 0), at(10, 30, 0));
    check("*/5 * * * * *", at(9, 0, 0), at(9, 0, 5));
    check("3/5 * * * * *", at(9, 0, 0), at(9, 0, 3));
    check("10,20 0 9-11 1 4 *", at(9, 0, 10), at(9, 0, 20));
    // The first of May 2030 is a Wednesday.
    check("0 0 12 * may wed", at(9, 0, 0), at(12, 0, 0));
    let sunday = Local.with_ymd_and_hms(2030, 5, 5, 0, 0, 0).unwrap();
    check("0 0 0 * * 7", at(9, 0, 0), sunday);
    check("0 0 24 4 * *", at(9, 0, 0), sunday);
}

#[test]
fn c6_what_is_no_time_is_refused_with_the_reason() {
    let check = |time: &str, part: &str| {
        let said = Schedule::parse(time).unwrap_err().to_string();
        assert!(said.contains(part), "{time}: {said}");
        assert!(
            said.contains("six fields") == (time.split_whitespace().count() != 6) || time.len() > MAX_TIME,
            "{said}"
        );
    };
    check("30 10 * * *", "is not six fields, from seconds to the day of the week, such as `0 30 10 * * *`: it has 5");
    check("0 0 0 * * * 2030", "is not six fields");
    check("", "is not six fields");
    check("61 * * * * *", "`61 * * * * *` cannot have `61` as its seconds (0 to 59): 61 is outside");
    check("0 0 25 * * *", "cannot have `25` as its hours (0 to 24)");
    check("0 0 0 0 * *", "cannot have `0` as its day of the month");
    check("0 0 0 * 12 *", "cannot have `12` as its month (0 to 11, from January on");
    check("0 0 0 * foo *", "cannot have `foo` as its month");
    check("0 0 0 * * mon-", "cannot have `mon-` as its day of the week");
    check("0 5-2 * * * *", "the range `5-2` ends before it begins");
    check("0 0/0 * * * *", "must be a number from 1 on");
    check("0 30/30 * * * *", "leaves 30 when it is divided by 30");
    check("0 1,,2 * * * *", "cannot have `1,,2` as its minutes");
    check("0 0/5/2 * * * *", "`5/2` after `/` must be a number");
    check("0 99999999999 * * * *", "`99999999999` is no number");
    check("every morning", "`every morning` is not six fields");
    check(&"* ".repeat(500), "longer than 256");
    check("0 0 0 31 1 *", "never comes");
}

#[test]
fn what_pomelos_servers_cannot_read_is_told() {
    let foreign = |time: &str| Schedule::parse(time).unwrap().foreign().map(str::to_owned);
    for time in ["* * * * * *", "0 0/5 * * * *", "1,2-4,1/7 0 24 1 0 0"] {
        assert_eq!(foreign(time), None, "{time}");
    }
    for (time, field) in
        [("0 */5 * * * *", "*/5"), ("0 0 0 * jan *", "jan"), ("0 0 0 * * 7", "7"), ("0-9/3 * * * * *", "0-9/3")]
    {
        assert_eq!(foreign(time).as_deref(), Some(field), "{time}");
    }
}

#[test]
fn local_times_that_are_skipped_or_come_twice_are_due_once() {
    let at = |time: &str| DateTime::parse_from_rfc3339(time).unwrap().with_timezone(&Berlin);
    let check = |time: &str, from: &str, expected: &[&str]| {
        let schedule = Schedule::parse(time).unwrap();
        let (mut last, mut next) = (at(from), Vec::new());
        for _ in expected {
            last = schedule.next(&last).unwrap();
            next.push(last.to_rfc3339());
        }
        assert_eq!(next, expected, "{time}");
    };
    // At 02:00 the clocks are set to 03:00.
    let before = "2027-03-28T01:59:30+01:00";
    check("0 30 2 * * *", before, &["2027-03-28T03:30:00+02:00", "2027-03-29T02:30:00+02:00"]);
    check("0 0/30 * * * *", before, &["2027-03-28T03:00:00+02:00", "2027-03-28T03:30:00+02:00"]);
    check("0 15 2,3 * * *", before, &["2027-03-28T03:15:00+02:00", "2027-03-29T02:15:00+02:00"]);
    // At 03:00 the clocks are set to 02:00.
    let before = "2027-10-31T01:59:30+02:00";
    check("0 30 2 * * *", before, &["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]);
    let last = "2027-10-31T02:59:00+02:00";
    check("0 * * * * *", last, &["2027-10-31T03:00:00+01:00", "2027-10-31T03:01:00+01:00"]);
    check("59 * * * * *", last, &["2027-10-31T02:59:59+02:00", "2027-10-31T03:00:59+01:00"]);
    check("* * * * * *", "2027-10-31T02:59:58+02:00", &["2027-10-31T02:59:59+02:00", "2027-10-31T03:00:00+01:00"]);
    let again = "2027-10-31T02:10:05+01:00";
    check("10 * * * * *", again, &["2027-10-31T03:00:10+01:00"]);
    check("0 30 2 * * *", again, &["2027-11-01T02:30:00+01:00"]);
}

#[test]
fn a_day_that_a_place_has_left_out_is_passed_over() {
    let zone = chrono_tz::Pacific::Apia;
    let before = zone.with_ymd_and_hms(2011, 12, 29, 12, 0, 0).unwrap();
    let next = Schedule::parse("0 0 6 30 * *").unwrap().next(&before).unwrap();
    assert_eq!(next.to_rfc3339(), "2011-12-31T06:00:00+14:00", "as much later as the clocks were set forward");
}

#[test]
fn a_time_is_said_in_words() {
    let check = |time: &str, words: &str| assert_eq!(Schedule::parse(time).unwrap().to_string(), words, "{time}");
    check("0 30 10 * * *", "at 10:30:00 on every day");
    check("0 0/5 * * * *", "second 0 of minutes 0, 5, 10, … 55 of every hour on every day");
    check("* * 9-11 * * *", "every second of every minute of hours 9, 10 or 11 on every day");
    check("0 0 12 1 5 1", "at 12:00:00 on day 1 of the month in June, only if it is a Monday");
    check("0 0 24 * * 0,6", "at 24:00:00 on every day, only if it is a Sunday or Saturday");
}
