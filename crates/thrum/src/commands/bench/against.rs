//! Sends the same requests to our daemons and to two other ones, and reports the ratios.

use thrum_core::Error;

use super::{
    figures::Figures,
    work::{self, Agent},
};

/// Number of messages that each of several concurrent writers sends.
const EACH: usize = 40;

/// Maximum number of messages that are followed to the second daemon; low, because the other daemons may need seconds
/// for each.
const FOLLOWED: usize = 50;

/// Measures the same work on both pairs. Writes go to the first daemon of a pair; the second one is paired with it.
pub(super) fn compare(
    ours: (&Agent, &Agent),
    others: (&Agent, &Agent),
    number: usize,
    figures: &mut Figures,
) -> Result<(), Error> {
    let mut times = |what: &str, measure: &dyn Fn(&Agent) -> Result<_, Error>| -> Result<(), Error> {
        figures.times_against(what, &measure(ours.0)?, &measure(others.0)?);
        Ok(())
    };
    times("message.send, 1 writer", &|agent| work::send_one_by_one(agent, number))?;
    times("message.get", &|agent| work::get(agent, number))?;
    times("message.list, newest 10", &|agent| work::list(agent, number))?;
    for writers in [8, 50] {
        let (here, there) = (work::send_beside(ours.0, writers, EACH)?, work::send_beside(others.0, writers, EACH)?);
        figures.rate_against(&format!("message.send, {writers} writers"), &here, &there);
    }
    let followed = number.min(FOLLOWED);
    let (here, there) = (work::arrivals(ours.0, ours.1, followed)?, work::arrivals(others.0, others.1, followed)?);
    figures.times_against("sent on one, found on the other", &here, &there);
    Ok(())
}
