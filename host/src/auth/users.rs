//! Users and the verification of their passwords.

use std::sync::Arc;

use super::password::{Memory, hash_password, md5_hex, verify_hash};
use super::{Level, StoredPassword};
use crate::failure::{Failure, code};

/// A user of `adminUser.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Unique.
    pub username: String,
    /// The password as it is stored.
    pub password: StoredPassword,
    /// What the user may do.
    pub level: Level,
}

/// Why a peer was not let in. Unknown users and wrong passwords are not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessRefused {
    /// No such user, or another password.
    #[error("unknown user or wrong password")]
    Wrong,
    /// Too many verifications are under way.
    #[error("too many logins wait to be checked (`[network] logins`, `[auth] concurrent`), try again later")]
    Busy,
    /// Too many logins of this address, or of this user from it, wait to be checked.
    #[error("too many logins of this address wait to be checked (`[network] logins_per_address`), try again later")]
    BusyAddress,
    /// The login has waited for too long to be checked.
    #[error("the login has waited for too long to be checked (`[network] login_wait_ms`), try again later")]
    Late,
    /// The peer has left before its login was checked.
    #[error("it has left before it was checked")]
    Left,
    /// A monitor's token is not that of its type.
    #[error("the token is not that of servers of this type")]
    Token,
    /// A certificate's user is not among the users.
    #[error("the certificate is that of a user who is not in adminUser.json")]
    NoUser,
    /// The operator's own check gave no usable answer.
    #[error("logins cannot be checked now; the master's log says why")]
    Unavailable,
}

impl AccessRefused {
    /// Whether this was a guess: a password or token that was checked and is wrong.
    pub fn is_guess(self) -> bool {
        matches!(self, AccessRefused::Wrong | AccessRefused::Token)
    }

    /// The code of the failure that the peer is sent.
    pub fn code(self) -> &'static str {
        match self {
            AccessRefused::Wrong | AccessRefused::Token | AccessRefused::NoUser => code::FORBIDDEN,
            AccessRefused::Busy | AccessRefused::BusyAddress | AccessRefused::Late => code::BUSY,
            AccessRefused::Left => code::DISCONNECTED,
            AccessRefused::Unavailable => code::NOT_AVAILABLE,
        }
    }
}

impl From<AccessRefused> for Failure {
    fn from(refused: AccessRefused) -> Self {
        Failure::new(refused.code(), refused.to_string())
    }
}

/// The users, ready to be verified.
#[derive(Clone, Debug)]
pub struct Users(Arc<UserTable>);

#[derive(Debug)]
struct UserTable {
    users: Vec<User>,
    /// A hash that is no user's. It is verified for unknown users and for users with a password in clear, so that they take as long as users with a
    /// hash. Absent if no user has a hash.
    decoy: Option<String>,
}

impl Users {
    /// Takes the users of a configuration.
    pub fn new(users: Vec<User>) -> Self {
        let hashed = users.iter().find_map(|user| user.password.hash());
        // If there is no random salt, a user's own hash serves, because the result is not used.
        let decoy = hashed.map(|hash| hash_password("").unwrap_or_else(|_| hash.to_owned()));
        Users(Arc::new(UserTable { users, decoy }))
    }

    /// Verifies a password, or with `md5` the md5 of one, and gives the user's level.
    ///
    /// This blocks the thread while the hash is computed. Use [`Access::login`](super::Access::login) in asynchronous code.
    ///
    /// # Errors
    /// [`AccessRefused::Wrong`].
    pub fn verify(&self, username: &str, password: &str, md5: bool) -> Result<Level, AccessRefused> {
        self.verify_in(username, password, md5, &mut Memory::default())
    }

    /// [`Users::verify`] in memory that is used again.
    pub(super) fn verify_in(
        &self,
        username: &str,
        password: &str,
        md5: bool,
        memory: &mut Memory,
    ) -> Result<Level, AccessRefused> {
        let table = &self.0;
        let md5 = if md5 { password.to_ascii_lowercase() } else { md5_hex(password) };
        let user = table.users.iter().find(|user| user.username == username);
        let matches = user.is_some_and(|user| user.password.matches(&md5, memory));
        if let Some(decoy) = &table.decoy
            && user.is_none_or(|user| user.password.is_plain())
        {
            std::hint::black_box(verify_hash(decoy, &md5, memory));
        }
        match user {
            Some(user) if matches => Ok(user.level),
            _ => Err(AccessRefused::Wrong),
        }
    }

