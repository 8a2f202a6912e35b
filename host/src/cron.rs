//! Times that come again: cron expressions of six fields, as pomelo's `crons.json` has them.
//!
//! Seconds, minutes, hours, day of the month, month (1 to 12 or `jan` to `dec`), day of the week (0 to 7 or `sun` to `sat`), in the time zone of
//! this machine: `0 30 10 * * *` is every day at half past ten. Lists, ranges and steps are the `croner` crate's. This part knows what a
//! time means, and not what happens then.

use chrono::{DateTime, Local};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// A longer expression is refused, bytes.
const MAX_TIME: usize = 256;

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule(Cron);

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// It is not six fields, or one of them says what it cannot.
    #[error(
        "the time `{}` is not six fields, from seconds to the day of the week, such as `0 30 10 * * *`: {why}",
        crate::wire::shown(time)
    )]
    Malformed {
        /// The text.
        time: String,
        /// What the parser says.
        why: String,
    },
    /// A date that there is not, such as the 30th of February.
    #[error("the time `{0}` never comes")]
    Never(String),
}

impl Schedule {
    /// Reads six fields.
    ///
    /// # Errors
    /// [`BadTime`].
    pub fn parse(time: &str) -> Result<Self, BadTime> {
        let malformed = |why: String| BadTime::Malformed { time: time.to_owned(), why };
        if time.len() > MAX_TIME {
            return Err(malformed(format!("it is longer than {MAX_TIME} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let schedule = Schedule(parser.parse(time).map_err(|error| malformed(error.to_string()))?);
        schedule.next(&Local::now()).map(|_| schedule).ok_or_else(|| BadTime::Never(time.to_owned()))
    }

    /// When it is due next after a time.
    pub fn next(&self, after: &DateTime<Local>) -> Option<DateTime<Local>> {
        self.0.find_next_occurrence(after, false).ok()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn c6_six_fields_begin_with_seconds() {
        let at = |hour, minute, second| Local.with_ymd_and_hms(2030, 5, 1, hour, minute, second).unwrap();
        let check = |time: &str, from, expected| {
            assert_eq!(Schedule::parse(time).unwrap().next(&from), Some(expected), "{time}");
        };
        check("0 30 10 * * *", at(9, 0, 0), at(10, 30, 0));
        check("*/5 * * * * *", at(9, 0, 0), at(9, 0, 5));
        check("10,20 0 9-11 1 5 *", at(9, 0, 10), at(9, 0, 20));
        // The first of May 2030 is a Wednesday.
        check("0 0 12 * * wed", at(9, 0, 0), at(12, 0, 0));
    }

    #[test]
    fn c6_what_is_no_time_is_refused_with_the_reason() {
        let check = |time: &str, part: &str| {
            let said = Schedule::parse(time).unwrap_err().to_string();
            assert!(said.contains(part), "{time}: {said}");
        };
        check("30 10 * * *", "is not six fields");
        check("0 0 0 * * * 2030", "is not six fields");
        check("", "is not six fields");
        check("61 * * * * *", "is not six fields");
        check("every morning", "`every morning` is not six fields");
        check(&"* ".repeat(500), "longer than 256");
        check("0 0 0 30 2 *", "never comes");
    }
}
