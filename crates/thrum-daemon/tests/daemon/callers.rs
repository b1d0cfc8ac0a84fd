//! Calls that name no agent: which agent makes them, and that no process can act as another agent through them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use thrum_daemon::paths::Repo;

use crate::harness::{Daemon, World, call_from};

/// A repository where ann works in the main worktree and fay in a second one.
struct Office {
    world: World,
    daemon: Daemon,
    feature: PathBuf,
}

impl Office {
    fn new() -> Self {
        let world = World::new();
        let repo = world.repo("r");
        let office = Self { feature: worktree(&repo, &world.dir.join("feature")), daemon: Daemon::start(&repo), world };
        for (name, top) in [("ann", repo.main_root()), ("fay", &office.feature)] {
            office.daemon.agent(name, "builder");
            identity(top, name);
        }
        office
    }

    /// Returns the agent that makes a call from this directory, if there is one.
    fn who(&self, dir: &Path, variables: &[(&str, &str)]) -> Option<String> {
        match call_from(&self.daemon.repo, dir, variables, "agent.whoami", &json!({})) {
            Ok(me) => Some(me["agent_id"].as_str().unwrap().to_owned()),
            Err(error) => {
                assert_eq!(error["data"]["kind"], "invalid", "{error}");
                let message = error["message"].as_str().unwrap();
                assert!(
                    message.starts_with("caller_agent_id is required: ") && error["data"]["hint"].is_string(),
                    "{error}"
                );
                None
            }
        }
    }
}

/// Creates a second worktree, as git records it.
fn worktree(repo: &Repo, top: &Path) -> PathBuf {
    let git_dir = repo.main_root().join(".git/worktrees").join(top.file_name().unwrap());
    fs::create_dir_all(&git_dir).unwrap();
    fs::write(git_dir.join("gitdir"), format!("{}\n", top.join(".git").display())).unwrap();
    fs::write(git_dir.join("commondir"), "../..\n").unwrap();
    fs::create_dir_all(top.join("src")).unwrap();
    fs::write(top.join(".git"), format!("gitdir: {}\n", git_dir.display())).unwrap();
    Repo::create(top, Some(repo.thrum_dir())).unwrap();
    top.to_owned()
}

fn identity(top: &Path, name: &str) {
    fs::write(top.join(".thrum/identities").join(format!("{name}.json")), "{}").unwrap();
}

#[test]
fn a_call_without_a_name_acts_as_the_agent_of_its_worktree() {
    let office = Office::new();
    let main = office.daemon.repo.main_root().to_owned();
    assert_eq!(office.who(&main, &[]).as_deref(), Some("ann"));
    assert_eq!(office.who(&office.feature, &[]).as_deref(), Some("fay"));
    assert_eq!(office.who(&office.feature.join("src"), &[("THRUM_NAME", "@fay")]).as_deref(), Some("fay"));
    // Several agents of one worktree are distinguished by their variable only.
    identity(&office.feature, "gil");
    office.daemon.agent("gil", "builder");
    assert_eq!(office.who(&office.feature, &[]), None);
    assert_eq!(office.who(&office.feature, &[("THRUM_NAME", "gil")]).as_deref(), Some("gil"));
}

/// C16: every doubt is an error, so that a call without a name never lets a process act as another agent.
#[test]
fn c16_a_process_elsewhere_or_with_a_copied_identity_has_no_agent() {
    let office = Office::new();
    let main = office.daemon.repo.main_root().to_owned();
    let other = office.world.repo("other");
    identity(other.main_root(), "ann");
    for outside in [&office.world.dir, &other.main_root().to_owned()] {
        assert_eq!(office.who(outside, &[]), None, "{outside:?}");
        assert_eq!(office.who(outside, &[("THRUM_NAME", "ann")]), None, "{outside:?}");
    }
    assert_eq!(office.who(&main, &[("THRUM_NAME", "fay")]), None, "fay, who has changed to ann's directory");
    let third = worktree(&office.daemon.repo, &office.world.dir.join("third"));
    assert_eq!(office.who(&third, &[]), None, "nobody is at work there");
    identity(&third, "ann");
    assert_eq!((office.who(&third, &[]), office.who(&main, &[])), (None, None), "two worktrees have ann");
    assert_eq!(office.who(&office.feature, &[]).as_deref(), Some("fay"), "whom that does not concern");
}

/// Go Thrum's `message delete` names no agent.
#[test]
fn a_deletion_without_a_name_removes_only_the_callers_own_messages() {
    let office = Office::new();
    let main = office.daemon.repo.main_root().to_owned();
    let sent =
        office.daemon.call("message.send", json!({"content": "x", "mentions": ["ann"], "caller_agent_id": "fay"}));
    let delete = |dir: &Path| {
        call_from(&office.daemon.repo, dir, &[], "message.delete", &json!({"message_id": sent["message_id"]}))
            .map_err(|error: Value| error["data"]["kind"].clone())
    };
    assert_eq!(delete(&main), Err(json!("refused")));
    assert_eq!(delete(&office.world.dir), Err(json!("invalid")));
    assert_eq!(delete(&office.feature).unwrap()["message_id"], sent["message_id"]);
}
