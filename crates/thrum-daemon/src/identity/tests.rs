use thrum_core::DaemonId;

use super::*;
use crate::ambient::System;

struct World {
    _guard: tempfile::TempDir,
    dir: PathBuf,
}

impl World {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(guard.path()).unwrap();
        Self { _guard: guard, dir }
    }

    fn repo(&self, name: &str) -> Repo {
        fs::create_dir_all(self.dir.join(name)).unwrap();
        Repo::create(&self.dir.join(name), None).unwrap()
    }

    /// Creates a daemon in `name` whose record says that the database was opened seven times.
    fn started(&self, name: &str) -> (Repo, DaemonId) {
        let repo = self.repo(name);
        let mut identity = load(&repo, Claim::None).unwrap();
        identity.record(&left()).unwrap();
        (repo, identity.key().id())
    }

    fn copy(&self, from: &Repo, name: &str) -> Repo {
        let to = self.repo(name);
        fs::create_dir(to.node_dir()).unwrap();
        for file in ["daemon.json", "peers.json"] {
            let _ = fs::copy(from.var().join(file), to.var().join(file));
        }
        to
    }
}

fn left() -> StoreFingerprint {
    StoreFingerprint { log_id: "0123456789abcdef".into(), counter: 7, sequence: 21 }
}

fn load(repo: &Repo, claim: Claim) -> Result<Identity, Error> {
    Identity::load(repo, claim, &mut System)
}

#[test]
fn an_identity_is_created_once_and_loaded_with_its_store_fingerprint() {
    let world = World::new();
    let repo = world.repo("a");
    let first = load(&repo, Claim::None).unwrap();
    assert_eq!((first.left(), first.new_log), (None, false));
    let (repo, id) = world.started("a");
    assert_eq!(id, first.key().id());
    let again = load(&repo, Claim::None).unwrap();
    assert_eq!((again.key().id(), again.left(), again.new_log), (id, Some(left()), false));
    assert_eq!(fs::metadata(repo.identity_file()).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_end_of_the_log_is_recorded_when_the_daemon_stops() {
    let world = World::new();
    let (repo, _) = world.started("a");
    let (_commits, seen) =
        watch::channel(Commit { log: left().log_id.into(), latest: left().sequence + 9, ..Commit::default() });
    let shutdown = Shutdown::default();
    shutdown.spawn(follow(load(&repo, Claim::None).unwrap(), seen, shutdown.clone()));
    assert_eq!(shutdown.drain(limits::DRAIN).await, 0);
    assert_eq!(
        load(&repo, Claim::None).unwrap().left(),
        Some(StoreFingerprint { sequence: left().sequence + 9, ..left() })
    );
}

#[test]
fn unknown_keys_survive_a_write() {
    let world = World::new();
    let (repo, _) = world.started("a");
    let mut json: Map<String, Value> = serde_json::from_slice(&fs::read(repo.identity_file()).unwrap()).unwrap();
    json.insert("from_the_future".into(), serde_json::json!({"kept": 1}));
    fs::write(repo.identity_file(), serde_json::to_vec(&json).unwrap()).unwrap();
    load(&repo, Claim::None).unwrap().record(&StoreFingerprint { counter: 8, ..left() }).unwrap();
    let json: Map<String, Value> = serde_json::from_slice(&fs::read(repo.identity_file()).unwrap()).unwrap();
    assert_eq!((&json["from_the_future"], &json["open_counter"]), (&serde_json::json!({"kept": 1}), &8.into()));
}

#[test]
fn c28_a_copy_does_not_start_until_the_user_chooses_which_one_is_the_daemon() {
    let world = World::new();
    let (original, id) = world.started("a");
    let copy = world.copy(&original, "b");
    let error = load(&copy, Claim::None).err().expect("refused");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains(&original.thrum_dir().display().to_string()), "{error}");
    assert!(error.hint.unwrap().contains("--new-identity"));
    load(&original, Claim::None).expect("the original is not concerned");

    let moved = load(&copy, Claim::Moved).unwrap();
    assert_eq!((moved.key().id(), moved.new_log), (id, true));
}

#[test]
fn a_copy_does_not_start_either_if_the_file_at_the_recorded_path_cannot_be_read() {
    let world = World::new();
    let (original, id) = world.started("a");
    let copy = world.copy(&original, "b");
    fs::remove_dir_all(original.var()).unwrap();
    std::os::unix::fs::symlink(original.var(), original.var()).unwrap();
    let error = load(&copy, Claim::None).err().expect("refused");
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains(&format!("cannot read {}", original.identity_file().display())), "{error}");
    assert_eq!(check(&copy).err(), Some(error));

    let moved = load(&copy, Claim::Moved).unwrap();
    assert_eq!((moved.key().id(), moved.new_log), (id, true));
}

