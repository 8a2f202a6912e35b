//! Who may connect: the configured users and tokens, or the operator's own checks in their place.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::external::{External, Question};
use super::{AccessRefused, Level, Tokens, Users};

/// Who may connect. Users and tokens can be replaced while peers come and go.
pub struct Access {
    credentials: RwLock<(Users, Tokens)>,
    /// Counts replacements.
    generation: AtomicU64,
    user_check: Option<External>,
    server_check: Option<External>,
}

impl Access {
    /// Lets in these users, and monitors with these tokens.
    pub fn new(users: Users, tokens: Tokens) -> Self {
        users.warn_of_plain_passwords();
        Access {
            credentials: RwLock::new((users, tokens)),
            generation: AtomicU64::new(0),
            user_check: None,
            server_check: None,
        }
    }

    /// Puts a check, if given, in the place of the users or of the tokens.
    #[must_use]
    pub fn checked_by(self, users: Option<External>, servers: Option<External>) -> Self {
        Access { user_check: users, server_check: servers, ..self }
    }

    /// Returns the level of a user who is let in. With `md5`, `password` is the md5 of the password.
    ///
    /// # Errors
    /// [`AccessRefused`].
    pub async fn login(
        &self,
        id: &str,
        username: &str,
        password: String,
        md5: bool,
        address: Option<IpAddr>,
    ) -> Result<Level, AccessRefused> {
        if let Some(check) = &self.user_check {
            let question = Question::Client { id, username, password: &password, md5, address };
            return check.level(&question).await;
        }
        let users = self.credentials.read().0.clone();
        users.login(username.to_owned(), password, md5).await
    }

    /// Returns the level of a user who has shown a certificate, and so needs no password. The operator's own check is not asked.
    ///
    /// # Errors
    /// [`AccessRefused::NoUser`].
    pub fn certified(&self, username: &str) -> Result<Level, AccessRefused> {
        self.credentials.read().0.get(username).map(|user| user.level).ok_or(AccessRefused::NoUser)
    }

    /// Whether monitors are checked, against tokens or by the operator's own check.
    pub fn checks_servers(&self) -> bool {
        self.server_check.is_some() || self.credentials.read().1.required()
    }

    /// Whether the operator's own check stands in the place of the tokens.
    pub fn has_server_check(&self) -> bool {
        self.server_check.is_some()
    }

    /// Whether servers of that type still have the token of that digest. Always true with the operator's own check, because it cannot be asked again.
    pub fn has_token(&self, server_type: &str, digest: &str) -> bool {
        self.has_server_check() || self.credentials.read().1.has(server_type, digest)
    }

    /// Checks a monitor of that type.
    ///
    /// # Errors
    /// [`AccessRefused::Token`] where the token is not that of the type; otherwise as [`Access::login`].
    pub async fn monitor(
        &self,
        id: &str,
        server_type: &str,
        token: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), AccessRefused> {
        if let Some(check) = &self.server_check {
            let asked = check.permits(&Question::Monitor { id, server_type, token, address }).await;
            return asked
                .map_err(|refused| if refused == AccessRefused::Wrong { AccessRefused::Token } else { refused });
        }
        if self.credentials.read().1.verify(server_type, token) { Ok(()) } else { Err(AccessRefused::Token) }
    }

    /// How often users and tokens have been replaced.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Replaces users and tokens. The returned function says of a user's name whether the user is gone or has another password or level. With the
    /// operator's own check it returns false for users who were not among these, because only those with a certificate are let in by them.
    pub fn replace(&self, users: Users, tokens: Tokens) -> impl Fn(&str) -> bool + use<> {
        users.warn_of_plain_passwords();
        let after = users.clone();
        let (before, _) = std::mem::replace(&mut *self.credentials.write(), (users, tokens));
        self.generation.fetch_add(1, Ordering::AcqRel);
        let own_check = self.user_check.is_some();
        move |name| (!own_check || before.get(name).is_some()) && before.get(name) != after.get(name)
    }
}
