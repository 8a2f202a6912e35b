//! Tables for people, in columns that fit the terminal. Cells wrap between words and never inside one. What a cell shows is one line of text, whoever has
//! written it, so that no cell can look like a row.

use std::collections::HashSet;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::print::{self, Unprinted};

/// The width that is assumed of a terminal that reports less than [`NARROWEST`].
const WIDTH: u16 = 80;
/// Terminals that report less do not know their width.
const NARROWEST: u16 = 20;
/// Blanks between two columns.
const GAP: u16 = 2;

/// A column, and what becomes of it in a narrow terminal.
#[derive(Clone, Copy)]
pub(super) struct Column<'a> {
    heading: &'a str,
    narrow: Narrow,
}

/// What becomes of a column where not all fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Narrow {
    /// Its cells wrap between words.
    Wraps,
    /// Its cells stay in one line.
    Stays,
    /// It is left out, the lowest number first; its cells stay in one line while it is there.
    LeftOut(u8),
}

impl<'a> Column<'a> {
    /// A column whose cells stay in one line: ids, states.
    pub fn whole(heading: &'a str) -> Self {
        Self { heading, narrow: Narrow::Stays }
    }

    /// A column that is left out where there is no room; the lowest `rank` goes first.
    pub fn optional(heading: &'a str, rank: u8) -> Self {
        Self { heading, narrow: Narrow::LeftOut(rank) }
    }
}

/// A column whose cells wrap between words.
impl<'a> From<&'a str> for Column<'a> {
    fn from(heading: &'a str) -> Self {
        Self { heading, narrow: Narrow::Wraps }
    }
}

/// Prints rows under headings, and says which columns were left out because the terminal is narrow.
pub(super) fn print<'a>(columns: &[impl Into<Column<'a>> + Copy], rows: Vec<Vec<String>>) -> Result<(), Unprinted> {
    let columns: Vec<Column<'_>> = columns.iter().map(|&column| column.into()).collect();
    let width = Table::new().width().map(|width| if width < NARROWEST { WIDTH } else { width });
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| print::shown(cell)).collect()).collect();
    let (table, left_out) = render(&columns, &rows, width);
    print::lines(table)?;
    if !left_out.is_empty() {
        print::note(format!("(the terminal is too narrow for: {})", left_out.join(", ")));
    }
    Ok(())
}

/// A table that fits a width, if one is given, and the headings of the columns that are left out. It is wider where the words of the remaining
/// columns are.
fn render<'a>(columns: &[Column<'a>], rows: &[Vec<String>], width: Option<u16>) -> (String, Vec<&'a str>) {
    let least = least_widths(columns, rows);
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while let Some(width) = width
        && needed(&least, &shown) > usize::from(width)
        && let Some((_, first)) = shown.iter().filter_map(|&index| Some((rank(columns[index])?, index))).min()
    {
        shown.retain(|&index| index != first);
    }
    let cells = |row: &[String]| shown.iter().map(|&index| row[index].clone()).collect::<Vec<_>>();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    match width {
        Some(width) => table.set_width(width),
        // Without a terminal nothing is arranged.
        None => table.force_no_tty(),
    };
    table.set_header(shown.iter().map(|&index| print::shown(columns[index].heading).to_uppercase()));
    table.add_rows(rows.iter().map(|row| cells(row)));
    let last = shown.len().saturating_sub(1);
    for (place, (column, &index)) in table.column_iter_mut().zip(&shown).enumerate() {
        let gap = if place == last { 0 } else { GAP };
        column.set_padding((0, gap));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least[index].saturating_add(gap))));
    }
    let shown: HashSet<usize> = shown.into_iter().collect();
    let left_out = columns.iter().enumerate().filter(|(index, _)| !shown.contains(index));
    (table.trim_fmt(), left_out.map(|(_, column)| column.heading).collect())
}

fn rank(column: Column<'_>) -> Option<u8> {
    match column.narrow {
        Narrow::LeftOut(rank) => Some(rank),
        Narrow::Wraps | Narrow::Stays => None,
    }
}

/// How wide each column has to be: as its longest cell, or as its longest word where cells wrap.
fn least_widths(columns: &[Column<'_>], rows: &[Vec<String>]) -> Vec<u16> {
    let mut words = Table::new();
    // The table measures lines: each word becomes one.
    let cell = |column: &Column<'_>, text: &str| match column.narrow {
        Narrow::Wraps => text.replace(' ', "\n"),
        Narrow::Stays | Narrow::LeftOut(_) => text.to_owned(),
    };
    words.set_header(columns.iter().map(|column| cell(column, &print::shown(column.heading))));
    words.add_rows(rows.iter().map(|row| columns.iter().zip(row).map(|(column, text)| cell(column, text))));
    words.column_max_content_widths()
}

/// The width of a table of some columns.
fn needed(least: &[u16], shown: &[usize]) -> usize {
    let gaps = usize::from(GAP) * shown.len().saturating_sub(1);
    shown.iter().map(|&index| usize::from(least[index])).sum::<usize>() + gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [[&str; 5]; 2] = [
        ["connector-server-1", "connector", "28.78", "running", "signal 9"],
        ["chat-1", "chat", "29.23", "kept down", "ended with code 7"],
    ];

    fn rendered(width: Option<u16>) -> (String, Vec<&'static str>) {
        let columns = [
            Column::whole("id"),
            Column::optional("type", 2),
            Column::optional("rss(M)", 1),
            Column::whole("state"),
            "last exit".into(),
        ];
        let rows: Vec<Vec<String>> = SERVERS.iter().map(|row| row.map(str::to_owned).into()).collect();
        render(&columns, &rows, width)
    }

    #[test]
    fn a5_a_narrow_table_breaks_no_word_and_leaves_out_the_least_important_columns_first() {
        let mut left_out_before = 0;
        for width in (20..=100).rev() {
            let (table, left_out) = rendered(Some(width));
            assert!(left_out_before <= left_out.len(), "{width}");
            assert!([&[][..], &["rss(M)"], &["type", "rss(M)"]].contains(&left_out.as_slice()), "{left_out:?}");
            left_out_before = left_out.len();
            for [id, server_type, _, state, exit] in SERVERS {
                let whole = [id, state].into_iter().chain(exit.split(' '));
                for word in whole.chain((!left_out.contains(&"type")).then_some(server_type)) {
                    assert!(table.contains(word), "{width}: {word} is not in\n{table}");
                }
            }
            // id, state and the longest word of the last column.
            let fits = width >= 18 + 2 + 9 + 2 + 6;
            assert!(!fits || table.lines().all(|line| line.len() <= width.into()), "{width}:\n{table}");
        }
        assert_eq!(left_out_before, 2);
    }

    #[test]
    fn a5_a_table_that_goes_to_no_terminal_is_whole() {
        let (table, left_out) = rendered(None);
        assert_eq!((table.lines().count(), left_out.len()), (3, 0), "{table}");
        assert!(table.lines().all(|line| line == line.trim_end()), "{table}");
        assert!(table.starts_with("ID                  TYPE       RSS(M)  STATE      LAST EXIT\n"), "{table}");
    }
}
