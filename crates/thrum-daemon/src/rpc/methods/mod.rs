//! The methods that local clients can call. A method that Go Thrum has keeps its name, parameters and results; our
//! additions to it are optional.
//!
//! One table lists the methods with their time bounds. Each row calls the function that implements the method, in one
//! of the modules below.

mod agent;
mod agent_ref;
mod budget;
mod claim;
mod cleanup;
mod collision;
mod context;
mod delivery;
mod git;
mod group;
mod health;
pub(crate) mod import;
mod message;
mod news;
mod outlook;
mod peer;
mod presence;
mod purge;
mod purges;
mod refused;
mod sending;
mod session;
mod settings;
mod shape;
mod storing;
mod sync;
mod team;
mod until;
mod user;
mod wait;
mod watch;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, limits};

use super::{
    connection::{Kept, Reply, Service, TimeBound},
    envelope::{self, Params},
};
use crate::{daemon::Daemon, large::Turn, notes::Part};

/// Generates `METHODS`, `time_bound` and `call` from one table, so that every listed method is also served, or refused
/// with a reason.
macro_rules! methods {
    ($($name:literal => $time_bound:ident, |$daemon:ident, $params:ident, $kept:ident| $call:expr;)+) => {
        /// All methods of the local socket, whether served or refused with a reason.
        pub const METHODS: &[&str] = &[$($name),+];

        /// Returns the time bound of a method; `None` if the method does not exist.
        pub(crate) fn time_bound(name: &str) -> Option<TimeBound> {
            match name {
                $($name => Some(TimeBound::$time_bound),)+
                _ => None,
            }
        }

        /// Executes a call.
        pub(crate) async fn call(daemon: &Daemon, name: &str, params: &Params, kept: &mut Kept) -> Result<Reply, Error> {
            match name {
                $($name => { let ($daemon, $params, $kept) = (daemon, params, kept); let _ = &$kept; $call })+
                _ => Err(Error::new(ErrorKind::NotFound, format!("method '{name}' is not registered"))),
            }
        }
    };
}

