//! Sending, answering, editing, deleting and reading.

use rusqlite::OptionalExtension;
use thrum_core::{
    ErrorKind, Fault, Payload, Stamp, Sum,
    ids::{self, IdKind},
    limits, name,
    payload::{Body, MessageCreate, MessageDelete, MessageEdit, MessageReceipt, ReceiptType, Tag},
};

use super::resident;
use crate::{
    StoreError, Tx,
    query::{Addressable, Mailbox, Message},
};

/// A message to be sent.
#[derive(Clone, Debug, Default)]
pub struct Send {
    /// The author; must live here.
    pub from: String,
    /// Text, 1 byte to [`limits::MAX_CONTENT_BYTES`].
    pub content: String,
    /// `markdown` (also if empty), `plain` or `json`.
    pub format: String,
    /// Structured content, JSON.
    pub structured: Option<String>,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// Whom: agents, roles or `everyone`, with or without `@`. Nobody means everyone.
    pub mentions: Vec<String>,
    /// Further scopes, stored and passed through.
    pub scopes: Vec<Tag>,
    /// Further refs, stored and passed through.
    pub refs: Vec<Tag>,
    /// With the same key and content the first message is answered again instead of a second one sent.
    pub idempotency_key: Option<String>,
}

impl Send {
    /// Tells one request from another under the same idempotency key.
    fn digest(&self) -> Sum {
        Sum::of(format!("{:?}", (&self.content, &self.structured, &self.mentions, &self.reply_to)).as_bytes())
    }
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// `msg_…`
    pub message_id: String,
    /// Its thread, if it answers.
    pub thread_id: Option<String>,
    /// When.
    pub created_at: Stamp,
    /// How many mentions named somebody.
    pub resolved_to: usize,
    /// Whom, as asked: `agent`, `group` or `broadcast`.
    pub audiences: Vec<Tag>,
    /// Whom, by name, as known now.
    pub recipients: Vec<String>,
    /// What the sender may not expect.
    pub warnings: Vec<String>,
}

/// A message that was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// When.
    pub updated_at: Stamp,
    /// How often by now.
    pub version: u64,
}

/// Whom a message is for, worked out from its mentions.
#[derive(Default)]
struct Addressed {
    recipients: Vec<String>,
    audiences: Vec<Tag>,
    scopes: Vec<Tag>,
    refs: Vec<Tag>,
    warnings: Vec<String>,
}

fn check_content(content: &str) -> Result<(), Fault> {
    match content.len() {
        0 => Err(Fault::new(ErrorKind::Invalid, "the message is empty")),
        n if n > limits::MAX_CONTENT_BYTES => {
            Err(Fault::new(ErrorKind::Invalid, format!("the message has {n} bytes; at most {} are allowed", limits::MAX_CONTENT_BYTES))
                .hint("Put the text into a file both can read, and send its path."))
        }
        _ => Ok(()),
    }
}

fn check_format(format: &str) -> Result<&str, Fault> {
    match format {
        "" => Ok("markdown"),
        "markdown" | "plain" | "json" => Ok(format),
        other => {
            Err(Fault::new(ErrorKind::Invalid, format!("unknown format '{}': markdown, plain and json are known", name::printable(other))))
        }
    }
}

