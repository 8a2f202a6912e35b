//! A line as the operator typed it: words, quotes, comments.
//!
//! As in pomelo-cli, blanks separate words, and a backslash is an ordinary letter, so that patterns and paths need no escapes. Quotes keep blanks in a
//! word: `'…'` takes everything literally, `"…"` knows `\"` and `\\`. They may begin inside a word (`time='0 30 10 * * *'`). A word that begins with `#`
//! begins a comment. The position of each word is kept for completion, and for commands that take the rest of the line literally; libraries that
//! split shell words do not tell it.

use std::ops::Range;

/// A word, and where it was typed, quotes included.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub text: String,
    pub at: Range<usize>,
}

/// A line, cut into words.
#[derive(Debug)]
pub(super) struct Line<'a> {
    typed: &'a str,
    words: Vec<Word>,
    /// Where a quote was opened that is not closed.
    open: Option<(usize, char)>,
}

/// A quote that is opened and not closed.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the {quote} at column {column} is not closed")]
pub(super) struct Unclosed {
    quote: char,
    column: usize,
}

impl<'a> Line<'a> {
    /// Cuts a line into words.
    ///
    /// # Errors
    /// Where a quote is not closed.
    pub fn parse(typed: &'a str) -> Result<Line<'a>, Unclosed> {
        let line = Line::so_far(typed);
        match line.open {
            Some((at, quote)) => Err(Unclosed { quote, column: typed[..at].chars().count() + 1 }),
            None => Ok(line),
        }
    }

    /// Cuts what is typed so far into words; the last may have a quote that is still open.
    pub fn so_far(typed: &'a str) -> Line<'a> {
        let mut line = Line { typed, words: Vec::new(), open: None };
        let mut word: Option<Word> = None;
        let mut letters = typed.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            match (line.open, letter) {
                (None, ' ' | '\t') => line.words.extend(word.take()),
                (None, '#') if word.is_none() => break,
                (None, '\'' | '"') => {
                    line.open = Some((at, letter));
                    word.get_or_insert_with(|| Word { text: String::new(), at: at..at });
                }
                (Some((_, quote)), _) if letter == quote => line.open = None,
                _ => {
                    let escaped = matches!(line.open, Some((_, '"'))) && letter == '\\';
                    let letter = match letters.peek() {
                        Some(&(_, next @ ('"' | '\\'))) if escaped => {
                            letters.next();
                            next
                        }
                        _ => letter,
                    };
                    word.get_or_insert_with(|| Word { text: String::new(), at: at..at }).text.push(letter);
                }
            }
            if let Some(word) = &mut word {
                word.at.end = letters.peek().map_or(typed.len(), |&(next, _)| next);
            }
        }
        line.words.extend(word);
        line
    }

    /// All words, the command's first.
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The command's word; none on an empty line.
    pub fn command(&self) -> Option<&str> {
        self.words.first().map(|word| word.text.as_str())
    }

    /// The words after the command's.
    pub fn arguments(&self) -> Vec<&str> {
        self.words.iter().skip(1).map(|word| word.text.as_str()).collect()
    }

    /// What was typed after the first `words` words, unchanged, with quotes and comments.
    pub fn rest(&self, words: usize) -> &'a str {
        words.checked_sub(1).and_then(|last| self.words.get(last)).map_or("", |word| self.typed[word.at.end..].trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_in_pomelo_cli() {
        let cases: [(&str, &[&str]); 12] = [
            ("", &[]),
            ("   # nothing but a comment", &[]),
            ("  use   area-server-1\t", &["use", "area-server-1"]),
            ("stop a b # two of them", &["stop", "a", "b"]),
            ("set key a#b", &["set", "key", "a#b"]),
            ("addCron id=8 'time=0 30 10 * * *' action=a.b", &["addCron", "id=8", "time=0 30 10 * * *", "action=a.b"]),
            ("addCron time='0 30 10 * * *'", &["addCron", "time=0 30 10 * * *"]),
            (r#"set motd "say \"hi\" \\ bye""#, &["set", "motd", r#"say "hi" \ bye"#]),
            (r"blacklist \b(\d?\d\.){3}\b", &["blacklist", r"\b(\d?\d\.){3}\b"]),
            (r"set a 'it\'", &["set", "a", r"it\"]),
            ("set key ''", &["set", "key", ""]),
            ("set ключ 'a \"b\" ü'", &["set", "ключ", "a \"b\" ü"]),
        ];
        for (typed, words) in cases {
            let line = Line::parse(typed).unwrap();
            assert_eq!(line.words().iter().map(|word| &word.text).collect::<Vec<_>>(), words, "{typed}");
        }
    }

    #[test]
    fn an_open_quote_is_named_by_its_column() {
        assert_eq!(Line::parse("set ü 'a b").unwrap_err(), Unclosed { quote: '\'', column: 7 });
        assert_eq!(Line::parse("set a \"b' c").unwrap_err().to_string(), "the \" at column 7 is not closed");
    }

    #[test]
    fn the_rest_is_as_it_was_typed() {
        let line = Line::parse(r#"run  app.get("sessionService") # 1 "#).unwrap();
        assert_eq!(line.rest(1), r#"app.get("sessionService") # 1"#);
        let line = Line::parse(r#"request timeReport {"a": 1}"#).unwrap();
        assert_eq!(line.rest(2), r#"{"a": 1}"#);
        assert_eq!((line.rest(9), line.rest(0)), ("", ""));
    }

    #[test]
    fn words_know_where_they_stand() {
        let line = Line::so_far("use 'a b' c");
        assert_eq!(line.words()[1], Word { text: "a b".into(), at: 4..9 });
        assert_eq!(line.words()[2].at, 10..11);
        assert_eq!(Line::so_far("use 'a b").words()[1].at, 4..8);
    }
}