methods! {
    "health" => Prompt, |daemon, _params, _kept| answer(&health::health(daemon).await?);
    "daemon.settings" => Prompt, |daemon, _params, _kept| answer(&settings::running(daemon));

    "agent.register" => Prompt, |daemon, params, _kept| answer(&agent::register(daemon, params.read()?).await?);
    "agent.list" => Prompt, |daemon, params, _kept| agent::list(daemon, params.read()?).await;
    "agent.whoami" => Prompt, |daemon, params, kept| answer(&agent::whoami(daemon, params.read()?, kept.process()).await?);
    "agent.listContext" => Prompt, |daemon, params, _kept| agent::list_context(daemon, params.read()?).await;
    "agent.delete" => Prompt, |daemon, params, _kept| answer(&agent::delete(daemon, params.read()?).await?);
    "agent.check" => Prompt, |daemon, params, _kept| answer(&agent::check(daemon, params.read()?).await?);
    "agent.cleanup" => Prompt, |daemon, params, _kept| answer(&cleanup::cleanup(daemon, params.read()?).await?);
    "agent.setPresence" => Prompt, |daemon, params, kept| answer(&presence::set(daemon, params.read()?, kept.process()).await?);
    "team.list" => Prompt, |daemon, params, _kept| team::list(daemon, params.read()?).await;

    "session.start" => Prompt, |daemon, params, kept| answer(&session::start(daemon, params.read()?, kept.process()).await?);
    "session.end" => Prompt, |daemon, params, _kept| answer(&session::end(daemon, params.read()?).await?);
    "session.list" => Prompt, |daemon, params, _kept| session::list(daemon, params.read()?).await;
    "session.heartbeat" => Prompt, |daemon, params, _kept| answer(&session::heartbeat(daemon, params.read()?).await?);
    "session.setIntent" => Prompt, |daemon, params, _kept| answer(&session::set_intent(daemon, params.read()?).await?);
    "session.setTask" => Prompt, |daemon, params, _kept| answer(&session::set_task(daemon, params.read()?).await?);

    "message.send" => Prompt, |daemon, params, kept| answer(&sending::send(daemon, params.read()?, kept.process()).await?);
    "message.edit" => Prompt, |daemon, params, kept| answer(&sending::edit(daemon, params.read()?, kept.process()).await?);
    "message.delete" => Prompt, |daemon, params, kept| answer(&sending::delete(daemon, params.read()?, kept.process()).await?);
    "message.get" => Prompt, |daemon, params, _kept| message::get(daemon, params.read()?).await;
    "message.list" => Prompt, |daemon, params, kept| message::list(daemon, params.read()?, kept.process()).await;
    "message.outbox" => Prompt, |daemon, params, kept| message::outbox(daemon, params.read()?, kept.process()).await;
    "message.markRead" => Prompt, |daemon, params, kept| answer(&message::mark_read(daemon, params.read()?, kept.process()).await?);
    "message.archive" => Prompt, |_daemon, _params, _kept| refused::local_deletion("message.archive");
    "message.deleteByAgent" => Prompt, |_daemon, _params, _kept| refused::local_deletion("message.deleteByAgent");
    "message.deleteByScope" => Prompt, |_daemon, _params, _kept| refused::local_deletion("message.deleteByScope");
    "message.wait" => Long, |daemon, params, kept| wait::wait(daemon, params.read()?, kept.process()).await;

    "work.wait" => Long, |daemon, params, _kept| until::wait(daemon, params.read()?).await;

    "message.news" => Long, |daemon, params, kept| news::news(daemon, params.read()?, kept.process()).await;

    "claim.take" => Prompt, |daemon, params, kept| answer(&claim::take(daemon, params.read()?, kept.process()).await?);
    "claim.release" => Prompt, |daemon, params, kept| answer(&claim::release(daemon, params.read()?, kept.process()).await?);
    "claim.list" => Prompt, |daemon, params, _kept| answer(&claim::list(daemon, params.read()?).await?);

    "collision.list" => Prompt, |daemon, params, _kept| answer(&collision::list(daemon, params.read()?).await?);
    "collision.news" => Prompt, |daemon, params, kept| answer(&collision::news(daemon, params.read()?, kept.process()).await?);

    "group.list" => Prompt, |daemon, _params, _kept| answer(&group::list(daemon).await?);
    "group.info" => Prompt, |daemon, params, _kept| answer(&group::info(daemon, params.read()?).await?);
    "group.members" => Prompt, |daemon, params, _kept| answer(&group::members(daemon, params.read()?).await?);
    "group.create" => Prompt, |_daemon, _params, _kept| refused::custom_groups();
    "group.delete" => Prompt, |_daemon, _params, _kept| refused::custom_groups();
    "group.member.add" => Prompt, |_daemon, _params, _kept| refused::custom_groups();
    "group.member.remove" => Prompt, |_daemon, _params, _kept| refused::custom_groups();

    "user.identify" => Prompt, |daemon, _params, _kept| answer(&user::identify(daemon).await?);
    "user.register" => Prompt, |_daemon, _params, _kept| refused::web_socket_only();

    "subscribe" => Prompt, |_daemon, _params, _kept| refused::subscriptions();
    "unsubscribe" => Prompt, |_daemon, _params, _kept| refused::subscriptions();
    "subscriptions.list" => Prompt, |_daemon, _params, _kept| refused::subscriptions();
    "telegram.configure" => Prompt, |_daemon, _params, _kept| refused::telegram();
    "telegram.status" => Prompt, |_daemon, _params, _kept| refused::telegram();
    "telegram.pair" => Prompt, |_daemon, _params, _kept| refused::telegram();
    "context.save" => Prompt, |daemon, params, _kept| answer(&context::save(daemon, params.read()?, Part::Notes).await?);
    "context.show" => Prompt, |daemon, params, _kept| answer(&context::show(daemon, params.read()?).await?);
    "context.clear" => Prompt, |daemon, params, _kept| answer(&context::clear(daemon, params.read()?).await?);
    "context.preamble.save" => Prompt, |daemon, params, _kept| answer(&context::save(daemon, params.read()?, Part::Preamble).await?);
    "context.preamble.show" => Prompt, |daemon, params, _kept| answer(&context::show_preamble(daemon, params.read()?).await?);
    "import.events" => Long, |daemon, params, _kept| answer(&import::events(daemon, params.read()?).await?);
    "import.adopt" => Long, |daemon, params, _kept| answer(&import::adopt(daemon, params.read()?).await?);
    "import.peers" => Long, |daemon, params, _kept| answer(&import::peers(daemon, params.read()?).await?);
    "import.markRead" => Prompt, |daemon, params, _kept| answer(&import::mark_read(daemon, params.read()?).await?);

    "purge.execute" => Long, |daemon, params, _kept| answer(&purge::execute(daemon, params.read()?).await?);

    "events.watch" => Prompt, |daemon, params, _kept| watch::watch(daemon, params.read()?);

    "git.status" => Prompt, |daemon, _params, _kept| answer(&git::status(daemon));
    "git.log" => Prompt, |daemon, params, _kept| answer(&git::log(daemon, params.read()?));
    "git.on" => Long, |daemon, params, _kept| answer(&git::on(daemon, params.read()?).await?);
    "git.off" => Long, |daemon, params, _kept| answer(&git::off(daemon, params.read()?).await?);
    "git.trust" => Long, |daemon, params, _kept| answer(&git::decide(daemon, params.read()?, true).await?);
    "git.untrust" => Long, |daemon, params, _kept| answer(&git::decide(daemon, params.read()?, false).await?);

    "sync.status" => Prompt, |daemon, _params, _kept| answer(&sync::status(daemon).await?);
    "sync.force" => Long, |daemon, params, _kept| answer(&sync::force(daemon, params.read()?).await?);
    "sync.parked" => Prompt, |daemon, _params, _kept| answer(&sync::parked(daemon).await?);
    "sync.verify" => Long, |daemon, params, _kept| answer(&sync::verify(daemon, params.read()?).await?);
    "tsync.force" => Long, |daemon, params, _kept| answer(&sync::tsync_force(daemon, params.read()?).await?);
    "tsync.peers.list" => Prompt, |daemon, _params, _kept| answer(&peer::list(daemon).await?);
    "tsync.peers.add" => Prompt, |_daemon, _params, _kept| refused::peers_without_token();

    "peer.start_pairing" => Prompt, |daemon, params, kept| answer(&peer::start_pairing(daemon, params.read()?, kept).await?);
    "peer.wait_pairing" => Long, |daemon, params, _kept| answer(&peer::wait_pairing(daemon, params.read()?).await?);
    "peer.join" => Long, |daemon, params, _kept| answer(&peer::join(daemon, params.read()?).await?);
    "peer.look" => Long, |daemon, params, _kept| answer(&peer::look_up(daemon, params.read()?).await?);
    "peer.waiting" => Long, |daemon, _params, _kept| answer(&peer::waiting(daemon).await?);
    "peer.ping" => Long, |daemon, params, _kept| answer(&peer::ping(daemon, params.read()?).await?);
    "peer.list" => Prompt, |daemon, _params, _kept| answer(&peer::list(daemon).await?);
    "peer.status" => Prompt, |daemon, _params, _kept| answer(&peer::status(daemon).await?);
    "peer.rename" => Prompt, |daemon, params, _kept| answer(&peer::rename(daemon, params.read()?).await?);
    "peer.remove" => Prompt, |daemon, params, _kept| answer(&peer::remove(daemon, params.read()?).await?);
}

