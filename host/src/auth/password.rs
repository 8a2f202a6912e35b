//! Passwords as `adminUser.json` holds them, and the comparison.
//!
//! pomelo's own tools send the md5 of a password. Therefore the md5 in hexadecimal is what is hashed and compared. A password that a client sends in
//! clear is first turned into its md5.

use std::fmt;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use md5::{Digest, Md5};
use subtle::{Choice, ConstantTimeEq};

/// The most memory that a stored hash may ask for, KiB, because a login must not exhaust the host.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// The most passes that a stored hash may ask for.
const MAX_PASSES: u32 = 16;

/// A password as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// In clear in the file, as pomelo has it. Kept as its md5.
    Plain { md5: String },
    /// `$argon2id$…` of the md5.
    Argon2(String),
}

/// Why a stored password cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStoredPassword {
    /// Begins like a hash, but is not a hash of argon2id.
    #[error("the password begins like a hash, but is no argon2id hash in PHC form")]
    Malformed,
    /// Asks for more memory or passes than this host permits.
    #[error("the password's hash asks for more than {MAX_MEMORY_KIB} KiB or {MAX_PASSES} passes")]
    TooCostly,
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct HashError(argon2::password_hash::Error);

impl StoredPassword {
    /// Parses a password of `adminUser.json`.
    ///
    /// # Errors
    /// If it begins with `$argon2` and is not a usable hash, because such a text is hardly a password in clear.
    pub fn parse(text: &str) -> Result<Self, BadStoredPassword> {
        if !text.starts_with("$argon2") {
            return Ok(StoredPassword(Form::Plain { md5: md5_hex(text) }));
        }
        let hash = PasswordHash::new(text).map_err(|_| BadStoredPassword::Malformed)?;
        let complete = hash.algorithm.as_str() == "argon2id" && hash.salt.is_some() && hash.hash.is_some();
        let params = argon2::Params::try_from(&hash).map_err(|_| BadStoredPassword::Malformed)?;
        if !complete {
            return Err(BadStoredPassword::Malformed);
        }
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
            return Err(BadStoredPassword::TooCostly);
        }
        Ok(StoredPassword(Form::Argon2(text.to_owned())))
    }

    /// Whether it is stored in clear.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, Form::Plain { .. })
    }

    /// The hash; absent if the password is stored in clear.
    pub(super) fn hash(&self) -> Option<&str> {
        match &self.0 {
            Form::Plain { .. } => None,
            Form::Argon2(hash) => Some(hash),
        }
    }

    /// Compares with the md5 of a password, in time that depends on the form alone.
    pub(super) fn matches(&self, md5: &str, memory: &mut Memory) -> bool {
        match &self.0 {
            Form::Plain { md5: stored } => same(stored, md5).into(),
            Form::Argon2(hash) => verify_hash(hash, md5, memory),
        }
    }
}

/// Never shows the password.
impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_plain() { "StoredPassword(in clear)" } else { "StoredPassword(argon2id)" })
    }
}

/// The stored form of a password: argon2id, with a salt of its own, of the password's md5.
///
/// # Errors
/// If the system gives no random salt.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    let hash = Argon2::default().hash_password(md5_hex(password).as_bytes()).map_err(HashError)?;
    Ok(hash.to_string())
}

/// The memory that a verification works in. It grows to what the costliest hash asks for (19 MiB for those of [`hash_password`]), and is used again,
/// because memory that is asked for anew each time is scattered over the allocator's arenas and never given back.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

/// Verifies the md5 of a password against a hash, in time that depends on the hash alone.
pub(super) fn verify_hash(hash: &str, md5: &str, memory: &mut Memory) -> bool {
    let mut computed = || -> Option<bool> {
        let hash = PasswordHash::new(hash).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let (salt, stored) = (hash.salt?, hash.hash?);
        let blocks = params.block_count();
        if memory.0.len() < blocks {
            memory.0.resize(blocks, Block::new());
        }
        let mut output = vec![0; stored.len()];
        let argon2 = Argon2::new(algorithm, version, params);
        argon2
            .hash_password_into_with_memory(md5.as_bytes(), salt.as_ref(), &mut output, &mut memory.0[..blocks])
            .ok()?;
        Some(output.ct_eq(stored.as_bytes()).into())
    };
    computed().unwrap_or(false)
}

/// The md5 of a text in hexadecimal, lower case.
pub(super) fn md5_hex(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}

/// Compares two texts in time that depends on their lengths alone.
pub(super) fn same(a: &str, b: &str) -> Choice {
    a.as_bytes().ct_eq(b.as_bytes())
}
