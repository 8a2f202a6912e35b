//! `events` and `logs`, as the subcommands of the program.

use super::super::super::arguments::LOG_LINES;
use super::super::super::watch::{self, LogQuery};
use super::super::Shell;
use super::super::misuse::Misuse;
use super::{Arguments, Candidates, Command};

pub(super) const EVENTS: Command = Command {
    name: "events",
    summary: "show what has happened in the cluster",
    usage: "events [-f] [--since <number>]",
    help: "Joins, exits, restarts, reloads, refusals, alarms. -f keeps printing new\n\
           events until Ctrl-C; --since shows only events with a higher number.\n\
           \n  events -f",
    complete: |before| match before {
        [.., "--since"] => vec![],
        _ => vec![Candidates::Words(&["--since", "-f"])],
    },
    run: |shell, arguments| Box::pin(events(shell, arguments)),
};

async fn events(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let FollowOptions { follow, number, name } = FollowOptions::parse(arguments.words(), "--since")?;
    if name.is_some() {
        return Err(Misuse::words("`events` takes no server"));
    }
    shell.follows = follow;
    watch::events(shell.connection.admin().clone(), follow, number.unwrap_or(0)).await
}

pub(super) const LOGS: Command = Command {
    name: "logs",
    summary: "show what a server's program writes",
    usage: "logs [<serverId>] [-f] [-n <lines>]",
    help: "Without an id, of the server chosen with `use`. -f keeps printing new lines\n\
           until Ctrl-C; -n is how many of the last lines to begin with, 100 without it.\n\
           \n  logs chat-server-1 -n 20\n  logs -f",
    complete: |before| match before {
        [.., "-n"] => vec![],
        [] => vec![Candidates::Words(&["-f", "-n"]), Candidates::Servers],
        _ => vec![Candidates::Words(&["-f", "-n"])],
    },
    run: |shell, arguments| Box::pin(logs(shell, arguments)),
};

async fn logs(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let FollowOptions { follow, number, name } = FollowOptions::parse(arguments.words(), "-n")?;
    let lines =
        number.map_or(Ok(LOG_LINES), u32::try_from).map_err(|_| Misuse::words("that is too high a number of lines"))?;
    let server = match name {
        Some(server) => server,
        None => shell.context.server("logs")?,
    };
    shell.follows = follow;
    let query = LogQuery { ids: vec![server.to_owned()], follow, lines: Some(lines), ..LogQuery::default() };
    watch::logs(shell.connection.admin().clone(), query).await
}

/// What may follow the word `events` or `logs`.
#[derive(Debug, Default, PartialEq)]
struct FollowOptions<'a> {
    /// `-f`.
    follow: bool,
    /// What stands behind the option that takes a number.
    number: Option<u64>,
    name: Option<&'a str>,
}

impl<'a> FollowOptions<'a> {
    /// Reads the words, in any order; `counted` is the option that takes a number.
    fn parse(words: &[&'a str], counted: &str) -> anyhow::Result<FollowOptions<'a>> {
        let mut options = FollowOptions::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "-f" | "--follow" => options.follow = true,
                word if word == counted => {
                    let number = words.next().and_then(|number| number.parse().ok());
                    options.number = Some(number.ok_or_else(|| Misuse::words(format!("{counted} takes a number")))?);
                }
                word if word.starts_with('-') => return Err(Misuse::words(format!("there is no option {word}"))),
                word if options.name.replace(word).is_some() => return Err(Misuse::words("one server at most")),
                _ => {}
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_in_any_order_and_wrong_ones_are_named() {
        let read = |words: &[&'static str]| FollowOptions::parse(words, "-n").map_err(|error| error.to_string());
        let both = FollowOptions { follow: true, number: Some(5), name: Some("chat-1") };
        assert_eq!(read(&["chat-1", "-f", "-n", "5"]).unwrap(), both);
        assert_eq!(read(&["-n", "5", "--follow", "chat-1"]).unwrap(), both);
        assert_eq!(read(&[]).unwrap(), FollowOptions::default());
        for (wrong, said) in
            [(&["-n"][..], "-n takes"), (&["-n", "x"], "-n takes"), (&["--x"], "--x"), (&["a", "b"], "one")]
        {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
