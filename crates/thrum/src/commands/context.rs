//! `thrum context`: an agent's notes to itself, kept as files in this worktree. Only the alias `prime` uses the daemon.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits, name};
use thrum_daemon::notes::{self, Note, Notes, Part};

use crate::{
    commands::{body, known, prime},
    context::Context,
    identity,
    output::Output,
    render::{OneLine, Page, Render, Silent, agent, boxed, style::DIM},
    setup, text,
};

/// Keep notes that survive the loss of your context
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Save your notes, replacing earlier ones
    #[command(after_help = "\
The notes are private to you, at most 256 KiB of UTF-8, in .thrum/context/NAME.md of this worktree.

Examples:
  thrum context save \"The login form is done; next: the tests in src/login.rs\"
  thrum context save --file notes.md
  cat notes.md | thrum context save")]
    Save {
        #[command(flatten)]
        text: Text,
        #[command(flatten)]
        whose: Whose,
    },
    /// Show the preamble and your notes
    #[command(
        visible_alias = "load",
        after_help = "\
Examples:
  thrum context show
  thrum context show --raw --no-preamble
  thrum context show --agent @ann"
    )]
    Show {
        /// Print only the texts, byte for byte
        #[arg(long)]
        raw: bool,
        /// Omit the preamble
        #[arg(long)]
        no_preamble: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// Remove your notes; the preamble is kept
    #[command(after_help = "\
Examples:
  thrum context clear
  thrum context clear --agent @ann")]
    Clear {
        #[command(flatten)]
        whose: Whose,
    },
    /// Set the preamble, which is shown before the notes and kept when they are cleared
    #[command(after_help = "\
Examples:
  thrum context preamble \"You review what @ann sends. Be brief.\"
  thrum context preamble --file notes.md")]
    Preamble {
        #[command(flatten)]
        text: Text,
        #[command(flatten)]
        whose: Whose,
    },
    /// Alias of `thrum prime`
    #[command(after_help = prime::AFTER_HELP)]
    Prime(prime::Args),
}

/// A text from the command line, a file or standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Text {
    /// The text of the notes; - or no argument reads it from standard input
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// Read the text from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Text {
    fn read(self, output: &Output) -> Result<Vec<u8>, Error> {
        let content = match (self.text, self.file) {
            (Some(text), None) if text == "-" => bounded(&mut io::stdin().lock(), "standard input")?,
            (None, Some(path)) if path.as_os_str() == "-" => bounded(&mut io::stdin().lock(), "standard input")?,
            (Some(text), None) => text.into_bytes(),
            (None, None) => {
                body::unasked("--file FILE", output)?;
                bounded(&mut io::stdin().lock(), "standard input")?
            }
            (_, Some(path)) => {
                let shown = path.display().to_string();
                let mut file = File::open(&path).map_err(|error| body::read_error(&shown, &error))?;
                bounded(&mut file, &shown)?
            }
        };
        notes::check(&content)?;
        if content.trim_ascii().is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "the text is empty").hint(
                "Give it as TEXT, with --file FILE, or on standard input. To remove the notes: thrum context clear",
            ));
        }
        Ok(content)
    }
}

fn bounded(source: &mut dyn Read, name: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that the text is too long; the rest is not read.
    source
        .take(limits::MAX_NOTES_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| body::read_error(name, &error))?;
    Ok(bytes)
}

/// Whose notes.
#[derive(Debug, clap::Args)]
pub(crate) struct Whose {
    /// Use another agent of this worktree
    #[arg(long, value_name = "@NAME")]
    agent: Option<String>,
}

impl Whose {
    fn name(self, cx: &Context) -> Result<String, Error> {
        match self.agent {
            Some(name) => {
                let name = known::bare(&name);
                name::check_agent(name)?;
                of_this_worktree(name, cx)?;
                Ok(name.to_owned())
            }
            None => Ok(cx.identity()?.name),
        }
    }
}

