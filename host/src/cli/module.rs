//! `module`: what authors do with files before they are shipped. Keys and signatures are those of minisign, so that its own tool can be used as well.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use tempfile::NamedTempFile;

use super::Exit;
use super::print;
use crate::trust;
use crate::util::{private, regular};

/// What a password of a key is asked by.
const PASSWORD: &str = "The key's password is asked for on a terminal, or taken from POMELO_KEY_PASSWORD.";
const VARIABLE: &str = "POMELO_KEY_PASSWORD";
/// The largest file that is signed: as large as a host may be configured to take. Bytes.
const MAX_FILE: u64 = 1 << 30;

#[derive(Args)]
pub(super) struct ModuleArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a pair of keys: KEY, which is secret, and KEY.pub
    #[command(after_help = PASSWORD)]
    Keygen {
        /// File for the secret key
        key: PathBuf,
        /// Do not protect the secret key by a password
        #[arg(long)]
        no_password: bool,
    },
    /// Sign a module's file, in its place: the signature becomes its last section
    #[command(after_help = PASSWORD)]
    Sign {
        /// The .wasm file
        file: PathBuf,
        /// File of the secret key
        #[arg(long, short = 'k')]
        key: PathBuf,
    },
}

pub(super) fn run(arguments: &ModuleArgs) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Keygen { key, no_password } => keygen(key, *no_password),
        Action::Sign { file, key } => sign(file, key),
    }
}

fn public_of(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The password from the environment, or from a terminal: `twice` where it is a new one.
fn password(twice: bool) -> anyhow::Result<String> {
    if let Ok(password) = std::env::var(VARIABLE) {
        return Ok(password);
    }
    let read = |prompt: &str| {
        rpassword::prompt_password(prompt).map_err(|error| {
            Exit::usage(format!("the key's password cannot be asked for ({error}): {VARIABLE} can have it"))
        })
    };
    let password = read("Password of the key: ")?;
    if twice && password != read("Once more: ")? {
        return Err(Exit::usage("the two passwords differ"));
    }
    Ok(password)
}

fn keygen(path: &Path, no_password: bool) -> anyhow::Result<()> {
    let public = public_of(path);
    // A key that is lost is lost for all files that were signed with it.
    if let Some(there) = [path, &public].into_iter().find(|path| path.exists()) {
        return Err(Exit::failed(format!("{} is there already, and is not written over", there.display())));
    }
    let failed = |error| anyhow::anyhow!("the keys cannot be made: {error}");
    let KeyPair { pk, sk } = match no_password {
        true => KeyPair::generate_unencrypted_keypair().map_err(failed)?,
        false => KeyPair::generate_encrypted_keypair(Some(password(true)?)).map_err(failed)?,
    };
    let secret = sk.to_box(Some("secret key of modules")).map_err(failed)?.into_string();
    let at = |path: &Path| format!("{} cannot be written", path.display());
    let mut file = private::options().write(true).create_new(true).open(path).with_context(|| at(path))?;
    file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()).with_context(|| at(path))?;
    let text = pk.to_box().map_err(failed)?.into_string();
    fs::write(&public, text).with_context(|| at(&public))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(print::lines(format!(
        "{} is secret: whoever has it can sign. These lines of pomelo.toml let files be signed with it, and no others:\n  [modules]\n  keys = {{ {name:?} = {:?} }}\n  require_signature = true",
        path.display(),
        pk.to_base64()
    ))?)
}

/// The secret key of a file.
fn secret(path: &Path) -> anyhow::Result<SecretKey> {
    let text = fs::read_to_string(path).with_context(|| format!("the key {} cannot be read", path.display()))?;
    let boxed = || SecretKeyBox::from_string(&text);
    let bad = |error| Exit::failed(format!("{}: {error}", path.display()));
    if let Ok(key) = boxed().map_err(bad)?.into_unencrypted_secret_key() {
        return Ok(key);
    }
    boxed().map_err(bad)?.into_secret_key(Some(password(false)?)).map_err(bad)
}

fn sign(path: &Path, key: &Path) -> anyhow::Result<()> {
    let bytes = regular::read(path, MAX_FILE).map_err(|why| Exit::failed(format!("{}: {why}", path.display())))?;
    if !bytes.starts_with(b"\0asm") {
        return Err(Exit::failed(format!("{} is not a WebAssembly file", path.display())));
    }
    let unsigned = trust::unsigned(&bytes).map_err(|why| Exit::failed(format!("{}: {why}", path.display())))?;
    let key = secret(key)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let comment = format!("file:{name}");
    let signature = minisign::sign(None, &key, unsigned, Some(&comment), Some("signature of a module"))
        .map_err(|error| anyhow::anyhow!("{} cannot be signed: {error}", path.display()))?;
    let signed = trust::signed(unsigned, &signature.into_string());
    if trust::unsigned(&signed).ok() != Some(unsigned) {
        return Err(Exit::failed(format!(
            "{} is not a whole WebAssembly file, so that no host would find its signature",
            path.display()
        )));
    }
    // Beside the file, so that it takes its place in one step, whoever follows the directory.
    let written = || -> std::io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::with_prefix_in(".sign-", directory)?;
        file.write_all(&signed)?;
        file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(print::line(format!("{} is signed", path.display()))?)
}
