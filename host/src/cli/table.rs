//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

/// What a terminal is taken to be wide that does not say so.
const WIDTH: u16 = 80;

/// Prints rows under headings, in columns that fit the terminal.
pub(super) fn print(headings: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_some_and(|width| width < 20) {
        table.set_width(WIDTH);
    }
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    println!("{}", table.trim_fmt());
}
