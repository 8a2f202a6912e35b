//! `plan` and `apply`: how the files of the configuration differ from what runs, and their taking over.

use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{Session, done, parse};
use super::arguments::{Following, Pace};
use super::everything::agreed;
use super::exit::Exit;
use super::orders::{self, Answered};
use super::print;

/// The answer to the command `plan`.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    lines: Vec<String>,
    #[serde(default)]
    summary: String,
    /// Absent where nothing differs.
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    faults: Option<String>,
}

impl Shown {
    /// # Errors
    /// Where the files cannot be read: all faults.
    fn readable(self) -> anyhow::Result<Self> {
        match &self.faults {
            Some(faults) => Err(Exit::failed(format!("the files cannot be read:\n{faults}"))),
            None => Ok(self),
        }
    }
}

/// Shows how the files differ from what runs.
///
/// # Errors
/// Where the files cannot be read.
pub(super) async fn plan(session: &Session) -> anyhow::Result<()> {
    let answer = session.client.command("plan", None, json!({})).await?;
    if session.json {
        print::json(&answer)?;
    }
    let shown: Shown = parse(&answer)?;
    let shown = shown.readable()?;
    if !session.json {
        shown.lines.into_iter().try_for_each(print::line)?;
    }
    Ok(())
}

/// Says that the files differ, where they do, after something else was shown. Whoever may not see the plan is told nothing.
pub(super) async fn mention(session: &Session) {
    let Ok(answer) = session.client.command("plan", None, json!({})).await else { return };
    match parse::<Shown>(&answer) {
        Ok(Shown { faults: Some(_), .. }) => {
            print::note("the files of the configuration cannot be read: `pomelo plan` says why");
        }
        Ok(Shown { digest: Some(_), summary, .. }) => {
            print::note(format!("the files differ from what runs ({summary}): `pomelo plan` shows it"));
        }
        _ => {}
    }
}

/// Asks whether the files are to be taken over as was shown, unless that is said already.
///
/// # Errors
/// Where nobody can be asked, or nobody agrees.
pub(super) async fn agree(yes: bool) -> anyhow::Result<bool> {
    if !yes {
        agreed("`pomelo apply` would do this", "say `--yes`", "This will be done.").await?;
    }
    Ok(true)
}

/// Takes the files over, once their plan was shown and somebody agrees.
///
/// # Errors
/// Where `agree` fails, the files cannot be taken, or a server fails.
pub(super) async fn apply(
    session: &Session,
    agree: impl AsyncFnOnce() -> anyhow::Result<bool>,
    pace: Pace,
    following: Following,
) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        notes: Vec<String>,
    }
    let shown: Shown = parse(&session.client.command("plan", None, json!({})).await?)?;
    let shown = shown.readable()?;
    let say = |lines: &[String]| -> anyhow::Result<()> {
        if !session.json {
            lines.iter().try_for_each(print::line)?;
        }
        Ok(())
    };
    say(&shown.lines)?;
    let Some(digest) = shown.digest else {
        if session.json {
            print::line(json!({ "status": "ok", "done": [], "failed": {}, "notes": [] }))?;
        }
        return Ok(());
    };
    if !agree().await? {
        return Ok(());
    }
    let mut options = orders::paced(&pace);
    options.extend([("rolling".to_owned(), true.into()), ("drain".to_owned(), true.into())]);
    let mut body = orders::followed("apply", &following);
    body["plan"] = json!(digest);
    body["options"] = Value::Object(options);
    let Some(Answered { answer, .. }) = orders::order(session, body).await? else { return Ok(()) };
    let Answer { notes } = parse(&answer)?;
    say(&notes)?;
    done(session, &answer, "applied")
}
