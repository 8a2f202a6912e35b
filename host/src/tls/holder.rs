//! For whom a client certificate is.
//!
//! A certificate says it in URIs among its subject alternative names: `pomelo:server/TYPE/ID` for a server, `pomelo:user/NAME` for a user. Type, id and
//! name are percent-encoded where a URI needs it. A certificate may have several.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::wire::{MAX_ID, shown};

/// What stands in a URI as it is. All else is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names that are read of one certificate.
const MAX_HOLDERS: usize = 64;

/// For whom a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A server's monitor.
    Server {
        /// The server's type.
        server_type: String,
        /// The server's id.
        id: String,
    },
    /// A user, by name.
    User(String),
}

impl Holder {
    /// The URI that names the holder.
    pub fn uri(&self) -> String {
        let encoded = |text| utf8_percent_encode(text, ENCODED);
        match self {
            Holder::Server { server_type, id } => format!("pomelo:server/{}/{}", encoded(server_type), encoded(id)),
            Holder::User(name) => format!("pomelo:user/{}", encoded(name)),
        }
    }

    /// Reads a URI. Absent if it names no holder.
    pub fn parse(uri: &str) -> Option<Holder> {
        let rest = uri.strip_prefix("pomelo:")?;
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().ok()?;
            let fits = !text.is_empty() && text.len() <= MAX_ID && !text.chars().any(char::is_control);
            fits.then(|| text.into_owned())
        };
        match rest.split('/').collect::<Vec<_>>()[..] {
            ["server", server_type, id] => {
                Some(Holder::Server { server_type: decoded(server_type)?, id: decoded(id)? })
            }
            ["user", name] => Some(Holder::User(decoded(name)?)),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Server { server_type, id } => write!(f, "server `{}` of type `{}`", shown(id), shown(server_type)),
            Holder::User(name) => write!(f, "user `{}`", shown(name)),
        }
    }
}

/// A client certificate that a peer has shown and that its authority has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    holders: Vec<Holder>,
}

impl Certificate {
    /// Reads a certificate. Absent if it names no holder, because it says nothing of its peer then.
    pub fn of(der: &CertificateDer<'_>) -> Option<Certificate> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let holders = holders(&parsed);
        (!holders.is_empty()).then_some(Certificate { holders })
    }

    /// Whether it is the certificate of that server.
    ///
    /// # Errors
    /// A sentence that names both.
    pub fn server(&self, server_type: &str, id: &str) -> Result<(), String> {
        let wanted = Holder::Server { server_type: server_type.to_owned(), id: id.to_owned() };
        if self.holders.contains(&wanted) {
            return Ok(());
        }
        Err(format!(
            "the certificate is that of {}, and not of {wanted}: `pomelo cert server {} {}` makes its own",
            self.named(),
            shown(id),
            shown(server_type),
        ))
    }

    /// The user that it is for: that of the name, or the only one if no name is given.
    ///
    /// # Errors
    /// A sentence that names both.
    pub fn user(&self, name: Option<&str>) -> Result<String, String> {
        let mut users = self.holders.iter().filter_map(|holder| match holder {
            Holder::User(name) => Some(name),
            Holder::Server { .. } => None,
        });
        match (name, users.next(), users.next()) {
            (None, Some(only), None) => Ok(only.clone()),
            (None, Some(_), Some(_)) => {
                Err(format!("the certificate is that of {}: say as whom you log in", self.named()))
            }
            (None, None, _) => Err(format!("the certificate is that of {}, and not of a user", self.named())),
            (Some(name), ..) if self.holders.contains(&Holder::User(name.to_owned())) => Ok(name.to_owned()),
            (Some(name), ..) => {
                let (own, name) = (self.named(), shown(name));
                Err(format!(
                    "the certificate is that of {own}, and not of user `{name}`: `pomelo cert user {name}` makes its own"
                ))
            }
        }
    }

    fn named(&self) -> String {
        // A few are enough for a sentence.
        let named: Vec<String> = self.holders.iter().take(3).map(ToString::to_string).collect();
        let more = self.holders.len().saturating_sub(named.len());
        if more == 0 { named.join(" and of ") } else { format!("{} and {more} more", named.join(", ")) }
    }
}

/// The holders that a certificate names.
pub(super) fn holders(certificate: &X509Certificate<'_>) -> Vec<Holder> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Holder::parse(uri),
        _ => None,
    });
    uris.take(MAX_HOLDERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(server_type: &str, id: &str) -> Holder {
        Holder::Server { server_type: server_type.into(), id: id.into() }
    }

    #[test]
    fn holders_are_read_as_they_were_written() {
        let all = [server("chat", "chat-1"), server("a/b", "ü %2F/.."), Holder::User("admin".into())];
        for holder in all {
            assert!(holder.uri().is_ascii());
            assert_eq!(Holder::parse(&holder.uri()), Some(holder));
        }
        assert_eq!(server("chat", "a/b").uri(), "pomelo:server/chat/a%2Fb");
        let long = format!("pomelo:user/{}", "x".repeat(MAX_ID + 1));
        for wrong in [
            "pomelo:",
            "pomelo:server/chat",
            "pomelo:server/chat/",
            "pomelo:server//chat-1",
            "pomelo:server/chat/a/b",
            "pomelo:user/",
            "pomelo:user/%00",
            "pomelo:user/%ff",
            "pomelo:group/x",
            "https://example.org/user/x",
            &long,
        ] {
            assert_eq!(Holder::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_of_another_is_refused_with_both_names() {
        let chat = Certificate { holders: vec![server("chat", "chat-1")] };
        assert_eq!(chat.server("chat", "chat-1"), Ok(()));
        let other = chat.server("chat", "chat-2").unwrap_err();
        assert!(other.contains("`chat-1`") && other.contains("`chat-2`"), "{other}");
        let another_type = chat.server("gate", "chat-1").unwrap_err();
        assert!(another_type.contains("type `chat`") && another_type.contains("type `gate`"), "{another_type}");
        assert!(chat.user(Some("admin")).unwrap_err().contains("and not of user `admin`"));
        assert!(chat.user(None).unwrap_err().contains("server `chat-1`"));

        let bob = Certificate { holders: vec![Holder::User("bob".into())] };
        assert_eq!((bob.user(None).unwrap().as_str(), bob.user(Some("bob")).unwrap().as_str()), ("bob", "bob"));
        let other = bob.user(Some("admin")).unwrap_err();
        assert_eq!(
            other,
            "the certificate is that of user `bob`, and not of user `admin`: `pomelo cert user admin` makes its own"
        );
        assert!(bob.server("chat", "chat-1").unwrap_err().contains("user `bob`"));
        let two = Certificate { holders: vec![Holder::User("bob".into()), Holder::User("eve".into())] };
        assert_eq!(two.user(Some("eve")).unwrap(), "eve");
        assert!(two.user(None).unwrap_err().contains("`bob`"));
    }
}
