//! Operations on messages: send, answer, edit, delete and mark as read.

use std::collections::HashSet;

use rusqlite::OptionalExtension;
use thrum_core::{
    Error, ErrorKind, Machines, Payload, SetDigest, Timestamp,
    audience::Addressee,
    ids::{self, IdKind},
    limits, name,
    payload::{Body, MessageCreate, MessageDelete, MessageEdit, MessageReceipt, ReceiptType, Tag},
};

use super::resident;
use crate::{
    Reader, StoreError, Tx,
    query::{Filter, Mailbox, Message, Order, Recipient},
};

/// A message to be sent.
#[derive(Clone, Debug, Default)]
pub struct Send {
    /// The author; its home must be this daemon.
    pub from: String,
    /// Text, 1 byte to [`limits::MAX_CONTENT_BYTES`].
    pub content: String,
    /// `markdown` (also if empty), `plain` or `json`.
    pub format: String,
    /// Structured content as JSON text, at most [`limits::MAX_CONTENT_BYTES`] bytes.
    pub structured: Option<String>,
    /// Id of the message that this one answers; `None` if it is no answer.
    pub reply_to: Option<String>,
    /// Sends the answer to the audience of `reply_to`, and marks that message as read. `mentions`, `scopes` and `refs`
    /// must then be empty.
    pub to_parent_audience: bool,
    /// Recipients: agents, roles, groups of Go Thrum or `everyone`, with or without `@`. Without any, and without a
    /// scope or ref that is an address, the message goes to everyone.
    pub mentions: Vec<String>,
    /// Further scopes, stored as given. A `group` scope of a known agent, a known role or everyone is also an address.
    pub scopes: Vec<Tag>,
    /// Further refs, stored as given. A `mention` or `group` ref of a known agent, a known role or everyone is also an
    /// address.
    pub refs: Vec<Tag>,
    /// The local names of the machines in the mentions.
    pub machines: Machines,
    /// Key of 1 to [`limits::MAX_FOREIGN_ID_BYTES`] bytes. An equal request by the same author with the same key
    /// returns the first message instead of sending a second one.
    pub idempotency_key: Option<String>,
}

impl Send {
    fn check(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Invalid, why));
        check_content(&self.content)?;
        format_of(&self.format)?;
        if self.mentions.len() + self.scopes.len() + self.refs.len() > limits::MAX_AUDIENCE {
            return refuse(format!("more than {} recipients, scopes and refs", limits::MAX_AUDIENCE));
        }
        check_tags(&self.scopes)?;
        check_tags(&self.refs)?;
        if self.structured.as_ref().is_some_and(|text| text.len() > limits::MAX_CONTENT_BYTES) {
            return refuse("the structured content is too large".to_owned());
        }
        let names_others = !(self.mentions.is_empty() && self.scopes.is_empty() && self.refs.is_empty());
        if self.to_parent_audience && (self.reply_to.is_none() || names_others) {
            return refuse(
                "an answer to the audience of its parent names that parent, and no other recipients, scopes or refs"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Returns a digest of the request, by which different requests with the same idempotency key are told apart.
    fn digest(&self) -> SetDigest {
        let body = (&self.content, &self.format, &self.structured);
        let to = (&self.mentions, &self.reply_to, self.to_parent_audience, &self.scopes, &self.refs);
        SetDigest::of(format!("{:?}", (body, to)).as_bytes())
    }
}

/// The result of sending a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message's id, `msg_…`.
    pub message_id: String,
    /// The message's thread, if the message is an answer.
    pub thread_id: Option<String>,
    /// When the message was created.
    pub created_at: Timestamp,
    /// Number of mentions; for an answer to the parent's audience, number of `audiences`.
    pub resolved_to: usize,
    /// The addressees as requested: `agent`, `group` or `broadcast`.
    pub audiences: Vec<Tag>,
    /// Names of the recipients that are known now.
    pub recipients: Vec<String>,
    /// The recipients with their homes.
    pub mailboxes: Vec<Mailbox>,
    /// Warnings about effects that the sender may not expect.
    pub warnings: Vec<String>,
    /// Whether an earlier request with the same idempotency key already stored the message.
    pub is_repeated: bool,
}

