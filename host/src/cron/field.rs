//! One field of a cron's time: the values that it names, as pomelo reads them.

/// A field: what it is called, and what may stand in it.
pub(super) struct Field {
    pub name: &'static str,
    pub range: &'static str,
    min: u32,
    max: u32,
    /// Words for values, from `min` on.
    words: &'static [&'static str],
}

/// The fields in their order. pomelo takes the hour 24, which is 0 o'clock of the next day. The 7 for Sunday and all words are this program's alone.
pub(super) const FIELDS: [Field; 6] = [
    Field { name: "seconds", range: "0 to 59", min: 0, max: 59, words: &[] },
    Field { name: "minutes", range: "0 to 59", min: 0, max: 59, words: &[] },
    Field { name: "hours", range: "0 to 24", min: 0, max: 24, words: &[] },
    Field { name: "day of the month", range: "1 to 31", min: 1, max: 31, words: &[] },
    Field { name: "month", range: "0 to 11, from January on, or `jan` to `dec`", min: 0, max: 11, words: &MONTHS },
    Field { name: "day of the week", range: "0 to 6, from Sunday on, or `sun` to `sat`", min: 0, max: 6, words: &DAYS },
];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The values that a field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// All: `*`.
    All,
    /// These, sorted; at least one.
    Some(Vec<u32>),
}

impl Values {
    pub(super) fn has(&self, value: u32) -> bool {
        match self {
            Values::All => true,
            Values::Some(values) => values.binary_search(&value).is_ok(),
        }
    }

    /// The first value after `value`, or the first of all if there is none.
    pub(super) fn after(&self, value: u32) -> u32 {
        match self {
            Values::All => value + 1,
            Values::Some(values) => values.iter().find(|next| **next > value).or(values.first()).copied().unwrap_or(0),
        }
    }
}

impl Field {
    /// The values that a text names, and whether pomelo's own servers read it as well.
    pub(super) fn read(&self, text: &str) -> Result<(Values, bool), String> {
        if text == "*" {
            return Ok((Values::All, true));
        }
        let (mut values, mut pomelos) = (Vec::new(), true);
        for part in text.split(',') {
            pomelos &= self.part(part, &mut values)?;
        }
        values.sort_unstable();
        values.dedup();
        Ok((Values::Some(values), pomelos))
    }

    /// Adds the values of one part of a list.
    fn part(&self, part: &str, values: &mut Vec<u32>) -> Result<bool, String> {
        let (range, period) = match part.split_once('/') {
            Some((range, period)) => (range, Some(period)),
            None => (part, None),
        };
        let step = match period {
            Some(period) => match number(period) {
                Some(step) if step > 0 => step,
                _ => return Err(format!("the `{period}` after `/` must be a number from 1 on")),
            },
            None => 1,
        };
        if range == "*" {
            values.extend((self.min..=self.max.min(self.last())).step_by(step as usize));
            return Ok(false);
        }
        if let Some((first, last)) = range.split_once('-') {
            let ((first, one), (last, other)) = (self.value(first)?, self.value(last)?);
            if first > last {
                return Err(format!("the range `{range}` ends before it begins"));
            }
            values.extend((first..=last).step_by(step as usize).map(|value| self.of_week(value)));
            return Ok(one && other && period.is_none());
        }
        if period.is_none() {
            let (value, pomelos) = self.value(range)?;
            values.push(self.of_week(value));
            return Ok(pomelos);
        }
        let rest = number(range).ok_or_else(|| format!("`{range}` before `/` must be a number"))?;
        let found = values.len();
        values.extend((self.min..=self.max).filter(|value| value % step == rest));
        if values.len() == found {
            return Err(format!("`{part}` means what leaves {rest} when it is divided by {step}, and nothing does"));
        }
        Ok(true)
    }

    /// The value of a number or a word, and whether pomelo's own servers read it.
    fn value(&self, text: &str) -> Result<(u32, bool), String> {
        if let Some(at) = self.words.iter().position(|word| text.eq_ignore_ascii_case(word)) {
            return Ok((self.min + at as u32, false));
        }
        let value = number(text).ok_or_else(|| format!("`{text}` is no number"))?;
        match value {
            7 if self.is_week() => Ok((7, false)),
            value if (self.min..=self.max).contains(&value) => Ok((value, true)),
            value => Err(format!("{value} is outside")),
        }
    }

    /// The last value of a `*` with a step: hour 24 is hour 0.
    fn last(&self) -> u32 {
        if self.max == 24 { 23 } else { self.max }
    }

    fn is_week(&self) -> bool {
        self.max == 6
    }

    /// Sunday is 0, also where it was written as 7.
    fn of_week(&self, value: u32) -> u32 {
        if self.is_week() { value % 7 } else { value }
    }
}

/// A number of a few digits.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
