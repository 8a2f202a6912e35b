//! Which of an application's settings a client may see.
//!
//! No client is shown pomelo's own entries among the settings (`__x__`), nor the options of a component (`xConfig`, which `config` shows). A client without
//! level 1 is shown only plain values, because a table may hold a password under any name, and no value whose name says that it is secret.

use std::collections::BTreeMap;

use pomelo_sdk::{Failure, Result};
use serde_json::value::{RawValue, to_raw_value};

use crate::question::Members;

/// Parts of names, in small letters, that say that a value is secret.
const SECRET: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "apikey", "private"];

/// The settings as a client sees them.
pub fn settings(settings: Box<RawValue>, admin: bool) -> Result<Box<RawValue>> {
    let mut members = members(&settings)?;
    members.retain(|name, _| !is_internal(name) && (admin || !is_secret(name)));
    let members: Members = members.into_iter().map(|(name, setting)| (name, value(setting, admin))).collect();
    Ok(to_raw_value(&members)?)
}

/// The components as a client sees them. Only level 1 sees their options.
pub fn components(components: Box<RawValue>, admin: bool) -> Result<Box<RawValue>> {
    if admin {
        return Ok(components);
    }
    let names = members(&components)?.into_keys().map(|name| (name, Members::new()));
    Ok(to_raw_value(&names.collect::<BTreeMap<_, _>>())?)
}

/// Whether a client may ask for the setting of that name. Fails with `forbidden`.
pub fn check(name: &str, admin: bool) -> Result {
    if admin || !(is_internal(name) || is_secret(name)) {
        return Ok(());
    }
    Err(Failure::new("forbidden", ["The setting ", name, " is shown to users of level 1."].concat()))
}

/// A value as a client sees it.
pub fn value(value: Box<RawValue>, admin: bool) -> Box<RawValue> {
    if admin || !value.get().starts_with(['{', '[']) {
        return value;
    }
    // pomelo's word for a value that cannot be shown.
    RawValue::from_string("\"object\"".to_owned()).unwrap_or(value)
}

fn members(text: &RawValue) -> Result<Members> {
    serde_json::from_str(text.get())
        .map_err(|_| Failure::new("bad-answer", "The server did not answer with an object."))
}

fn is_internal(name: &str) -> bool {
    (name.len() > 4 && name.starts_with("__") && name.ends_with("__"))
        || name.strip_suffix("Config").is_some_and(|component| !component.is_empty())
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['_', '-'], "");
    SECRET.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a2_settings_and_components_show_level_2_no_secret() {
        let all = raw(
            r#"{"env":"development","port":3050,"master":{"host":"h","password":"p"},"db_password":"p","API-Key":"k","__x__":1,"proxyConfig":{"a":1}}"#,
        );
        let seen = |admin| settings(all.clone(), admin).unwrap().get().to_owned();
        assert_eq!(
            seen(true),
            r#"{"API-Key":"k","db_password":"p","env":"development","master":{"host":"h","password":"p"},"port":3050}"#
        );
        assert_eq!(seen(false), r#"{"env":"development","master":"object","port":3050}"#);
        let all = raw(r#"{"proxy":{"bufferMsg":true,"password":"p"},"server":{}}"#);
        assert_eq!(components(all.clone(), true).unwrap().get(), all.get());
        assert_eq!(components(all, false).unwrap().get(), r#"{"proxy":{},"server":{}}"#);
        for odd in ["[]", "null", "\"text\""] {
            assert_eq!(settings(raw(odd), false).unwrap_err().code(), "bad-answer", "{odd}");
            assert_eq!(components(raw(odd), false).unwrap_err().code(), "bad-answer", "{odd}");
        }
    }

    #[test]
    fn a2_get_shows_level_2_no_secret() {
        for name in ["mysqlConfig", "__session__", "dbPassword", "jwt_secret", "accessToken"] {
            assert_eq!(check(name, false).unwrap_err().code(), "forbidden", "{name}");
            assert_eq!(check(name, true), Ok(()));
        }
        for name in ["serverType", "Config", "env"] {
            assert_eq!(check(name, false), Ok(()), "{name}");
        }
        assert_eq!(value(raw(r#"{"a":1}"#), false).get(), "\"object\"");
        assert_eq!(value(raw("[1]"), true).get(), "[1]");
        assert_eq!(value(raw("3"), false).get(), "3");
    }
}