/// The result of editing a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// When the message was edited.
    pub updated_at: Timestamp,
    /// Number of edits, including this one.
    pub version: u64,
}

/// Returns a message by this author, whose home must be this daemon.
///
/// # Errors
/// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] if another agent wrote the message.
pub fn sent_by(reader: &Reader<'_>, author: &str, message_id: &str) -> Result<Message, StoreError> {
    let message = known_message(reader, message_id)?;
    if message.agent_id == author && message.home == reader.home {
        return Ok(message);
    }
    let text = format!("{} was sent by @{}", name::printable(message_id), name::printable(&message.agent_id));
    Err(Error::new(ErrorKind::Refused, text).hint("thrum message get shows it.").into())
}

fn known_message(reader: &Reader<'_>, message_id: &str) -> Result<Message, StoreError> {
    reader.message(message_id, None)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("message not found: {}", name::printable(message_id)))
            .hint("`thrum inbox` lists the messages you have.")
            .into()
    })
}

fn check_content(content: &str) -> Result<(), Error> {
    match content.len() {
        0 => Err(Error::new(ErrorKind::Invalid, "the message is empty")),
        n if n > limits::MAX_CONTENT_BYTES => Err(Error::new(
            ErrorKind::Invalid,
            format!("the message has {n} bytes; at most {} are allowed", limits::MAX_CONTENT_BYTES),
        )
        .hint("Put the text into a file both can read, and send its path.")),
        _ => Ok(()),
    }
}

fn format_of(format: &str) -> Result<&str, Error> {
    match format {
        "" => Ok("markdown"),
        "markdown" | "plain" | "json" => Ok(format),
        other => Err(Error::new(
            ErrorKind::Invalid,
            format!("unknown format '{}': markdown, plain and json are known", name::printable(other)),
        )),
    }
}

fn check_tags(tags: &[Tag]) -> Result<(), Error> {
    let wrong = tags.iter().find(|tag| {
        let (kind, value) = (tag.kind.len(), tag.value.len());
        kind == 0 || kind > limits::MAX_FOREIGN_ID_BYTES || value == 0 || value > limits::MAX_TEXT_BYTES
    });
    match wrong {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "a scope or ref has a type of 1 to {} bytes and a value of 1 to {}",
                limits::MAX_FOREIGN_ID_BYTES,
                limits::MAX_TEXT_BYTES
            ),
        )),
    }
}

