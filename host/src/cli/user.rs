//! `user add`, `remove`, `list`, `passwd`: changes of `adminUser.json`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::print::{self, Unprinted};
use super::{Exit, table};
use crate::auth::{Level, Users, hash_password};
use crate::config::{DEFAULT_ENVIRONMENT, UserFile};

/// The longest password that is read, bytes.
const MAX_PASSWORD: u64 = 1024;

#[derive(Args)]
pub(super) struct UserArgs {
    /// Directory of the configuration
    #[arg(long, short = 'c', global = true, default_value = ".")]
    config: PathBuf,
    /// Environment of the configuration
    #[arg(long, short = 'e', global = true, default_value = DEFAULT_ENVIRONMENT)]
    env: String,
    #[command(subcommand)]
    action: Action,
}

// The password is never an argument, because everybody on the machine could read it there.
const PASSWORD: &str = "The password is asked for on a terminal, or taken from POMELO_NEW_PASSWORD, or read from the first line of standard input.";

#[derive(Subcommand)]
enum Action {
    /// Add a user
    #[command(after_help = PASSWORD)]
    Add {
        /// The user's name
        name: String,
        /// 1 may do everything, others what modules declare readable for their level
        #[arg(long, short = 'l', default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
        level: u32,
    },
    /// Remove a user
    Remove {
        /// The user's name
        name: String,
        /// Even the last one of level 1
        #[arg(long)]
        force: bool,
    },
    /// Show the users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a user another password
    #[command(after_help = PASSWORD)]
    Passwd {
        /// The user's name
        name: String,
    },
}

pub(super) fn run(arguments: UserArgs) -> anyhow::Result<()> {
    let UserArgs { config, env, action } = arguments;
    let open = || UserFile::open(&config, &env);
    match action {
        Action::Add { name, level } => {
            // The file is opened twice: a refusal must come before the question for the password, and the file must not stay locked while it is
            // typed.
            open()?.add(&name, "", Level(level))?;
            let stored = new_password(&name)?;
            let mut file = open()?;
            file.add(&name, &stored, Level(level))?;
            saved(file, &format!("{name} may log in, at level {level}"))
        }
        Action::Remove { name, force } => {
            let mut file = open()?;
            file.remove(&name, force)?;
            saved(file, &format!("{name} was removed"))
        }
        Action::Passwd { name } => {
            open()?.set_password(&name, "")?;
            let stored = new_password(&name)?;
            let mut file = open()?;
            file.set_password(&name, &stored)?;
            saved(file, &format!("{name} has another password"))
        }
        Action::List { json } => Ok(list(&open()?, json)?),
    }
}

fn saved(file: UserFile, what: &str) -> anyhow::Result<()> {
    let path = file.path().to_owned();
    file.save()?;
    Ok(print::line(format!(
        "{what}: {} was written. A running master takes it over within two seconds.",
        path.display()
    ))?)
}

fn list(file: &UserFile, json: bool) -> Result<(), Unprinted> {
    let stored = |plain| if plain { "in clear" } else { "argon2id" };
    if json {
        let users = file.users().iter().map(
            |user| json!({ "username": user.username, "level": user.level.0, "password": stored(user.password.is_plain()) }),
        );
        return print::line(json!(users.collect::<Vec<_>>()));
    }
    let row = |user: &crate::auth::User| {
        vec![user.username.clone(), user.level.0.to_string(), stored(user.password.is_plain()).to_owned()]
    };
    table::print(&["user", "level", "password"], file.users().iter().map(row).collect())
}

/// Asks for a password and returns its stored form.
fn new_password(name: &str) -> anyhow::Result<String> {
    let password = match std::env::var("POMELO_NEW_PASSWORD") {
        Ok(password) => password,
        Err(_) if std::io::stdin().is_terminal() => ask(name)?,
        Err(_) => first_line()?,
    };
    if password.is_empty() {
        return Err(Exit::usage("the password is empty"));
    }
    if password.starts_with("$argon2") {
        return Err(Exit::usage("that is a stored password, not the password itself"));
    }
    let stored = hash_password(&password)?;
    if Users::guessable(name, &password) {
        print::note(
            "pomelo: anybody would guess that password; a master on other addresses than loopback refuses to start with it",
        );
    }
    Ok(stored)
}

fn ask(name: &str) -> anyhow::Result<String> {
    let read = |prompt: &str| rpassword::prompt_password(prompt).context("the password cannot be read");
    let password = read(&format!("New password of {name}: "))?;
    if !password.is_empty() && read("The same again: ")? != password {
        return Err(Exit::usage("the two are not the same; nothing was changed"));
    }
    Ok(password)
}

fn first_line() -> anyhow::Result<String> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(MAX_PASSWORD + 2).read_to_end(&mut text).context("the password cannot be read")?;
    let text = String::from_utf8(text).context("the password is not UTF-8")?;
    let line = text.lines().next().unwrap_or_default();
    if line.len() as u64 > MAX_PASSWORD {
        return Err(Exit::usage(format!("the password is longer than {MAX_PASSWORD} bytes")));
    }
    Ok(line.to_owned())
}
