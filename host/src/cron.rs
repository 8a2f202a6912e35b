//! Times that come again: cron expressions of six fields, as pomelo's `crons.json` has them.
//!
//! The fields are seconds, minutes, hours, day of the month, month (1 to 12 or `jan` to `dec`), day of the week (0 to 7 or `sun` to `sat`), in the
//! time zone of this machine: `0 30 10 * * *` is every day at half past ten. The `croner` crate reads lists, ranges and steps. This part knows what a
//! time means, and not what happens then.

use chrono::{DateTime, Local};
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};

use crate::wire::shown;

/// The longest expression, bytes.
const MAX_TIME: usize = 256;

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule(Cron);

/// The fields, and what stands in them.
const FIELDS: [(&str, &str); 6] = [
    ("seconds", "0 to 59"),
    ("minutes", "0 to 59"),
    ("hours", "0 to 23"),
    ("day of the month", "1 to 31"),
    ("month", "1 to 12 or `jan` to `dec`"),
    ("day of the week", "0 to 7 or `sun` to `sat`"),
];

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
        /// What the parser says.
        why: String,
    },
    /// Each field is valid alone, but the six together are not.
    #[error("the time `{}` cannot be read: {why}", shown(time))]
    Whole {
        /// The text.
        time: String,
        /// What the parser says.
        why: String,
    },
    /// The time never comes, because its date does not exist, such as the 30th of February.
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
        let schedule = Schedule(parse(time).map_err(|why| fault(time, why))?);
        schedule.next(&Local::now()).map(|_| schedule).ok_or_else(|| BadTime::Never(time.to_owned()))
    }

    /// The first time after `after` at which it is due.
    pub fn next(&self, after: &DateTime<Local>) -> Option<DateTime<Local>> {
        self.0.find_next_occurrence(after, false).ok()
    }
}

fn parse(time: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
    parser.parse(time).map_err(|error| match error {
        CronError::ComponentError(why) | CronError::InvalidPattern(why) | CronError::IllegalCharacters(why) => why,
        error => error.to_string(),
    })
}

/// The fault of a text that the parser refuses with `why`. Each field is parsed alone, because the parser does not say which one it means.
fn fault(time: &str, why: String) -> BadTime {
    let fields: Vec<&str> = time.split_whitespace().collect();
    let time = time.to_owned();
    if fields.len() != FIELDS.len() {
        return BadTime::Count { time, count: fields.len() };
    }
    for (i, (value, (field, range))) in fields.iter().zip(FIELDS).enumerate() {
        let mut alone = ["*"; FIELDS.len()];
        alone[i] = value;
        if let Err(why) = parse(&alone.join(" ")) {
            return BadTime::Field { time, field, range, value: (*value).to_owned(), why };
        }
    }
    BadTime::Whole { time, why }
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
            assert!(
                said.contains("six fields") == (time.split_whitespace().count() != 6) || time.len() > MAX_TIME,
                "{said}"
            );
        };
        check(
            "30 10 * * *",
            "is not six fields, from seconds to the day of the week, such as `0 30 10 * * *`: it has 5",
        );
        check("0 0 0 * * * 2030", "is not six fields");
        check("", "is not six fields");
        check("61 * * * * *", "`61 * * * * *` cannot have `61` as its seconds (0 to 59)");
        check("0 0 25 * * *", "cannot have `25` as its hours (0 to 23)");
        check("0 0 0 * foo *", "cannot have `foo` as its month");
        check("0 0 0 * * mon-", "cannot have `mon-` as its day of the week");
        check("every morning", "`every morning` is not six fields");
        check(&"* ".repeat(500), "longer than 256");
        check("0 0 0 30 2 *", "never comes");
    }
}