    /// The user of that name.
    pub fn get(&self, username: &str) -> Option<&User> {
        self.0.users.iter().find(|user| user.username == username)
    }

    /// Whether anybody would guess a password. [`Users::with_default_passwords`] tries the same passwords.
    pub fn guessable(username: &str, password: &str) -> bool {
        guesses(username).any(|guess| guess == password)
    }

    /// Says in the log whose passwords are stored in clear.
    pub(super) fn warn_of_plain_passwords(&self) {
        let plain = self.0.users.iter().filter(|user| user.password.is_plain()).map(|user| user.username.as_str());
        let plain: Vec<&str> = plain.collect();
        if !plain.is_empty() {
            tracing::warn!(
                users = plain.join(", "),
                "passwords are stored in clear; adminUser.json may have `$argon2id$…` of their md5 instead"
            );
        }
    }

    /// Whether there is no user at all.
    pub fn is_empty(&self) -> bool {
        self.0.users.is_empty()
    }

    /// Names of users whose password anybody would guess: pomelo's defaults, and passwords that are the user's name.
    pub fn with_default_passwords(&self) -> Vec<&str> {
        let mut memory = Memory::default();
        let users =
            self.0.users.iter().filter(|user| {
                guesses(&user.username).any(|guess| user.password.matches(&md5_hex(guess), &mut memory))
            });
        users.map(|user| user.username.as_str()).collect()
    }
}

/// The passwords that anybody would try for that user.
fn guesses(username: &str) -> impl Iterator<Item = &str> {
    [username, "admin", "monitor", "test", "password", "pomelo"].into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let user = |name: &str, password: &str, level| User {
            username: name.into(),
            password: StoredPassword::parse(password).unwrap(),
            level: Level(level),
        };
        Users::new(vec![
            user("admin", "admin", 1),
            user("hashed", &hash_password("s3cret").unwrap(), 2),
            user("strong", "kH7-long-and-odd", 2),
        ])
    }

    #[test]
    fn a1_passwords_are_taken_plain_and_as_md5_and_stored_plain_and_hashed() {
        let users = users();
        let check = |name: &str, password: &str, md5, expected| {
            assert_eq!(users.verify(name, password, md5), expected, "{name} {password}");
        };
        check("admin", "admin", false, Ok(Level(1)));
        check("admin", "21232f297a57a5a743894a0e4a801fc3", true, Ok(Level(1)));
        check("admin", "21232F297A57A5A743894A0E4A801FC3", true, Ok(Level(1)));
        check("hashed", "s3cret", false, Ok(Level(2)));
        check("hashed", &md5_hex("s3cret"), true, Ok(Level(2)));
        check("admin", "Admin", false, Err(AccessRefused::Wrong));
        check("admin", "admin", true, Err(AccessRefused::Wrong));
        check("admin", "", true, Err(AccessRefused::Wrong));
        check("hashed", "admin", false, Err(AccessRefused::Wrong));
        check("nobody", "admin", false, Err(AccessRefused::Wrong));
        check("hashed", users.0.decoy.as_deref().unwrap(), false, Err(AccessRefused::Wrong));
        check("nobody", "", false, Err(AccessRefused::Wrong));
    }

    #[test]
    fn a_stored_hash_that_cannot_be_used_is_refused() {
        let check = |text, expected| assert_eq!(StoredPassword::parse(text).unwrap_err(), expected, "{text}");
        check("$argon2id$", BadStoredPassword::Malformed);
        check("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ", BadStoredPassword::Malformed);
        let costly = hash_password("x").unwrap().replace("m=19456", "m=4000000");
        check(&costly, BadStoredPassword::TooCostly);
        let other = hash_password("x").unwrap().replace("argon2id", "argon2i");
        check(&other, BadStoredPassword::Malformed);
    }

    #[test]
    fn default_passwords_are_found_in_either_form_and_never_shown() {
        assert_eq!(users().with_default_passwords(), ["admin"]);
        let hashed = StoredPassword::parse(&hash_password("monitor").unwrap()).unwrap();
        let users = Users::new(vec![User { username: "monitor".into(), password: hashed, level: Level(2) }]);
        assert_eq!(users.with_default_passwords(), ["monitor"]);
        assert!(!format!("{:?}", super::tests::users()).contains("kH7"));
    }

    use crate::auth::BadStoredPassword;
}
