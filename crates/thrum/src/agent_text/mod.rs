//! Texts about mail and the team that a model reads, through hooks and through MCP. Their size is bounded, because
//! every word costs tokens.

mod brief;
mod collisions;
mod page;
pub(crate) mod wants_in;

pub(crate) use brief::{Brief, facts, line};
pub(crate) use collisions::{collisions, collisions_text};
pub(crate) use page::{Page, news};
