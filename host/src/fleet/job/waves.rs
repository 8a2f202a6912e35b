//! Which servers of a job go together, and in which order.

use super::Options;
use super::request::Action;

/// One server of a job, as far as the order needs it.
pub(super) struct Member<'a> {
    pub server_type: &'a str,
    pub action: Action,
    /// Whether it is the master itself.
    pub own: bool,
    /// Whether it goes after the others.
    pub late: bool,
}

/// The servers by their places, in the order in which they go. Servers of a wave go together. The next wave begins when all of them are done.
///
/// Servers that are started go first, because they add to what runs. Servers that are restarted go next, by type in the order in which they are given,
/// and servers that are ended after them, and then those that are late. The master goes last, because it carries the answers of the others.
pub(super) fn waves(members: &[Member<'_>], options: &Options) -> Vec<Vec<usize>> {
    let mut waves = Vec::new();
    let those = |is: &dyn Fn(&Member<'_>) -> bool| -> Vec<usize> {
        (0..members.len()).filter(|place| is(&members[*place])).collect()
    };
    let of = |actions: &[Action]| those(&|member| !member.own && !member.late && actions.contains(&member.action));
    waves.push(of(&[Action::Start]));
    for actions in [&[Action::Restart][..], &[Action::Stop, Action::Kill, Action::Drain]] {
        let all = of(actions);
        if !options.rolling {
            waves.push(all);
            continue;
        }
        let mut types: Vec<&str> = Vec::new();
        for place in &all {
            if !types.contains(&members[*place].server_type) {
                types.push(members[*place].server_type);
            }
        }
        for server_type in types {
            let of_type: Vec<usize> =
                all.iter().copied().filter(|place| members[*place].server_type == server_type).collect();
            let together = options.max_unavailable.of(of_type.len());
            waves.extend(of_type.chunks(together).map(<[usize]>::to_vec));
        }
    }
    waves.push(those(&|member| !member.own && member.late));
    waves.push(those(&|member| member.own));
    waves.retain(|wave| !wave.is_empty());
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::Amount;

    fn of(servers: &[(&str, Action)], options: &Options) -> Vec<Vec<usize>> {
        let members: Vec<_> = servers
            .iter()
            .map(|(server_type, action)| Member {
                server_type,
                action: *action,
                own: *server_type == "master",
                late: *server_type == "late",
            })
            .collect();
        waves(&members, options)
    }

    #[test]
    fn servers_that_roll_go_by_type_and_the_master_goes_last() {
        use Action::{Drain, Restart, Start, Stop};
        let rolling = Options { rolling: true, max_unavailable: Amount::Count(2), ..Options::default() };
        let servers = [("a", Restart), ("b", Restart), ("a", Restart), ("a", Restart), ("b", Restart)];
        assert_eq!(of(&servers, &rolling), [vec![0, 2], vec![3], vec![1, 4]]);
        assert_eq!(of(&servers, &Options::default()), [vec![0, 1, 2, 3, 4]]);
        let half = Options { max_unavailable: Amount::Percent(50), ..rolling.clone() };
        assert_eq!(of(&servers, &half), [vec![0], vec![2], vec![3], vec![1], vec![4]]);
        let servers = [("master", Stop), ("a", Stop), ("b", Stop)];
        assert_eq!(of(&servers, &Options::default()), [vec![1, 2], vec![0]]);
        let servers = [("a", Drain), ("a", Restart), ("a", Start)];
        assert_eq!(of(&servers, &rolling), [vec![2], vec![1], vec![0]]);
        let servers = [("late", Start), ("a", Drain), ("a", Restart), ("a", Start)];
        assert_eq!(of(&servers, &rolling), [vec![3], vec![2], vec![1], vec![0]]);
    }
}
