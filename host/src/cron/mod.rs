//! Times that come again: cron expressions of six fields, with the meaning that they have in pomelo's `crons.json`.
//!
//! The fields are seconds, minutes, hours, day of the month, month (0 to 11) and day of the week (0 to 6, from Sunday on), in the time zone of this
//! machine: `0 30 10 * * *` is every day at half past ten. All six must match, the two kinds of days as well. `N/P` names the values that leave N when
//! they are divided by P. [`Schedule::next`] is the search of `pomelo-scheduler`, and a test compares the two. What pomelo refuses and
//! most others read is taken as well (`*/P`, `A-B/P`, `jan`, `mon`, 7 for Sunday); [`Schedule::foreign`] tells.
//!
//! | local time | when it is due |
//! |---|---|
//! | skipped, when clocks are set forward to summer time | as much later as the clocks are set forward: 02:30 is 03:30 |
//! | twice, when clocks are set back | once, when it comes first; so nothing is due in the hour that comes again |
//!
//! This part knows what a time means, and not what happens then.

mod field;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;

use chrono::{
    DateTime, Datelike, Days, Duration, Local, LocalResult, Months, NaiveDate, NaiveDateTime, TimeZone, Timelike,
};

use crate::wire::shown;
use field::{FIELDS, Values};

/// The longest expression, bytes.
const MAX_TIME: usize = 256;
/// The last year in which a time is looked for, as in pomelo.
const LAST_YEAR: i32 = 2999;

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    fields: [Values; 6],
    /// The first field that pomelo's own servers cannot read.
    foreign: Option<String>,
}

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// The text is too long.
    #[error("the time `{}` is longer than {MAX_TIME} bytes", shown(.0))]
    Long(String),
    /// There are not six fields.
    #[error(
        "the time `{}` is not six fields, from seconds to the day of the week, such as `0 30 10 * * *`: it has {count}",
        shown(time)
    )]
    Count {
        /// The text.
        time: String,
        /// Fields that it has.
        count: usize,
    },
    /// A field has a value that it cannot have.
    #[error("the time `{}` cannot have `{}` as its {field} ({range}): {why}", shown(time), shown(value))]
    Field {
        /// The text.
        time: String,
        /// The field's name.
        field: &'static str,
        /// What may stand in it, beside `*`, lists, ranges and steps.
        range: &'static str,
        /// What stands in it.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The time never comes, because its date does not exist, such as the 31st of February.
    #[error("the time `{0}` never comes")]
    Never(String),
}

impl Schedule {
    /// Parses the six fields.
    ///
    /// # Errors
    /// [`BadTime`].
    pub fn parse(time: &str) -> Result<Self, BadTime> {
        if time.len() > MAX_TIME {
            return Err(BadTime::Long(time.to_owned()));
        }
        let texts: Vec<&str> = time.split_whitespace().collect();
        if texts.len() != FIELDS.len() {
            return Err(BadTime::Count { time: time.to_owned(), count: texts.len() });
        }
        let (mut fields, mut foreign) = ([const { Values::All }; 6], None);
        for ((text, field), values) in texts.iter().zip(&FIELDS).zip(&mut fields) {
            let (read, pomelos) = field.read(text).map_err(|why| BadTime::Field {
                time: time.to_owned(),
                field: field.name,
                range: field.range,
                value: (*text).to_owned(),
                why,
            })?;
            *values = read;
            if !pomelos && foreign.is_none() {
                foreign = Some((*text).to_owned());
            }
        }
        let schedule = Schedule { fields, foreign };
        schedule.next(&Local::now()).map(|_| schedule).ok_or_else(|| BadTime::Never(time.to_owned()))
    }

