//! Metrics that are written when a page is asked for, because nothing is to be left of a label that is gone.

use std::fmt::Write;

/// The type of a metric, as Prometheus knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A value now.
    Gauge,
    /// A count that only grows.
    Counter,
}

/// One metric with all its values.
#[derive(Clone, Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Type,
    samples: String,
}

impl Family {
    /// A metric without values.
    pub fn new(name: &'static str, kind: Type, help: &'static str) -> Self {
        Family { name, help, kind, samples: String::new() }
    }

    /// A gauge without values.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Type::Gauge, help)
    }

    /// Adds a value with its labels.
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        self.samples.push_str(self.name);
        for (n, (label, text)) in labels.iter().enumerate() {
            self.samples.push(if n == 0 { '{' } else { ',' });
            self.samples.push_str(label);
            self.samples.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.samples.push_str("\\\\"),
                    '"' => self.samples.push_str("\\\""),
                    '\n' => self.samples.push_str("\\n"),
                    other => self.samples.push(other),
                }
            }
            self.samples.push('"');
        }
        if !labels.is_empty() {
            self.samples.push('}');
        }
        // Writing to a text does not fail.
        let _ = writeln!(self.samples, " {value}");
    }

    /// A metric of one value.
    #[must_use]
    pub fn of(mut self, value: f64) -> Self {
        self.add(&[], value);
        self
    }

    /// Writes it in Prometheus' text format. Nothing is written of a metric without values.
    pub(super) fn write(&self, page: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let kind = match self.kind {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
        };
        let Family { name, help, samples, .. } = self;
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_prometheus_reads_them() {
        let mut family = Family::gauge("up", "Whether it is up.");
        let mut page = String::new();
        family.write(&mut page);
        assert_eq!(page, "", "a metric without values is none");
        family.add(&[("id", "a\"b\\c\nd"), ("type", "chat")], 1.0);
        family.add(&[], 0.5);
        family.write(&mut page);
        let expected =
            "# HELP up Whether it is up.\n# TYPE up gauge\nup{id=\"a\\\"b\\\\c\\nd\",type=\"chat\"} 1\nup 0.5\n\n";
        assert_eq!(page, expected);
    }
}
