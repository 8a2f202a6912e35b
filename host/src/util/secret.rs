//! A text that no log shows.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// A password or a token. It has no `Display`, its `Debug` does not show it, and it cannot be serialized but where a member says so
/// ([`Secret::exposed`]). An error about a value of another type does not repeat the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself: for comparing and sending, never for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// For members of what is sent to a peer that has to know the secret: `#[serde(serialize_with = "Secret::exposed")]`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(Secret(text)) => serializer.serialize_some(text),
            None => serializer.serialize_none(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Secret::new(text))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer) {
            Ok(serde_json::Value::String(text)) => Ok(Secret(text)),
            _ => Err(D::Error::custom("a password or token is a text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_sentence_about_it() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
        for wrong in ["123456789", "[\"hunter2\"]", "{\"hunter2\": 1}", "true"] {
            let said = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(
                said.starts_with("a password or token is a text")
                    && !said.contains("hunter2")
                    && !said.contains("1234"),
                "{said}"
            );
        }
        let none: Option<Secret> = serde_json::from_str("null").unwrap();
        assert_eq!(none, None);
    }
}