#[test]
fn a_copy_with_a_new_identity_has_a_key_and_a_log_of_its_own_and_no_peers() {
    let world = World::new();
    let (original, id) = world.started("a");
    fs::write(original.peers_file(), "{}").unwrap();
    fs::create_dir(original.node_dir()).unwrap();
    let copy = world.copy(&original, "b");
    let fresh = load(&copy, Claim::NewIdentity).unwrap();
    assert_ne!(fresh.key().id(), id);
    assert_eq!((fresh.left(), fresh.new_log), (None, true));
    assert!(!copy.peers_file().exists() && original.peers_file().exists());
    assert!(!copy.node_dir().exists() && original.node_dir().exists(), "two processes would be one node");
    assert_eq!(load(&copy, Claim::None).unwrap().key().id(), fresh.key().id(), "the next start asks nothing");
}

#[test]
fn a_moved_repository_keeps_its_key_and_begins_a_new_log_until_that_is_recorded() {
    let world = World::new();
    let (original, id) = world.started("a");
    let moved = world.copy(&original, "b");
    fs::remove_dir_all(original.root()).unwrap();
    for _ in 0..2 {
        let identity = load(&moved, Claim::None).unwrap();
        assert_eq!(
            (identity.key().id(), identity.new_log),
            (id.clone(), true),
            "a crash before the record changes nothing"
        );
    }
    load(&moved, Claim::None).unwrap().record(&left()).unwrap();
    assert!(!load(&moved, Claim::None).unwrap().new_log);
}

#[test]
fn another_name_for_the_same_directory_is_no_move() {
    let world = World::new();
    let (repo, id) = world.started("a");
    std::os::unix::fs::symlink(repo.thrum_dir(), world.dir.join("alias")).unwrap();
    let text = fs::read_to_string(repo.identity_file()).unwrap();
    let renamed = text.replace(&repo.thrum_dir().display().to_string(), &world.dir.join("alias").display().to_string());
    assert_ne!(renamed, text);
    fs::write(repo.identity_file(), renamed).unwrap();
    let identity = load(&repo, Claim::None).unwrap();
    assert_eq!((identity.key().id(), identity.new_log), (id, false));
}

#[test]
fn a_damaged_file_is_an_error_with_a_hint_and_without_the_key() {
    let world = World::new();
    let (repo, id) = world.started("a");
    let text = fs::read_to_string(repo.identity_file()).unwrap();
    fs::write(repo.identity_file(), &text[..text.len() / 2]).unwrap();
    let error = load(&repo, Claim::None).err().expect("damaged");
    assert_eq!(
        (error.kind, error.message),
        (ErrorKind::Failed, format!("{} is damaged", repo.identity_file().display()))
    );
    fs::write(repo.peers_file(), "{}").unwrap();
    fs::create_dir(repo.node_dir()).unwrap();
    let fresh = load(&repo, Claim::NewIdentity).unwrap();
    assert_ne!(fresh.key().id(), id);
    assert!(fresh.new_log, "no log is continued with another key");
    assert!(!repo.peers_file().exists() && !repo.node_dir().exists(), "the peers know the former identity");
}
