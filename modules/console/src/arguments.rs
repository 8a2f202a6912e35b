//! Arguments of the form `key=value`, as pomelo's tools send them.

use std::collections::BTreeMap;

use pomelo_sdk::prelude::*;
use serde::Deserialize;

/// What stands behind a command's name: the words of one thing, or a list of words for each of several.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Arguments {
    One(Vec<String>),
    Several(Vec<Vec<String>>),
}

impl Default for Arguments {
    fn default() -> Self {
        Self::One(Vec::new())
    }
}

/// Values by key.
pub type Pairs = BTreeMap<String, String>;

impl Arguments {
    /// The words of each thing.
    pub fn several(self) -> Vec<Vec<String>> {
        match self {
            Self::One(words) => vec![words],
            Self::Several(lists) => lists,
        }
    }

    /// The words, for a command that takes one thing.
    pub fn one(self) -> Result<Vec<String>> {
        match self {
            Self::One(words) => Ok(words),
            Self::Several(_) => Err(bad("`args` must be an array of strings.")),
        }
    }
}

/// Parses `key=value` words; a value may have `=` in it.
pub fn pairs(words: Vec<String>) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    for word in words {
        let Some((key, value)) = word.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty())
        else {
            return Err(bad(&["`", &word, "` is not of the form key=value."].concat()));
        };
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(bad(&["`", key, "` is given twice."].concat()));
        }
    }
    Ok(pairs)
}

/// Checks that the keys are there.
pub fn require(pairs: &Pairs, keys: &[&str]) -> Result {
    let missing: Vec<&str> = keys.iter().copied().filter(|key| !pairs.contains_key(*key)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(bad(&["Missing: ", &missing.join(", "), "."].concat()))
}

pub fn bad(message: &str) -> Failure {
    Failure::new("bad-message", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Pairs> {
        pairs(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn c5_arguments_are_pairs() {
        let pairs = parse(&["host=127.0.0.1", "time=0 30 10 * * *", "expression=a=b"]).unwrap();
        assert_eq!((pairs["time"].as_str(), pairs["expression"].as_str()), ("0 30 10 * * *", "a=b"));
        for (words, said) in [
            (&["host"][..], "`host` is not"),
            (&["=x"], "`=x` is not"),
            (&["id="], "`id=` is not"),
            (&["id=a", "id=b"], "`id` is given twice"),
        ] {
            let failure = parse(words).unwrap_err();
            assert!(failure.code() == "bad-message" && failure.message().contains(said), "{failure:?}");
        }
        let missing = require(&pairs, &["id", "host", "port"]).unwrap_err();
        assert_eq!(missing.message(), "Missing: id, port.");
    }

    #[test]
    fn c5_arguments_are_of_one_thing_or_of_several() {
        let parse = |text: &str| serde_json::from_str::<Arguments>(text).unwrap();
        assert_eq!(parse(r#"["id=a","port=1"]"#).several(), [["id=a", "port=1"]]);
        assert_eq!(parse(r#"[["id=a"],["id=b"]]"#).several(), [["id=a"], ["id=b"]]);
        assert!(parse(r#"[["id=a"]]"#).one().is_err());
    }
}
