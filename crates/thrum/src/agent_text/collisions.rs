//! Texts that tell an agent which of its files another agent changed at nearly the same time.

use serde_json::json;
use thrum_core::Error;

use crate::{
    answers::{Answer, Collisions},
    context::Context,
    text::count,
};

/// Maximum number of collisions that are listed.
const MOST: usize = 5;

/// Fetches the collisions that `me` has not been told about yet. The daemon counts them as told from then on.
///
/// # Errors
/// Returns the daemon's error.
pub(crate) fn collisions(me: &str, cx: &Context) -> Result<Answer<Collisions>, Error> {
    Answer::or_empty(cx.repeat("collision.news", &json!({"caller_agent_id": me})), "collisions")
}

/// Returns collisions as text; empty if there are none.
pub(crate) fn collisions_text(told: &Collisions) -> String {
    let Some(first) = told.collisions.first() else { return String::new() };
    let mut text: String = told.collisions.iter().take(MOST).map(|one| format!("{}.\n", one.to_agent())).collect();
    if told.collisions.len() > MOST {
        text.push_str(&format!(
            "So did others with {}: thrum team\n",
            count((told.collisions.len() - MOST) as u64, "more file")
        ));
    }
    text + &format!(
        "Agree on which of you continues there: thrum send TEXT --to {}\n",
        thrum_core::name::printable(&first.other.agent.address)
    )
}
