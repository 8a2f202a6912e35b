//! What was found, by case, figure and master: as a table in Markdown, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cases::Found;
use crate::goals::{Goal, goal};

/// A figure of one case.
struct Row {
    case: String,
    figure: &'static str,
    unit: &'static str,
    /// By master, the values of the rounds.
    values: Vec<Vec<f64>>,
}

/// A case that failed.
struct Failure {
    case: &'static str,
    master: usize,
    round: usize,
    why: String,
}

/// All that was found.
pub struct Report {
    /// Their names, and whether each is ours.
    masters: Vec<(String, bool)>,
    rows: Vec<Row>,
    failures: Vec<Failure>,
    /// What went wrong without ending a case.
    notes: Vec<String>,
}

/// The values of one master in one row.
struct Spread {
    median: f64,
    smallest: f64,
    largest: f64,
}

impl Report {
    pub fn new(masters: Vec<(String, bool)>) -> Report {
        Report { masters, rows: Vec::new(), failures: Vec::new(), notes: Vec::new() }
    }

    /// A round's figures.
    pub fn add(&mut self, master: usize, found: Vec<Found>) {
        for Found { case, figure, unit, value } in found {
            let place = self.rows.iter().position(|row| row.case == case && row.figure == figure);
            let place = place.unwrap_or_else(|| {
                // Beside the other figures of the case.
                let after = self.rows.iter().rposition(|row| row.case == case).map_or(self.rows.len(), |last| last + 1);
                self.rows.insert(after, Row { case, figure, unit, values: vec![Vec::new(); self.masters.len()] });
                after
            });
            self.rows[place].values[master].push(value);
        }
    }

    pub fn failed(&mut self, case: &'static str, master: usize, round: usize, why: String) {
        self.failures.push(Failure { case, master, round, why });
    }

    /// What went wrong in a round.
    pub fn note(&mut self, master: usize, notes: Vec<String>) {
        let name = &self.masters[master].0;
        self.notes.extend(notes.into_iter().map(|note| format!("{name}, {}", note.replace('\n', " "))));
    }

    /// Whether some case has failed.
    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The median of the original in a row.
    fn original(&self, case: &str, figure: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.case == case && row.figure == figure)?;
        let original = self.masters.iter().position(|(_, ours)| !ours)?;
        spread(&row.values[original]).map(|spread| spread.median)
    }

    /// The goal in words, and whether it is met; absent where that cannot be said.
    fn judged(&self, row: &Row, median: f64) -> Option<(String, Option<bool>)> {
        let compared = |share: f64, case: &str| {
            let met = self.original(case, row.figure).map(|original| median <= original * share);
            (format!("≤ {share} of the original's"), met)
        };
        Some(match goal(&row.case, row.figure)? {
            Goal::AtMost(most) => (format!("≤ {}", number(most, row.unit)), Some(median <= most)),
            Goal::OfOriginal(share) => compared(share, &row.case),
            Goal::OfOriginals(share, case) => {
                let (words, met) = compared(share, case);
                (format!("{words} on its own wire"), met)
            }
        })
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| case | figure | master | median (smallest–largest) | of the original's | goal | met |\n|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            for (values, (master, ours)) in row.values.iter().zip(&self.masters) {
                let Some(Spread { median, smallest, largest }) = spread(values) else { continue };
                let [median_text, smallest, largest] = [median, smallest, largest].map(|value| number(value, row.unit));
                let original = self.original(&row.case, row.figure).filter(|original| *ours && *original > 0.0);
                let ratio = original.map_or_else(String::new, |original| format!("{:.2}", median / original));
                let judged = if *ours { self.judged(row, median) } else { None };
                let met = match &judged {
                    Some((_, Some(true))) => "yes",
                    Some((_, Some(false))) => "**no**",
                    Some((_, None)) => "?",
                    None => "",
                };
                let goal = judged.as_ref().map_or("", |(words, _)| words);
                let (case, figure) = (&row.case, row.figure);
                let _ = writeln!(
                    text,
                    "| {case} | {figure} | {master} | **{median_text}** ({smallest}–{largest}) | {ratio} | {goal} | {met} |"
                );
            }
        }
        for Failure { case, master, round, why } in &self.failures {
            let why = why.replace('|', "\\|").replace('\n', " ");
            let _ = writeln!(
                text,
                "| {case} | failed in round {} | {} | {why} | | | **no** |",
                round + 1,
                self.masters[*master].0
            );
        }
        if !self.notes.is_empty() {
            let _ = write!(text, "\n- {}\n", self.notes.join("\n- "));
        }
        text
    }

    pub fn json(&self) -> Value {
        let figure = |row: &Row| {
            let of_master = |(values, (master, ours)): (&Vec<f64>, &(String, bool))| {
                let Spread { median, smallest, largest } = spread(values)?;
                let judged = if *ours { self.judged(row, median) } else { None };
                let original = self.original(&row.case, row.figure).filter(|original| *ours && *original > 0.0);
                Some(json!({
                    "case": row.case, "figure": row.figure, "unit": row.unit, "master": master, "values": values,
                    "median": median, "smallest": smallest, "largest": largest,
                    "ofOriginal": original.map(|original| median / original),
                    "goal": judged.as_ref().map(|(words, _)| words), "met": judged.as_ref().and_then(|(_, met)| *met),
                }))
            };
            row.values.iter().zip(&self.masters).filter_map(of_master).collect::<Vec<_>>()
        };
        let failure = |Failure { case, master, round, why }: &Failure| json!({"case": case, "master": self.masters[*master].0, "round": round + 1, "why": why});
        json!({
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "figures": self.rows.iter().flat_map(figure).collect::<Vec<_>>(),
            "notes": self.notes,
            "failures": self.failures.iter().map(failure).collect::<Vec<_>>(),
        })
    }
}

fn spread(values: &[f64]) -> Option<Spread> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (smallest, largest) = (*values.first()?, *values.last()?);
    let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
    Some(Spread { median, smallest, largest })
}

/// A figure with as many digits as mean something.
fn number(value: f64, unit: &str) -> String {
    let digits = match value {
        _ if value.fract() == 0.0 => 0,
        _ if value < 10.0 => 2,
        _ if value < 100.0 => 1,
        _ => 0,
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_goal_beside_it_and_says_whether_it_is_met() {
        let mut report = Report::new(vec![("now".into(), true), ("pomelo-admin".into(), false)]);
        let found = |value| {
            let case = "cached request, pomelo's wire, 64 in flight".to_owned();
            vec![Found { case, figure: "CPU per request", unit: "µs", value }]
        };
        for value in [3.0, 2.5, 9.0] {
            report.add(0, found(value));
        }
        report.add(1, found(6.0));
        report.failed("start", 0, 1, "a | b".into());
        let text = report.markdown();
        assert!(text.contains("| now | **3 µs** (2.50 µs–9 µs) | 0.50 | ≤ 0.6 of the original's | yes |"), "{text}");
        assert!(text.contains("| start | failed in round 2 | now | a \\| b |"), "{text}");
        assert_eq!(report.json()["figures"][0]["ofOriginal"], 0.5);
    }
}
