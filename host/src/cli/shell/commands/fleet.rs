//! `describe`, `jobs`, `plan` and `apply`: what the program's subcommands of the same names do.

use super::super::super::arguments::{Following, Pace};
use super::super::super::jobs::{self, JobAction};
use super::super::super::{list, plan};
use super::super::Shell;
use super::super::misuse::Misuse;
use super::{Arguments, Candidates, Command};

pub(super) const DESCRIBE: Command = Command {
    name: "describe",
    summary: "show all that is known of a server",
    usage: "describe [<serverId>]",
    help: "Its state and why, what is wanted, its last ends, its job, its modules. Without\n\
           an id, of the server chosen with `use`.\n\
           \n  describe chat-server-1",
    complete: |before| if before.is_empty() { vec![Candidates::Servers] } else { vec![] },
    run: |shell, arguments| Box::pin(describe(shell, arguments)),
};

async fn describe(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let id = match *arguments.words() {
        [] => shell.context.server("describe")?,
        [id] if !id.is_empty() => id,
        _ => return Err(Misuse::words("one server")),
    };
    list::describe(&*shell.master().await?, id).await
}

pub(super) const JOBS: Command = Command {
    name: "jobs",
    summary: "show what is done and was done with servers, and by whom",
    usage: "jobs\njobs <number> [-f|--cancel|--resume]",
    help: "-f shows how far the job is, until it is over or Ctrl-C is pressed. --cancel\n\
           leaves undone what was not begun. --resume lets a job go on that has paused\n\
           because a server failed.\n\
           \n  jobs 7 -f",
    complete: |before| match before {
        [_] => vec![Candidates::Words(&["--cancel", "--resume", "-f"])],
        _ => vec![],
    },
    run: |shell, arguments| Box::pin(jobs(shell, arguments)),
};

async fn jobs(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let (id, action) = which(arguments.words())?;
    shell.follows = action == JobAction::Follow;
    jobs::jobs(&*shell.master().await?, id, action).await
}

/// The job that is meant, and what is to be done with it.
fn which(words: &[&str]) -> anyhow::Result<(Option<u64>, JobAction)> {
    let number = |word: &str| word.parse().map_err(|_| Misuse::words("a job is a number: `jobs` shows them"));
    match *words {
        [] => Ok((None, JobAction::Show)),
        [id] => Ok((Some(number(id)?), JobAction::Show)),
        [id, option] => {
            let action = match option {
                "-f" | "--follow" => JobAction::Follow,
                "--cancel" => JobAction::Cancel,
                "--resume" => JobAction::Resume,
                other => return Err(Misuse::words(format!("there is no option {other}"))),
            };
            Ok((Some(number(id)?), action))
        }
        _ => Err(Misuse::words("one job, and one option at most")),
    }
}

pub(super) const PLAN: Command = Command {
    name: "plan",
    summary: "show how the files of the configuration differ from what runs",
    usage: "plan",
    help: "+ is a server that is new, ~ one that has changed, - one that is gone; then\n\
           settings, and when each is taken. `apply` takes them over.",
    complete: |_| vec![],
    run: |shell, arguments| Box::pin(plan(shell, arguments)),
};

async fn plan(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    if !arguments.words().is_empty() {
        return Err(Misuse::words("no words"));
    }
    plan::plan(&*shell.master().await?).await
}

pub(super) const APPLY: Command = Command {
    name: "apply",
    summary: "take the files of the configuration over",
    usage: "apply",
    help: "Settings at once; servers that are new are started, those that have changed\n\
           restart one after another, those that are gone drain and end. `pomelo apply\n\
           --help` tells of more servers at a time, and of pauses.",
    complete: |_| vec![],
    run: |shell, arguments| Box::pin(apply(shell, arguments)),
};

async fn apply(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    if !arguments.words().is_empty() {
        return Err(Misuse::words("no words"));
    }
    let master = shell.master().await?;
    let agree = async || shell.confirm("do this").await;
    plan::apply(&master, agree, Pace::default(), Following::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_number_with_one_thing_to_be_done() {
        let read = |words: &[&str]| which(words).map_err(|error| error.to_string());
        assert_eq!(read(&[]), Ok((None, JobAction::Show)));
        assert_eq!(read(&["7"]), Ok((Some(7), JobAction::Show)));
        assert_eq!(read(&["7", "-f"]), Ok((Some(7), JobAction::Follow)));
        assert_eq!(read(&["7", "--cancel"]), Ok((Some(7), JobAction::Cancel)));
        assert_eq!(read(&["7", "--resume"]), Ok((Some(7), JobAction::Resume)));
        for (wrong, said) in
            [(&["x"][..], "a number"), (&["-f"], "a number"), (&["7", "-x"], "-x"), (&["7", "8", "9"], "one job")]
        {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