/// Rejects an agent with neither an identity nor notes or a preamble here: the name is probably misspelt.
fn of_this_worktree(name: &str, cx: &Context) -> Result<(), Error> {
    let identities = identity::candidates(&cx.repo()?.identities())?;
    let place = Notes::of(cx.repo()?);
    let has_notes =
        || Ok::<_, Error>(place.path(name, Part::Notes)?.exists() || place.path(name, Part::Preamble)?.exists());
    if identities.iter().any(|known| known == name) || has_notes()? {
        return Ok(());
    }
    let near = name::nearest(name, identities.iter().map(String::as_str));
    let hint =
        near.map_or_else(|| format!("It has: {}", identities.join(", ")), |near| format!("Did you mean @{near}?"));
    Err(Error::new(ErrorKind::NotFound, format!("unknown agent: @{name} has no identity in this worktree")).hint(hint))
}

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Save { text, whose } => boxed(save(text, whose, Part::Notes, cx)),
            Self::Show { raw, no_preamble, whose } => show(raw, no_preamble, whose, cx),
            Self::Clear { whose } => boxed(clear(whose, cx)),
            Self::Preamble { text, whose } => boxed(save(text, whose, Part::Preamble, cx)),
            Self::Prime(args) => boxed(prime::run(&args, cx)),
        }
    }
}

fn save(text: Text, whose: Whose, part: Part, cx: &Context) -> Result<OneLine, Error> {
    let name = whose.name(cx)?;
    let content = text.read(&cx.output)?;
    setup::complete(cx.repo()?)?;
    let path = Notes::of(cx.repo()?).write(&name, part, &content)?;
    let what = if part == Part::Notes { "notes" } else { "preamble" };
    Ok(OneLine {
        line: format!("Saved the {what} of {} ({})", agent(&name), text::count(content.len() as u64, "byte")),
        value: json!({"status": "saved", "agent_name": name, "size": content.len(), "path": path}),
    })
}

fn clear(whose: Whose, cx: &Context) -> Result<OneLine, Error> {
    let name = whose.name(cx)?;
    let cleared = Notes::of(cx.repo()?).clear(&name)?;
    let line = if cleared {
        format!("Cleared the notes of {}", agent(&name))
    } else {
        format!("{} had no notes", agent(&name))
    };
    Ok(OneLine { line, value: json!({"status": if cleared { "cleared" } else { "none" }, "agent_name": name}) })
}

/// The notes and the preamble of one agent.
struct NotesPage {
    agent: String,
    notes: Option<Note>,
    preamble: Option<Note>,
}

fn show(raw: bool, no_preamble: bool, whose: Whose, cx: &Context) -> Result<Box<dyn Render>, Error> {
    let agent = whose.name(cx)?;
    let place = Notes::of(cx.repo()?);
    let notes = place.read(&agent, Part::Notes)?;
    let preamble = if no_preamble { None } else { place.read(&agent, Part::Preamble)? };
    if notes.is_none() && preamble.is_none() {
        cx.output.hint("thrum context save TEXT");
    }
    if raw && !cx.output.is_json() {
        for note in [preamble, notes].into_iter().flatten() {
            cx.output.exactly(&note.content)?;
        }
        return boxed(Ok(Silent));
    }
    boxed(Ok(NotesPage { agent, notes, preamble }))
}

impl Render for NotesPage {
    fn human(&self, page: &mut Page) {
        if let Some(preamble) = &self.preamble {
            page.body(&String::from_utf8_lossy(&preamble.content));
            page.line("");
        }
        match &self.notes {
            Some(notes) => {
                let saved = format!("Notes of {}, saved {}", agent(&self.agent), page.time(notes.updated_at));
                page.line(format!("{DIM}{saved}{DIM:#}"));
                page.body(&String::from_utf8_lossy(&notes.content));
            }
            None => page.line(format!("No notes of {}", agent(&self.agent))),
        }
    }

    fn json(&self) -> Value {
        let text = |note: &Option<Note>| note.as_ref().map(|note| String::from_utf8_lossy(&note.content).into_owned());
        json!({
            "agent_name": self.agent, "has_context": self.notes.is_some(), "content": text(&self.notes),
            "has_preamble": self.preamble.is_some(), "preamble": text(&self.preamble),
            "size": self.notes.as_ref().map(|note| note.content.len()), "updated_at": self.notes.as_ref().map(|note| note.updated_at),
        })
    }
}