impl Tx<'_> {
    /// Sends a message. Each named recipient gets it, at once or when the event reaches its home.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for unknown recipients (all are listed, nothing is sent), an unknown parent or an
    /// unknown author; [`ErrorKind::Refused`] if the author's home is elsewhere, or if the idempotency key was used for
    /// another message or for one that was purged; [`ErrorKind::Invalid`] for content out of bounds or a name that
    /// several other daemons, but not this one, have.
    pub fn send(&mut self, mut send: Send) -> Result<Sent, StoreError> {
        send.check()?;
        if !send.machines.is_own(self.home()) {
            // The caller did not supply names of machines.
            send.machines = Machines::new((self.home(), "this machine"), []);
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
        let mut to = match &parent {
            Some(parent) if send.to_parent_audience => {
                self.mark_read(&send.from, std::slice::from_ref(&parent.message_id))?;
                self.address_answer(&send.from, parent, &send.machines)?
            }
            _ => self.address(&send.from, &send.mentions, send.scopes, send.refs, &send.machines)?,
        };
        if let Some(parent) = &parent {
            to.refs.push(Tag::new("reply_to", &parent.message_id));
        }
        let thread_id = parent
            .as_ref()
            .map(|parent| parent.thread_id.clone().unwrap_or_else(|| ids::thread_of(&parent.message_id)));
        let session_id = self.reader().open_session(&send.from)?.unwrap_or_default();
        let message_id = self.new_id(IdKind::Message)?;
        let (recipients, recipient_homes) = (to.recipients(), to.homes());
        let message = MessageCreate {
            message_id: message_id.clone(),
            thread_id: thread_id.clone(),
            agent_id: send.from.clone(),
            session_id,
            body: Body {
                format: format_of(&send.format)?.to_owned(),
                content: send.content,
                structured: send.structured,
            },
            scopes: to.scopes,
            refs: to.refs,
            recipients: recipients.clone(),
            recipient_homes,
            authored_by: None,
            disclosed: false,
        };
        let event = self.append(Payload::MessageCreate(message), parent.map(|parent| parent.claimed_at))?;
        if let (Some(key), Some(request)) = (&send.idempotency_key, request) {
            self.remember(&send.from, key, &message_id, request)?;
        }
        Ok(Sent {
            message_id,
            thread_id,
            created_at: self.shown_at(event.at),
            resolved_to: to.resolved_to,
            audiences: to.audiences,
            recipients,
            mailboxes: to.mailboxes,
            warnings: to.warnings,
            is_repeated: false,
        })
    }

    fn already_sent(&self, send: &Send) -> Result<Option<Sent>, StoreError> {
        let Some(key) = &send.idempotency_key else { return Ok(None) };
        if key.is_empty() || key.len() > limits::MAX_FOREIGN_ID_BYTES {
            let text = format!("an idempotency key has 1 to {} bytes", limits::MAX_FOREIGN_ID_BYTES);
            return Err(Error::new(ErrorKind::Invalid, text).into());
        }
        let known: Option<(String, [u8; 32])> = self
            .conn
            .prepare_cached("SELECT message_id, digest FROM idempotency WHERE agent_id = ?1 AND key = ?2")?
            .query_row((&send.from, key), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((message_id, digest)) = known else { return Ok(None) };
        let refuse = |why: &str| Error::new(ErrorKind::Refused, why).hint("Another message needs another key.");
        if SetDigest::from_bytes(digest) != send.digest() {
            return Err(refuse("the idempotency key was used for another message").into());
        }
        let message = self
            .reader()
            .message(&message_id, None)?
            .ok_or_else(|| refuse("the message sent with this idempotency key was purged"))?;
        let mut recipients: Vec<String> =
            message.recipients.iter().map(|recipient| recipient.agent_id.clone()).collect();
        recipients.dedup();
        let mailbox = |recipient: Recipient| Some(Mailbox { agent_id: recipient.agent_id, home: recipient.home? });
        // The type of an agent differs between a list and the answer to the sender.
        let sent = |tag: &Tag| Addressee::of_ref(tag).map_or_else(|| tag.clone(), Addressee::sent);
        let audiences: Vec<Tag> = message.audiences.iter().map(sent).collect();
        let resolved_to = if send.to_parent_audience { audiences.len() } else { send.mentions.len() };
        Ok(Some(Sent {
            audiences,
            message_id,
            thread_id: message.reply_to.is_some().then_some(message.thread_id).flatten(),
            created_at: message.created_at,
            resolved_to,
            recipients,
            mailboxes: message.recipients.into_iter().filter_map(mailbox).collect(),
            warnings: Vec::new(),
            is_repeated: true,
        }))
    }

    /// Records the message sent with an idempotency key. After every `SWEEP` keys, removes the oldest beyond
    /// [`limits::MAX_IDEMPOTENCY_KEYS`].
    fn remember(&self, agent: &str, key: &str, message_id: &str, request: SetDigest) -> Result<(), StoreError> {
        // Number of keys between two removals; the table exceeds its limit by fewer rows than this.
        const SWEEP: i64 = 256;
        self.conn
            .prepare_cached("INSERT INTO idempotency (agent_id, key, message_id, digest) VALUES (?1, ?2, ?3, ?4)")?
            .execute((agent, key, message_id, request.to_bytes()))?;
        let number = self.conn.last_insert_rowid();
        if number % SWEEP == 0 {
            self.conn
                .prepare_cached("DELETE FROM idempotency WHERE number <= ?1")?
                .execute([number - limits::MAX_IDEMPOTENCY_KEYS])?;
        }
        Ok(())
    }

    fn known_message(&self, message_id: &str) -> Result<Message, StoreError> {
        known_message(&self.reader(), message_id)
    }

    /// Replaces the text, the structured content, or both of the agent's own message; `None` keeps the present one.
    ///
    /// # Errors
    /// Those of [`resident`]; [`ErrorKind::NotFound`] for an unknown message; [`ErrorKind::Refused`] if the message is
    /// deleted or another agent's; [`ErrorKind::Invalid`] if both are `None` or the content is out of bounds.
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
            return Err(
                Error::new(ErrorKind::Invalid, "nothing to change: neither content nor structured is given").into()
            );
        }
        let message = self.own_message(agent, message_id, "edit")?;
        if message.deleted_at.is_some() {
            return Err(Error::new(ErrorKind::Refused, "the message is deleted").into());
        }
        let body = Body {
            format: message.body.format,
            content: content.unwrap_or(message.body.content),
            structured: structured.or(message.body.structured),
        };
        let after = message.edit_claimed_at.unwrap_or(message.claimed_at);
        let event = self
            .append_over(Payload::MessageEdit(MessageEdit { message_id: message_id.to_owned(), body }), Some(after))?;
        Ok(Edited { updated_at: self.shown_at(event.at), version: message.edits + 1 })
    }

    /// Deletes the agent's own message permanently. Deleting it again has no effect. Returns the time of the first
    /// deletion.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] if another agent wrote the message.
    pub fn delete(&mut self, agent: &str, message_id: &str, reason: Option<String>) -> Result<Timestamp, StoreError> {
        let message = self.own_message(agent, message_id, "delete")?;
        if let Some(deleted_at) = message.deleted_at {
            return Ok(deleted_at);
        }
        let payload = Payload::MessageDelete(MessageDelete { message_id: message_id.to_owned(), reason });
        let deleted_at = self.append_over(payload, Some(message.claimed_at))?.at;
        Ok(self.shown_at(deleted_at))
    }

    fn own_message(&self, agent: &str, message_id: &str, what: &str) -> Result<Message, StoreError> {
        resident(&self.reader(), agent)?;
        let message = self.known_message(message_id)?;
        if message.agent_id != agent || message.home != self.home() {
            let (author, current) = (name::printable(&message.agent_id), name::printable(agent));
            let namesake = if message.agent_id == agent { " of another machine" } else { "" };
            // This is Go Thrum's text, as recorded.
            let text = format!("only message author can {what} (author: {author}{namesake}, current: {current})");
            return Err(Error::new(ErrorKind::Refused, text)
                .hint("thrum sent lists your messages; thrum reply answers this one.")
                .into());
        }
        Ok(message)
    }

    /// Marks the oldest unread messages in the agent's own mailbox as read, at most [`limits::MAX_READ_AT_ONCE`].
    /// Returns the number marked and the number still unread.
    ///
    /// # Errors
    /// Those of [`mark_read`](Self::mark_read).
    pub fn mark_all_read(&mut self, agent: &str) -> Result<(usize, u64), StoreError> {
        resident(&self.reader(), agent)?;
        let mailbox = Mailbox { agent_id: agent.to_owned(), home: self.home().to_owned() };
        let oldest = Filter {
            mailbox: Some(mailbox.clone()),
            unread: true,
            order: Order::OldestFirst,
            limit: limits::MAX_READ_AT_ONCE,
            ..Filter::default()
        };
        let unread: Vec<String> =
            self.reader().list(&oldest)?.messages.into_iter().map(|message| message.message_id).collect();
        let marked = self.mark_read(agent, &unread)?.len();
        Ok((marked, self.reader().mail_count(&mailbox)?.1))
    }

    /// Marks messages in the agent's own mailbox as read, and returns those that were unread. Ignores messages that are
    /// not in this mailbox.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a message does not exist, and those of [`resident`]; then no message is marked.
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
                    "SELECT at, EXISTS (SELECT 1 FROM mailbox b WHERE b.owner = ?2 AND b.at = m.shown_at AND b.sequence = m.sequence AND b.unread)
                     FROM messages m WHERE message_id = ?1",
                )?
                .query_row((message_id, owner), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            match found {
                Some((at, true)) => unread.push((message_id, Timestamp::from_nanos(at))),
                Some((_, false)) => {}
                None => {
                    self.known_message(message_id)?;
                }
            }
        }
        let mut marked = Vec::new();
        let mut seen = HashSet::new();
        for (message_id, at) in unread.into_iter().filter(|(message_id, _)| seen.insert(*message_id)) {
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
}