    /// The first field that pomelo's own servers cannot read; they end at their start where one stands in `crons.json`. Absent if they read all.
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    /// The first time after `after` at which it is due. Absent if there is none before the year 3000.
    pub fn next<Z: TimeZone>(&self, after: &DateTime<Z>) -> Option<DateTime<Z>> {
        let zone = after.timezone();
        let [seconds, minutes, hours, days, months, week] = &self.fields;
        let mut date = whole(after.clone() + Duration::seconds(1), 1);
        while comes_again(&date) {
            date = whole(date + Duration::seconds(60), 60);
        }
        loop {
            if date.year() > LAST_YEAR {
                return None;
            }
            if !months.has(date.month0()) {
                let next = months.after(date.month0());
                let (year, month) = if next <= date.month0() { (date.year() + 1, 0) } else { (date.year(), next) };
                date = at(&zone, NaiveDate::from_ymd_opt(year, month + 1, 1)?.and_hms_opt(0, 0, 0)?)?;
                continue;
            }
            let fits = |date: NaiveDate| days.has(date.day()) && week.has(date.weekday().num_days_from_sunday());
            let today = date.date_naive();
            if !fits(today) {
                let mut day = today.succ_opt()?;
                while !fits(day) && day.month() == today.month() {
                    day = day.succ_opt()?;
                }
                if day.month() != today.month() {
                    let first = today.with_day(1)?.checked_add_months(Months::new(1))?;
                    date = at(&zone, first.and_hms_opt(0, 0, 0)?)?;
                    continue;
                }
                date = at(&zone, day.and_hms_opt(0, 0, 0)?)?;
            }
            if !hours.has(date.hour()) {
                let next = hours.after(date.hour());
                let day = date.date_naive();
                if next <= date.hour() {
                    date = at(&zone, of_day(day.checked_add_days(Days::new(1))?, next, 0, 0)?)?;
                    continue;
                }
                date = at(&zone, of_day(day, next, 0, 0)?)?;
            }
            if !minutes.has(date.minute()) {
                let next = minutes.after(date.minute());
                let back = next <= date.minute();
                date = at(&zone, of_day(date.date_naive(), date.hour() + u32::from(back), next, 0)?)?;
                if back {
                    continue;
                }
            }
            if !seconds.has(date.second()) {
                let next = seconds.after(date.second());
                let back = next <= date.second();
                date = at(&zone, of_day(date.date_naive(), date.hour(), date.minute() + u32::from(back), next)?)?;
                if back {
                    continue;
                }
            }
            return Some(date);
        }
    }
}

/// A moment without what it has beyond whole steps of so many seconds.
fn whole<Z: TimeZone>(moment: DateTime<Z>, step: i64) -> DateTime<Z> {
    let beyond = Duration::seconds(moment.timestamp().rem_euclid(step));
    let nanos = Duration::nanoseconds(moment.timestamp_subsec_nanos().into());
    moment - beyond - nanos
}

/// Whether the moment's local time has come before, because the clocks were set back.
fn comes_again<Z: TimeZone>(moment: &DateTime<Z>) -> bool {
    let local = moment.timezone().from_local_datetime(&moment.naive_local());
    matches!(local, LocalResult::Ambiguous(first, _) if first < *moment)
}

/// A local time. Hours, minutes and seconds may be beyond their range, and then carry.
fn of_day(day: NaiveDate, hour: u32, minute: u32, second: u32) -> Option<NaiveDateTime> {
    let passed = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    day.and_hms_opt(0, 0, 0)?.checked_add_signed(Duration::seconds(passed))
}

/// The moment of a local time: the first one if it comes twice, and as much later as the clocks are set forward if it is skipped.
fn at<Z: TimeZone>(zone: &Z, local: NaiveDateTime) -> Option<DateTime<Z>> {
    if let LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) = zone.from_local_datetime(&local) {
        return Some(moment);
    }
    // The clocks of a place that changed the side of the date line have left out a day.
    (1..=25).find_map(|hours| {
        let earlier = local.checked_sub_signed(Duration::hours(hours))?;
        let moment = zone.from_local_datetime(&earlier).latest()?;
        Some(moment + Duration::hours(hours))
    })
}

impl fmt::Display for Schedule {
    /// What the time means, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        words::write(&self.fields, f)
    }
}
