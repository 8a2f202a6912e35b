//! What a cron's time means, in words.

use std::fmt;

use super::field::Values;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Values that are named one by one. Of more, the first ones and the last one are named.
const NAMED: usize = 6;

pub(super) fn write(fields: &[Values; 6], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [seconds, minutes, hours, days, months, week] = fields;
    match (one(seconds), one(minutes), one(hours)) {
        (Some(second), Some(minute), Some(24)) => write!(f, "at 24:{minute:02}:{second:02}")?,
        (Some(second), Some(minute), Some(hour)) => write!(f, "at {hour:02}:{minute:02}:{second:02}")?,
        _ => {
            f.write_str(&part(seconds, "every second", "second"))?;
            write!(f, " of {}", part(minutes, "every minute", "minute"))?;
            write!(f, " of {}", part(hours, "every hour", "hour"))?;
        }
    }
    match days {
        Values::All => f.write_str(" on every day")?,
        days => write!(f, " on {} of the month", part(days, "every day", "day"))?,
    }
    if let Values::Some(values) = months {
        write!(f, " in {}", list(values, |month| MONTHS[month as usize % 12].to_owned()))?;
    }
    if let Values::Some(values) = week {
        write!(f, ", only if it is a {}", list(values, |day| DAYS[day as usize % 7].to_owned()))?;
    }
    Ok(())
}

fn one(values: &Values) -> Option<u32> {
    match values {
        Values::Some(values) if values.len() == 1 => values.first().copied(),
        _ => None,
    }
}

fn part(values: &Values, all: &str, name: &str) -> String {
    match values {
        Values::All => all.to_owned(),
        Values::Some(values) if values.len() == 1 => format!("{name} {}", values[0]),
        Values::Some(values) => format!("{name}s {}", list(values, |value| value.to_string())),
    }
}

fn list(values: &[u32], word: impl Fn(u32) -> String) -> String {
    let words: Vec<String> = values.iter().map(|value| word(*value)).collect();
    match &words[..] {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if words.len() <= NAMED => format!("{} or {last}", first.join(", ")),
        [first @ .., last] => format!("{}, … {last}", first[..3].join(", ")),
    }
}
