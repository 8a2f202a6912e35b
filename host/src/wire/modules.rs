//! How a master hands modules on to monitors of our own kind that take them.
//!
//! The master sends the command [`OFFER`] with all that a monitor is to run: once it is registered, and whenever that changes. The monitor asks the
//! reserved module id [`MODULES`] for the bytes that it lacks, part by part, and says what became of them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The reserved module id that requests about modules are for.
pub const MODULES: &str = "__modules__";
/// The command with which a master says what a monitor is to run.
pub const OFFER: &str = "offer";
/// The most files of an offer. A host has no room for more in force.
pub const MAX_OFFERS: usize = 256;

/// The body of [`OFFER`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// All files that the monitor is to run. One that is not among them is to go.
    pub files: Vec<Offer>,
}

/// A file that a monitor is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name without the ending.
    pub name: String,
    /// The version. Absent where the master has none in force: the monitor goes on with the one that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<FileVersion>,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Sha-256 of the file, in hexadecimal.
    pub digest: String,
    /// Size of the file, bytes.
    pub size: u64,
}

/// What a monitor asks [`MODULES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModulesRequest<'a> {
    /// Bytes of a file that is offered. The answer is a [`Part`].
    Get {
        /// Sha-256 of the file, in hexadecimal.
        digest: Cow<'a, str>,
        /// Where the part begins, bytes.
        offset: u64,
    },
    /// What became of all that is offered. The answer is null.
    Runs(Vec<Running>),
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part<'a> {
    /// Size of the whole file, bytes.
    pub size: u64,
    /// The bytes, in base64. Empty at the end of the file.
    pub data: Cow<'a, str>,
}

/// What a monitor runs of a file that it is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The file's name without the ending.
    pub name: String,
    /// Sha-256 of the version in force; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Sha-256 of the version that is offered, of which the rest speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<String>,
    /// Why it is refused, where it is; or why it does no good although it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why it is not there yet, where that is known: it will be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether a local file of the same name has its place.
    #[serde(default, skip_serializing_if = "is_false")]
    pub local: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_as_documented() {
        let get = ModulesRequest::Get { digest: "ab".into(), offset: 7 };
        assert_eq!(serde_json::to_string(&get).unwrap(), r#"{"get":{"digest":"ab","offset":7}}"#);
        let running = Running { name: "echo".into(), refused: Some("no".into()), ..Running::default() };
        let runs = ModulesRequest::Runs(vec![running]);
        assert_eq!(serde_json::to_string(&runs).unwrap(), r#"{"runs":[{"name":"echo","refused":"no"}]}"#);
        let text = r#"{"files":[{"name":"a","version":{"digest":"ab","size":3}},{"name":"b"}]}"#;
        let offers: Offers = serde_json::from_str(text).unwrap();
        assert_eq!(offers.files[1], Offer { name: "b".into(), version: None });
        assert_eq!(serde_json::to_string(&offers).unwrap(), text);
    }
}
