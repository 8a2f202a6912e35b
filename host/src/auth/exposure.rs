//! Whether users and tokens are safe enough for the address that a master listens on.

use std::net::IpAddr;

use super::{Tokens, Users};

/// An address to listen on, and what protects it.
#[derive(Clone, Copy)]
pub struct Exposure<'a> {
    /// The address that it would listen on.
    pub address: IpAddr,
    /// Whether monitors without a token need a certificate: `client_ca` in `[tls]`.
    pub certificates: bool,
    /// Who may log in.
    pub users: &'a Users,
    /// Which monitors may register.
    pub tokens: &'a Tokens,
    /// Whether the operator's own check stands in the place of the users.
    pub users_checked: bool,
    /// Whether the operator's own check stands in the place of the tokens.
    pub servers_checked: bool,
}

/// Why a listener is refused on an address that is not loopback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// Anybody would guess a user's password.
    #[error(
        "refused to listen on {address}: anybody would guess the password of {}. Give another with `pomelo user passwd`, \
         or listen on 127.0.0.1",
        users.join(", ")
    )]
    DefaultPasswords {
        /// The address.
        address: IpAddr,
        /// Whose passwords they are.
        users: Vec<String>,
    },
    /// Anybody could join as a monitor, because monitors need neither a token nor a certificate.
    #[error(
        "refused to listen on {address}: there is no adminServer.json with tokens, and [tls] has no `client_ca`, so anybody could \
         join as a monitor. Write that file, let `pomelo init --tls` show how certificates are made, or listen on 127.0.0.1 and let \
         others in through a tunnel"
    )]
    NeitherCertificatesNorTokens {
        /// The address.
        address: IpAddr,
    },
}

impl Exposure<'_> {
    /// On an address that others can reach, refuses guessable passwords, and the lack of both certificates and tokens. It may take some 100 ms for each user
    /// with a hashed password.
    ///
    /// # Errors
    /// [`Exposed`] says what to mend. Whether a flag overrides it is the caller's decision.
    pub fn check(&self) -> Result<(), Exposed> {
        let address = self.address;
        if address.to_canonical().is_loopback() {
            return Ok(());
        }
        let guessed = if self.users_checked { Vec::new() } else { self.users.with_default_passwords() };
        let users: Vec<String> = guessed.into_iter().map(str::to_owned).collect();
        if !users.is_empty() {
            return Err(Exposed::DefaultPasswords { address, users });
        }
        if !self.certificates && !self.tokens.required() && !self.servers_checked {
            return Err(Exposed::NeitherCertificatesNorTokens { address });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Level, StoredPassword, User};

    #[test]
    fn what_is_guessed_or_open_stays_on_loopback() {
        let users = |password: &str| {
            let password = StoredPassword::parse(password).unwrap();
            Users::new(vec![User { username: "admin".into(), password, level: Level::ADMIN }])
        };
        let check = |address: &str, password: &str, certificates, tokens: bool| {
            let tokens = Tokens::new(tokens.then(Vec::new));
            let users = users(password);
            let exposure = Exposure {
                address: address.parse().unwrap(),
                certificates,
                users: &users,
                tokens: &tokens,
                users_checked: false,
                servers_checked: false,
            };
            let checked = Exposure { users_checked: true, servers_checked: true, ..exposure };
            assert_eq!(checked.check(), Ok(()), "the operator's own checks stand in the place of both");
            exposure.check().map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!(check("127.0.0.1", "admin", false, false), "");
        assert_eq!(check("::1", "admin", false, false), "");
        assert_eq!(check("::ffff:127.0.0.1", "admin", false, false), "");
        assert!(check("0.0.0.0", "admin", true, true).contains("password of admin"));
        assert!(check("10.0.0.1", "x8-odd", false, false).contains("no adminServer.json"));
        assert_eq!(check("10.0.0.1", "x8-odd", true, false), "");
        assert_eq!(check("::", "x8-odd", false, true), "");
    }
}
