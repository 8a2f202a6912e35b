//! `add`: starts servers that the configuration does not name.

use pomelo_sdk::prelude::*;

use crate::answer::Answer;
use crate::arguments::{Arguments, Pairs, bad, pairs, require};
use crate::order::{self, How};

/// Checks the form of all servers that are to be added. The starter checks whether each is possible and its ports are free, before it starts any.
pub fn add(agent: &Agent, args: Arguments, how: &How) -> Result<Answer> {
    let servers: Vec<Pairs> = args.several().into_iter().map(server).collect::<Result<_>>()?;
    if servers.is_empty() {
        return Err(bad("There is no server to be added."));
    }
    match order::add(agent, &servers, how)?.done("added")? {
        Ok((_, done, failed)) => Answer::done("added", done, failed),
        Err(answer) => Ok(answer),
    }
}

/// One server; with `clusterCount` several that are alike, whose ids the starter makes.
fn server(words: Vec<String>) -> Result<Pairs> {
    let server = pairs(words)?;
    let counted = server.contains_key("clusterCount");
    let id: &[&str] = if counted { &[] } else { &["id"] };
    require(&server, &[id, &["serverType", "host", "port"]].concat())?;
    if counted && server.contains_key("id") {
        return Err(bad("Either `id` or `clusterCount`: with `clusterCount` the ids are made."));
    }
    for key in ["port", "clientPort"] {
        if let Some(port) = server.get(key) {
            check_port(key, port, counted)?;
        }
    }
    Ok(server)
}

fn check_port(key: &str, port: &str, counted: bool) -> Result {
    let number = port.strip_suffix("++").filter(|_| counted).unwrap_or(port);
    if number.parse::<u16>().is_ok_and(|number| number > 0) {
        return Ok(());
    }
    let counting = if counted { ", or one with `++` behind it that counts up" } else { "" };
    Err(bad(&["`", key, "` must be a number from 1 to 65535", counting, "."].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Pairs> {
        server(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn c5_a_server_has_all_that_pomelo_asks_for() {
        assert_eq!(check("host=127.0.0.1 port=8000 serverType=chat id=chat-9").unwrap()["id"], "chat-9");
        assert!(check("host=h port=8000++ clientPort=9000++ serverType=chat clusterCount=2").is_ok());
        for (line, said) in [
            ("host=h port=1 id=a", "Missing: serverType."),
            ("port=1 serverType=chat", "Missing: id, host."),
            ("host=h serverType=chat clusterCount=2", "Missing: port."),
            ("host=h port=1 serverType=chat clusterCount=2 id=a", "Either `id`"),
            ("host=h port=http serverType=chat id=a", "`port` must be"),
            ("host=h port=0 serverType=chat id=a", "`port` must be"),
            ("host=h port=65536 serverType=chat id=a", "`port` must be"),
            ("host=h port=80++ serverType=chat id=a", "`port` must be a number from 1 to 65535."),
            ("host=h port=80+ clusterCount=2 serverType=chat", "counts up."),
            ("host=h port=80 clientPort=x serverType=chat id=a", "`clientPort` must be"),
        ] {
            let failure = check(line).unwrap_err();
            assert!(failure.message().contains(said), "{line}: {failure}");
        }
    }
}
