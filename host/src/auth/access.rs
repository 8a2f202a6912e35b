//! Who may connect: the configured users and tokens, or the operator's own checks in their place.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::external::{External, Question};
use super::password::Memory;
use super::turns::{LoginBounds, Turn, Turns};
use super::{AccessRefused, Level, Secret, Tokens, Users};

/// Passwords that are checked at the same time: two, or one on a machine with fewer than four processors. Each takes a processor and some 19 MiB for tens of
/// milliseconds, and the master needs processors for those who are let in.
fn running() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get() / 2).clamp(1, 2)
}

/// Who may connect. Users and tokens can be replaced while peers come and go.
pub struct Access {
    credentials: RwLock<(Users, Tokens)>,
    /// Counts replacements.
    generation: AtomicU64,
    user_check: Option<External>,
    server_check: Option<External>,
    /// Turns at checking a user, and a monitor where the operator's own check does that.
    logins: Turns,
    joins: Turns,
    clients_per_user: usize,
    /// What the passwords that are checked now do not use: at most as many as are checked at a time.
    memories: Arc<Mutex<Vec<Memory>>>,
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
            logins: Turns::new(running(), LoginBounds::default()),
            joins: Turns::new(running(), LoginBounds::default()),
            clients_per_user: LoginBounds::default().clients_per_user,
            memories: Arc::default(),
        }
    }

    /// Puts a check, if given, in the place of the users or of the tokens.
    #[must_use]
    pub fn checked_by(self, users: Option<External>, servers: Option<External>) -> Self {
        Access { user_check: users, server_check: servers, ..self }
    }

    /// Bounds the logins. To be called before the first one.
    #[must_use]
    pub fn bounded(self, bounds: LoginBounds) -> Self {
        let turns =
            |check: &Option<External>| Turns::new(check.as_ref().map_or_else(running, External::concurrent), bounds);
        Access {
            logins: turns(&self.user_check),
            joins: turns(&self.server_check),
            clients_per_user: bounds.clients_per_user,
            ..self
        }
    }

    /// How many clients of a user of that level may be connected at a time.
    pub fn clients_per_user(&self, level: Level) -> usize {
        if level == Level::ADMIN { usize::MAX } else { self.clients_per_user }
    }

    /// Whether that user has logged in from that address since this process has begun.
    pub fn has_logged_in(&self, address: IpAddr, username: &str) -> bool {
        self.logins.knows(address, username)
    }

    /// Returns the level of a user who is let in. With `md5`, `password` is the md5 of the password. A login that waits for its turn is given up when
    /// `gone` is cancelled; one that is being checked is not.
    ///
    /// # Errors
    /// [`AccessRefused`].
    pub async fn login(
        &self,
        id: &str,
        username: &str,
        password: Secret,
        md5: bool,
        address: Option<IpAddr>,
        gone: &CancellationToken,
    ) -> Result<Level, AccessRefused> {
        let turn = turn(&self.logins, address, username, gone).await?;
        let level = self.check(turn, id, username, password, md5, address).await?;
        self.logins.remember(address, username);
        Ok(level)
    }

    async fn check(
        &self,
        turn: Turn,
        id: &str,
        username: &str,
        password: Secret,
        md5: bool,
        address: Option<IpAddr>,
    ) -> Result<Level, AccessRefused> {
        if let Some(check) = &self.user_check {
            let question = Question::Client { id, username, password: password.expose(), md5, address };
            return check.level(&question).await;
        }
        let users = self.credentials.read().0.clone();
        let (memories, username) = (self.memories.clone(), username.to_owned());
        // The turn belongs to the work and not to the caller, because the work goes on when the caller gives up.
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut memory = memories.lock().pop().unwrap_or_default();
            let level = users.verify_in(&username, password.expose(), md5, &mut memory);
            memories.lock().push(memory);
            level
        });
        work.await.unwrap_or(Err(AccessRefused::Busy))
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
        gone: &CancellationToken,
    ) -> Result<(), AccessRefused> {
        if let Some(check) = &self.server_check {
            let _turn = turn(&self.joins, address, id, gone).await?;
            let asked = check.permits(&Question::Monitor { id, server_type, token, address }).await;
            if asked.is_ok() {
                self.joins.remember(address, id);
            }
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

/// Waits for a turn, or until the peer has gone.
async fn turn(
    turns: &Turns,
    address: Option<IpAddr>,
    name: &str,
    gone: &CancellationToken,
) -> Result<Turn, AccessRefused> {
    tokio::select! {
        biased;
        () = gone.cancelled() => Err(AccessRefused::Left),
        turn = turns.turn(address, name) => turn,
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
