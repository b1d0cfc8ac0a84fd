//! Tests of the replicator, with the machine and the inputs that they share.

mod announcing;
mod batch_size;
mod connecting;
mod legacy;
mod pulling;
mod pushing;
mod references;
mod replies;
mod throttling;

use thrum_core::{Error, ErrorKind, Heads, Timestamp};

use super::*;
use crate::{
    conn::NoLine,
    error::PeerError,
    protocol::wire::{Pull, Pulled, RpcError, Served},
};

/// Returns only zeros, so that each backoff waits half of its interval.
struct Zeros;

impl Ambient for Zeros {
    fn now(&mut self) -> Timestamp {
        Timestamp::ZERO
    }
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// A replicator for `d_peer`, with a clock.
struct Case {
    machine: Replicator,
    tick: Duration,
}

impl Case {
    fn new(checkpoint: Option<(&str, u64)>) -> Self {
        let checkpoint = checkpoint.map(|(log, sequence)| Checkpoint {
            log: log.to_owned(),
            sequence,
            event: format!("evt_{sequence}"),
        });
        Self { machine: Replicator::new("d_peer", checkpoint, Now::default()), tick: Duration::ZERO }
    }

    /// Connects to a non-legacy peer whose log is `log`; the first pull is in flight.
    fn met(checkpoint: Option<(&str, u64)>, log: &str, latest: u64) -> (Self, Pull) {
        let mut case = Self::new(checkpoint);
        assert_eq!(case.step(Input::Timer), [Action::Dial]);
        assert_eq!(case.calls(Input::Connected), [Call::PeerInfo { digest: false }]);
        let calls = case.calls(info(Some(log), latest));
        let [Call::Pull(pull)] = &calls[..] else { panic!("{calls:?}") };
        let pull = pull.clone();
        (case, pull)
    }

    /// Connects to a peer that names this protocol; the first pull is in flight, from the sequence 5 of the log `log`.
    fn met_with(protocol: &str, latest: u64) -> Self {
        let mut case = Self::new(Some(("log", 5)));
        case.step(Input::Timer);
        case.step(Input::Connected);
        let info = Info {
            daemon_id: "d_peer".into(),
            log: Some("log".into()),
            latest: Some(latest),
            protocols: vec![protocol.into()],
            ..Info::default()
        };
        assert_eq!(case.calls(Input::Replied(Ok(Reply::Info(Box::new(info))))), [pull(5, "log")]);
        case
    }

    /// Connects to a peer and reads everything.
    fn quiet() -> Self {
        let (mut case, _) = Self::met(Some(("log", 5)), "log", 5);
        assert_eq!(case.calls(nothing("log")), []);
        case
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        let now = Now { tick: self.tick, at: Timestamp::ZERO.plus(self.tick) };
        self.machine.step(input, now, &mut Zeros)
    }

    fn calls(&mut self, input: Input) -> Vec<Call> {
        let is_call = |action| if let Action::Send { call, .. } = action { Some(call) } else { None };
        self.step(input).into_iter().filter_map(is_call).collect()
    }

    /// Advances the time until the machine must be woken. Returns its actions.
    fn wake(&mut self) -> Vec<Action> {
        self.tick = self.machine.wait_until();
        self.step(Input::Timer)
    }

    fn error(&self) -> &str {
        self.machine.status().exchange.last_error.as_deref().unwrap_or_default()
    }

    /// Returns the times of all dials within `within`, each of which fails at once, as offsets from now.
    fn attempts(&mut self, within: Duration) -> Vec<Duration> {
        let start = self.tick;
        let mut attempts = Vec::new();
        while self.machine.wait_until() <= start + within {
            if self.wake().contains(&Action::Dial) {
                attempts.push(self.tick - start);
                self.step(Input::ConnectFailed(unreachable("nobody listens")));
            }
        }
        attempts
    }
}

fn unreachable(message: &str) -> PeerError {
    PeerError::Unreachable(Error::new(ErrorKind::Unavailable, message))
}

const fn disconnected() -> Input {
    Input::Disconnected(PeerError::Lost(NoLine::Cut))
}

fn info(log: Option<&str>, latest: u64) -> Input {
    let info = Info {
        daemon_id: "d_peer".into(),
        log: log.map(str::to_owned),
        latest: log.map(|_| latest),
        heads: log.map(|_| Heads::default()),
        ..Info::default()
    };
    Input::Replied(Ok(Reply::Info(Box::new(info))))
}

fn pulled(log: &str, sequences: &[i64], next: i64, more: bool) -> Input {
    let served = |sequence: &i64| Served {
        sequence: *sequence,
        envelope: [const { None }; 4],
        event_json: "{}".into(),
        reference: None,
    };
    let log = Some(log.to_owned()).filter(|log| !log.is_empty());
    Input::Replied(Ok(Reply::Pulled(Pulled { events: sequences.iter().map(served).collect(), next, more, log })))
}

/// Builds events of a legacy peer, each with an id.
fn old(sequences: &[i64], more: bool) -> Input {
    let served = |sequence: &i64| Served {
        sequence: *sequence,
        envelope: [Some(format!("evt_{sequence}")), None, None, None],
        event_json: "{}".into(),
        reference: None,
    };
    let next = sequences.last().copied().unwrap_or(0);
    Input::Replied(Ok(Reply::Pulled(Pulled { events: sequences.iter().map(served).collect(), next, more, log: None })))
}

fn nothing(log: &str) -> Input {
    pulled(log, &[], 0, false)
}

fn stored(applied: usize) -> Input {
    Input::Applied(Applied { applied, ..Applied::default() })
}

fn pull(after: u64, log: &str) -> Call {
    Call::Pull(Pull {
        after,
        max_batch: limits::MAX_BATCH_EVENTS,
        log: Some(log.to_owned()).filter(|log| !log.is_empty()),
        stored: None,
        references: None,
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