impl Service for Daemon {
    fn time_bound(&self, method: &str) -> Option<TimeBound> {
        time_bound(method)
    }

    async fn call(&self, method: &str, params: &Params, kept: &mut Kept) -> Result<Reply, Error> {
        /// The caller's name, a parameter of every method that needs it.
        #[derive(Deserialize)]
        struct Caller {
            caller_agent_id: Option<String>,
        }
        // Check before the call, so that a call on a lost directory fails for that reason, and after it, because an
        // answer must not report success for a directory that is gone. If the call stored or read anything, the storage
        // has made a full check since, which suffices.
        let began = Instant::now();
        self.hold.check_lately()?;
        let outcome = call(self, method, params, kept).await;
        self.hold.check_lately_since(began)?;
        let outcome = outcome?;
        // Only a successful call is a sign of life. Calls that act for an agent of another daemon have failed by now.
        // Calls that only read for such an agent succeed, but what is recorded for it here is never used.
        if let Ok(Caller { caller_agent_id: Some(agent) }) = params.read() {
            self.heard_of(&agent);
            self.live.git_state.may_have_changed(&agent);
        }
        Ok(outcome)
    }
}

fn answer(value: &impl Serialize) -> Result<Reply, Error> {
    Ok(Reply::Answer(envelope::result(value)?))
}

/// Serialises a result of possibly several megabytes, on a thread for large answers. On a runtime thread, the work
/// would keep other clients waiting.
async fn large<T: Serialize + Send + 'static>(turn: Turn, result: T) -> Result<Reply, Error> {
    turn.work(move || envelope::result(&result)).await.map(Reply::Answer)
}

/// Returns a parameter that must be present and not empty. The error text is Go Thrum's.
fn required(name: &str, value: Option<String>) -> Result<String, Error> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{name} is required")))
}

/// Checks how long a call may wait, as given in `timeout_ms`.
///
/// # Errors
/// `invalid` beyond [`limits::MAX_WAIT`].
fn bounded(within: Duration) -> Result<Duration, Error> {
    if within > limits::MAX_WAIT {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("invalid params: timeout_ms is at most {}", limits::MAX_WAIT.as_millis()),
        ));
    }
    Ok(within)
}