impl Tx<'_> {
    /// Sends a message: whoever is named gets it, now or when it arrives where they live.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for recipients nobody knows (all are listed, nothing is sent) or an unknown parent,
    /// [`ErrorKind::Refused`] if the author lives elsewhere, [`ErrorKind::Invalid`] for content out of bounds.
    pub fn send(&mut self, send: Send) -> Result<Sent, StoreError> {
        check_content(&send.content)?;
        let format = check_format(&send.format)?.to_owned();
        if send.mentions.len() + send.scopes.len() + send.refs.len() > limits::MAX_AUDIENCE {
            return Err(Fault::new(ErrorKind::Invalid, format!("more than {} recipients, scopes and refs", limits::MAX_AUDIENCE)).into());
        }
        if let Some(text) = &send.structured
            && text.len() > limits::MAX_CONTENT_BYTES
        {
            return Err(Fault::new(ErrorKind::Invalid, "the structured content is too large").into());
        }
        resident(&self.reader(), &send.from)?;
        if let Some(sent) = self.already_sent(&send)? {
            return Ok(sent);
        }
        let request = send.idempotency_key.as_ref().map(|_| send.digest());
        let parent = match &send.reply_to {
            Some(id) => Some(self.known_message(id)?),
            None => None,
        };
        let mut to = self.address(&send.from, &send.mentions)?;
        to.scopes.extend(send.scopes);
        to.refs.extend(send.refs);
        if let Some(parent) = &parent {
            to.refs.push(Tag::new("reply_to", &parent.message_id));
        }
        let thread_id = parent.as_ref().map(|parent| parent.thread_id.clone().unwrap_or_else(|| ids::thread_of(&parent.message_id)));
        let session_id = self.reader().open_session(&send.from)?.unwrap_or_default();
        let message_id = self.new_id(IdKind::Message);
        let message = MessageCreate {
            message_id: message_id.clone(),
            thread_id: thread_id.clone(),
            agent_id: send.from.clone(),
            session_id,
            body: Body { format, content: send.content, structured: send.structured },
            scopes: to.scopes,
            refs: to.refs,
            recipients: to.recipients.clone(),
            authored_by: None,
            disclosed: false,
        };
        let event = self.append(Payload::MessageCreate(message), parent.map(|parent| parent.created_at))?;
        if let (Some(key), Some(request)) = (&send.idempotency_key, request) {
            self.conn.prepare_cached("INSERT INTO idempotency VALUES (?1, ?2, ?3, ?4)")?.execute((
                &send.from,
                key,
                &message_id,
                request.to_bytes(),
            ))?;
        }
        Ok(Sent {
            message_id,
            thread_id,
            created_at: event.at,
            resolved_to: send.mentions.len(),
            audiences: to.audiences,
            recipients: to.recipients,
            warnings: to.warnings,
        })
    }

    fn already_sent(&self, send: &Send) -> Result<Option<Sent>, StoreError> {
        let Some(key) = &send.idempotency_key else { return Ok(None) };
        if key.is_empty() || key.len() > limits::MAX_FOREIGN_ID_BYTES {
            let text = format!("an idempotency key has 1 to {} bytes", limits::MAX_FOREIGN_ID_BYTES);
            return Err(Fault::new(ErrorKind::Invalid, text).into());
        }
        let known: Option<(String, [u8; 32])> = self
            .conn
            .prepare_cached("SELECT message_id, digest FROM idempotency WHERE agent_id = ?1 AND key = ?2")?
            .query_row((&send.from, key), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((message_id, digest)) = known else { return Ok(None) };
        if Sum::from_bytes(digest) != send.digest() {
            return Err(Fault::new(ErrorKind::Refused, "the idempotency key was used for another message").into());
        }
        let message = self.known_message(&message_id)?;
        Ok(Some(Sent {
            audiences: message.audiences(),
            message_id,
            thread_id: message.reply_to.is_some().then_some(message.thread_id).flatten(),
            created_at: message.created_at,
            resolved_to: send.mentions.len(),
            recipients: message.recipients.into_iter().map(|recipient| recipient.agent_id).collect(),
            warnings: Vec::new(),
        }))
    }

    fn known_message(&self, message_id: &str) -> Result<Message, StoreError> {
        self.reader().message(message_id, None)?.ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("message not found: {}", name::printable(message_id)))
                .hint("thrum inbox lists the messages you have.")
                .into()
        })
    }

    /// Every mention names an agent, a role or everyone; all that name nobody are listed in one error.
    fn address(&self, author: &str, mentions: &[String]) -> Result<Addressed, StoreError> {
        let agents = self.reader().addressable()?;
        let is_author = |agent: &Addressable| agent.agent_id == author && agent.home == self.home();
        let mut to = Addressed::default();
        let mut unknown = Vec::new();
        // Names are added as far as an event has room; the group itself is what addresses.
        let expand = |to: &mut Addressed, role: Option<&str>| {
            let members = agents.iter().filter(|agent| !is_author(agent) && role.is_none_or(|role| agent.role == role));
            let room = limits::MAX_AUDIENCE.saturating_sub(to.recipients.len());
            to.recipients.extend(members.take(room).map(|agent| agent.agent_id.clone()));
        };
        let everyone = |to: &mut Addressed| {
            expand(to, None);
            to.audiences.push(Tag::new("broadcast", "everyone"));
            to.scopes.push(Tag::new("group", "everyone"));
            to.refs.push(Tag::new("group", "everyone"));
        };
        if mentions.is_empty() {
            everyone(&mut to);
        }
        for mention in mentions {
            let name = mention.strip_prefix('@').unwrap_or(mention);
            let is_agent = agents.iter().any(|agent| agent.agent_id == name);
            let is_role = agents.iter().any(|agent| agent.role == name);
            if name == "everyone" {
                everyone(&mut to);
            }
            if is_agent {
                // One's own name is taken at its word: mail to oneself is stored.
                to.recipients.push(name.to_owned());
                to.audiences.push(Tag::new("agent", name));
                to.refs.push(Tag::new("mention", name));
            }
            // Both, if another machine calls an agent what is a role here.
            if is_role {
                expand(&mut to, Some(name));
                to.audiences.push(Tag::new("group", name));
                to.scopes.push(Tag::new("group", name));
                to.refs.push(Tag::new("group", name));
                to.warnings.push(format!("@{name} resolved to a group, not an individual agent"));
            }
            if !is_agent && !is_role && name != "everyone" {
                unknown.push(name);
            }
        }
        if !unknown.is_empty() {
            return Err(unknown_recipients(&unknown, &agents).into());
        }
        for list in [&mut to.scopes, &mut to.refs, &mut to.audiences] {
            let mut seen = std::collections::HashSet::new();
            list.retain(|tag| seen.insert(tag.clone()));
        }
        let mut seen = std::collections::HashSet::new();
        to.recipients.retain(|recipient| seen.insert(recipient.clone()));
        Ok(to)
    }

    /// Replaces the text of one's own message.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] for somebody else's or a deleted one.
    pub fn edit(
        &mut self,
        agent: &str,
        message_id: &str,
        content: Option<String>,
        structured: Option<String>,
    ) -> Result<Edited, StoreError> {
        if let Some(content) = &content {
            check_content(content)?;
        }
        if content.is_none() && structured.is_none() {
            return Err(Fault::new(ErrorKind::Invalid, "nothing to change: neither content nor structured is given").into());
        }
        let message = self.own_message(agent, message_id, "edit")?;
        if message.deleted_at.is_some() {
            return Err(Fault::new(ErrorKind::Refused, "the message is deleted").into());
        }
        let body = Body {
            format: message.body.format,
            content: content.unwrap_or(message.body.content),
            structured: structured.or(message.body.structured),
        };
        let after = message.updated_at.unwrap_or(message.created_at);
        let event = self.append(Payload::MessageEdit(MessageEdit { message_id: message_id.to_owned(), body }), Some(after))?;
        Ok(Edited { updated_at: event.at, version: message.edits + 1 })
    }

    /// Takes one's own message back, for good. Deleting it again changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] for somebody else's.
    pub fn delete(&mut self, agent: &str, message_id: &str, reason: Option<String>) -> Result<Stamp, StoreError> {
        let message = self.own_message(agent, message_id, "delete")?;
        if let Some(deleted_at) = message.deleted_at {
            return Ok(deleted_at);
        }
        let payload = Payload::MessageDelete(MessageDelete { message_id: message_id.to_owned(), reason });
        Ok(self.append(payload, Some(message.created_at))?.at)
    }

    fn own_message(&self, agent: &str, message_id: &str, what: &str) -> Result<Message, StoreError> {
        resident(&self.reader(), agent)?;
        let message = self.known_message(message_id)?;
        if message.agent_id != agent || message.origin != self.home() {
            let (author, current) = (name::printable(&message.agent_id), name::printable(agent));
            let text = format!("only message author can {what} (author: {author}, current: {current})");
            return Err(Fault::new(ErrorKind::Refused, text).into());
        }
        Ok(message)
    }

    /// Marks messages of one's own mailbox as read; returns those that were not before. Messages of others' mailboxes are
    /// left alone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a message does not exist; then none is marked.
    pub fn mark_read(&mut self, agent: &str, message_ids: &[String]) -> Result<Vec<String>, StoreError> {
        resident(&self.reader(), agent)?;
        let mailbox = Mailbox { agent_id: agent.to_owned(), home: self.home().to_owned() };
        let owner = self.reader().owner(Some(&mailbox))?;
        let session_id = self.reader().open_session(agent)?;
        let mut unread = Vec::new();
        for message_id in message_ids {
            let found: Option<(i64, bool)> = self
                .conn
                .prepare_cached(
                    "SELECT at, EXISTS (SELECT 1 FROM mailbox b WHERE b.owner = ?2 AND b.at = m.at AND b.sequence = m.sequence AND b.unread)
                     FROM messages m WHERE message_id = ?1",
                )?
                .query_row((message_id, owner), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            match found {
                Some((at, true)) => unread.push((message_id, Stamp::from_nanos(at))),
                Some((_, false)) => {}
                None => {
                    self.known_message(message_id)?;
                }
            }
        }
        let mut marked = Vec::new();
        for (message_id, at) in unread {
            if marked.contains(message_id) {
                continue;
            }
            let receipt = MessageReceipt {
                message_id: message_id.clone(),
                agent_id: agent.to_owned(),
                session_id: session_id.clone(),
                receipt_type: ReceiptType::Read,
            };
            self.append(Payload::MessageReceipt(receipt), Some(at))?;
            marked.push(message_id.clone());
        }
        Ok(marked)
    }

    /// Whom an answer to this message goes to: its author and whoever it addressed, but not who answers.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn reply_audience(&self, agent: &str, message_id: &str) -> Result<Vec<String>, StoreError> {
        let parent = self.known_message(message_id)?;
        let mut to = vec![parent.agent_id.clone()];
        for audience in parent.audiences() {
            match audience.kind.as_str() {
                "broadcast" => to.push("everyone".to_owned()),
                _ => to.push(audience.value),
            }
        }
        let mut seen = std::collections::HashSet::new();
        to.retain(|name| name != agent && seen.insert(name.clone()));
        if to.is_empty() {
            to.push(parent.agent_id);
        }
        Ok(to)
    }
}

/// All names that name nobody, and who may have been meant.
fn unknown_recipients(unknown: &[&str], agents: &[Addressable]) -> Fault {
    let listed: Vec<String> = unknown.iter().map(|name| format!("@{}", name::printable(name))).collect();
    // The text is Go Thrum's (recorded).
    let text = format!("unknown recipients: {} \u{2014} no matching agent, role, or group found", listed.join(", "));
    let near: Vec<String> = unknown.iter().filter_map(|name| nearest(name, agents)).map(|name| format!("@{name}")).collect();
    let hint =
        if near.is_empty() { "thrum team --all lists who there is.".to_owned() } else { format!("Did you mean {}?", near.join(", ")) };
    Fault::new(ErrorKind::NotFound, text).hint(hint)
}

/// The agent or role whose name differs least, if it differs little.
fn nearest<'a>(name: &str, agents: &'a [Addressable]) -> Option<&'a str> {
    let names = agents.iter().flat_map(|agent| [agent.agent_id.as_str(), agent.role.as_str()]);
    names
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(far, known)| *far <= 1 + known.len() / 3)
        .min()
        .map(|(_, known)| known)
}
