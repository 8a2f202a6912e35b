//! `dump`: a profile of a server, or of its memory, in a file of this machine.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::super::exit::Exit;
use super::super::super::print;
use super::super::Shell;
use super::super::misuse::Misuse;
use super::{Arguments, Candidates, Command};

pub(super) const DUMP: Command = Command {
    name: "dump",
    summary: "write a profile of the server to a file",
    usage: "dump cpu <file> <seconds> [--force]\ndump memory <file> [--force]",
    help: "For the server chosen with `use`. The file is written on this machine;\n\
           --force replaces one that exists.\n\
           \n  dump cpu /tmp/chat.cpuprofile 5\n  dump memory /tmp/chat.json --force",
    complete: |before| match before {
        [] => vec![Candidates::Words(&["cpu", "memory"])],
        ["cpu" | "memory"] => vec![Candidates::Files],
        [.., "--force"] => vec![],
        ["cpu", _, _] | ["memory", _] => vec![Candidates::Words(&["--force"])],
        _ => vec![],
    },
    run: |shell, arguments| Box::pin(dump(shell, arguments)),
};

/// What is to be dumped, and into which file.
#[derive(Debug, PartialEq)]
struct Dump<'a> {
    what: &'a str,
    file: &'a str,
    seconds: Option<u32>,
    force: bool,
}

impl<'a> Dump<'a> {
    fn parse(words: &[&'a str]) -> anyhow::Result<Dump<'a>> {
        let (words, force) = match words {
            [words @ .., "--force"] => (words, true),
            words => (words, false),
        };
        match *words {
            ["cpu", file, seconds] => match seconds.parse() {
                Ok(seconds @ 1..) => Ok(Dump { what: "cpu", file, seconds: Some(seconds), force }),
                _ => Err(Misuse::words("the seconds are a whole number, 1 at least")),
            },
            ["cpu", _] => Err(Misuse::words("for how many seconds?")),
            ["memory", file] => Ok(Dump { what: "memory", file, seconds: None, force }),
            _ => Err(Misuse::words("`cpu` or `memory`, and a file")),
        }
    }
}

async fn dump(shell: &mut Shell, arguments: Arguments<'_>) -> anyhow::Result<()> {
    let dump = Dump::parse(arguments.words())?;
    shell.context.server("dump")?;
    let file = Path::new(dump.file);
    // Checked before the server is asked.
    writable(file, dump.force)?;
    let param = json!({ "filepath": dump.file, "times": dump.seconds, "force": dump.force });
    let takes = Duration::from_secs(dump.seconds.unwrap_or_default().into());
    let answer = shell.watch_server_for(dump.what, param, takes).await?;
    let bytes = write(file, dump.force, &answer)?;
    Ok(print::line(format!("{}: {bytes} bytes", file.display()))?)
}

fn writable(file: &Path, force: bool) -> anyhow::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        return Err(Exit::failed(format!("there is no directory {}", directory.display())));
    }
    match fs::symlink_metadata(file) {
        Ok(there) if there.is_dir() => Err(Exit::failed(format!("{} is a directory", file.display()))),
        Ok(_) if !force => Err(exists(file)),
        _ => Ok(()),
    }
}

/// Writes an answer to a file, whole or not at all; returns the bytes.
///
/// # Errors
/// Where the answer is a sentence instead of a profile, and where the file cannot be written.
fn write(file: &Path, force: bool, answer: &RawValue) -> anyhow::Result<usize> {
    if let Value::String(words) = serde_json::from_str(answer.get())? {
        return Err(Exit::failed(format!(
            "{} was not written, because the server answers in words: {words}",
            file.display()
        )));
    }
    let content = answer.get();
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut temporary| {
        temporary.write_all(content.as_bytes())?;
        Ok(temporary)
    });
    let written = written.with_context(|| format!("{} cannot be written", file.display()))?;
    let placed: Result<File, _> = if force { written.persist(file) } else { written.persist_noclobber(file) };
    match placed {
        Ok(_) => Ok(content.len()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(file)),
        Err(error) => Err(error.error).with_context(|| format!("{} cannot be written", file.display())),
    }
}

fn exists(file: &Path) -> anyhow::Error {
    Exit::failed(format!("{} exists: choose another name, or add --force at the end", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_pomelo_cli() {
        let cpu = Dump { what: "cpu", file: "/tmp/x", seconds: Some(5), force: true };
        assert_eq!(Dump::parse(&["cpu", "/tmp/x", "5", "--force"]).unwrap(), cpu);
        let memory = Dump { what: "memory", file: "x", seconds: None, force: false };
        assert_eq!(Dump::parse(&["memory", "x"]).unwrap(), memory);
        for wrong in [&["cpu", "x"][..], &["cpu", "x", "0"], &["cpu", "x", "-1"], &["heap", "x"], &["memory"], &[]] {
            assert!(Dump::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_that_exists_is_kept_unless_it_is_forced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dump");
        let answer: Box<RawValue> = serde_json::from_str(r#"{"samples":[1]}"#).unwrap();
        let other: Box<RawValue> = serde_json::from_str("[2]").unwrap();
        let words: Box<RawValue> = serde_json::from_str(r#""there is none""#).unwrap();
        writable(&file, false).unwrap();
        assert_eq!(write(&file, false, &answer).unwrap(), 15);
        assert!(writable(&file, false).unwrap_err().to_string().contains("--force"));
        assert!(write(&file, false, &other).is_err());
        assert!(write(&file, true, &words).unwrap_err().to_string().contains("there is none"));
        assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"samples":[1]}"#);
        writable(&file, true).unwrap();
        write(&file, true, &other).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "[2]");
        assert!(writable(dir.path(), true).is_err());
        assert!(writable(&dir.path().join("no/where"), false).is_err());
    }
}
