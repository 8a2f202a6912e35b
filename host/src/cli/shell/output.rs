//! Answers for people: text as it is, objects and lists of objects as tables, nested values as indented JSON.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::print::{self, Unprinted};
use super::super::table::{self, Column};

/// The most columns of a table; objects with more members are shown as JSON.
const COLUMNS: usize = 8;

/// Prints an answer, unchanged where `json` is set, otherwise for people.
pub(super) fn answer(json: bool, answer: &RawValue) -> anyhow::Result<()> {
    if json {
        print::json(answer)?;
    } else {
        value(&serde_json::from_str(answer.get())?)?;
    }
    Ok(())
}

/// Prints a value for people.
pub(super) fn value(value: &Value) -> Result<(), Unprinted> {
    match value {
        Value::Object(members) if !members.is_empty() && members.values().all(is_flat) => {
            let rows = members.iter().map(|(key, value)| vec![key.clone(), cell(value)]).collect();
            table::print(&["key", "value"], sorted(rows))
        }
        Value::Array(items) if items.iter().all(is_scalar) => items.iter().try_for_each(|item| print::line(cell(item))),
        Value::Array(items) => match columns(items) {
            Some(columns) => {
                let row =
                    |item: &Value| columns.iter().map(|column| item.get(column).map_or("-".into(), cell)).collect();
                table::print(&columns, items.iter().map(row).collect())
            }
            None => print::lines(format!("{value:#}")),
        },
        Value::Object(_) => print::lines(format!("{value:#}")),
        scalar => print::lines(cell(scalar)),
    }
}

/// Prints the objects of a map from id to object, ordered by id.
pub(super) fn by_id(servers: &Map<String, Value>, columns: &[(&str, Column<'_>)]) -> Result<(), Unprinted> {
    let row = |(id, server): (&String, &Value)| {
        let mut row = vec![id.clone()];
        row.extend(columns.iter().map(|(member, _)| server.get(member).map_or("-".into(), cell)));
        row
    };
    let columns: Vec<Column<'_>> =
        [Column::whole("id")].into_iter().chain(columns.iter().map(|(_, column)| *column)).collect();
    table::print(&columns, sorted(servers.iter().map(row).collect()))
}

/// The columns of a table of these objects; none where they do not fit one.
fn columns(items: &[Value]) -> Option<Vec<&str>> {
    let mut columns: Vec<&str> = Vec::new();
    for item in items {
        for (key, value) in item.as_object()? {
            if !is_flat(value) {
                return None;
            }
            if !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    (!columns.is_empty() && columns.len() <= COLUMNS).then_some(columns)
}

fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort_unstable();
    rows
}

fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// Whether a value fits one cell.
fn is_flat(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(is_scalar),
        Value::Object(members) => members.is_empty(),
        _ => true,
    }
}

/// A value as a cell shows it.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_one_cell() {
        assert_eq!(cell(&json!(["a", 1, null])), "a, 1, -");
    }

    #[test]
    fn only_flat_objects_are_a_table() {
        assert_eq!(columns(&[json!({"a": 1}), json!({"b": [1, 2]})]), Some(vec!["a", "b"]));
        assert_eq!(columns(&[json!({"a": {"b": 1}})]), None);
        assert_eq!(columns(&[json!({"a": 1}), json!(1)]), None);
    }
}
