//! Edits members and elements of a JSON file, which may contain comments and trailing commas.

use jsonc_parser::{
    ParseOptions,
    cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode},
};
use serde_json::Value;
use thrum_core::{Error, ErrorKind};

use super::{holds_another, ours};

/// The content of a file before our parts were added, if known.
pub(super) struct Before(Option<Value>);

impl Before {
    pub(super) fn new(text: Option<&str>) -> Self {
        Self(text.and_then(|text| CstRootNode::parse(text, &ParseOptions::default()).ok()?.to_serde_value()))
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self.0.as_ref()?, |value, name| value.get(name))
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::Invalid, what)
}

/// Applies a change to the object in a text and returns the new text. Everything else in the text stays as it was; an
/// empty text counts as an empty object.
///
/// # Errors
/// `invalid` if the text contains no object or a duplicate name along `path`; also the errors of `change`.
pub(super) fn edit(
    text: &str,
    path: &[&str],
    change: impl FnOnce(&CstObject) -> Result<(), Error>,
) -> Result<String, Error> {
    let no_object = |why: String| invalid(format!("it is no JSON object ({why})"));
    // Users and editors write comments and trailing commas in such files. Anything looser is a mistake.
    let options = ParseOptions {
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        ..ParseOptions::default()
    };
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    let root = CstRootNode::parse(text, &options).map_err(|error| no_object(error.to_string()))?;
    let object = root.object_value().ok_or_else(|| no_object("it holds something else".to_owned()))?;
    // Programs differ in which of two duplicates they use.
    for (depth, name) in path.iter().enumerate() {
        let Some(above) = reach(&object, &path[..depth]) else { break };
        if above.properties().iter().filter(|property| name_of(property).as_deref() == Some(*name)).count() > 1 {
            return Err(invalid(format!("\"{name}\" is in it twice")));
        }
    }
    change(&object)?;
    let mut changed = root.to_string();
    if text.ends_with('\n') && !changed.ends_with('\n') {
        changed.push('\n');
    }
    Ok(changed)
}

/// Returns the value at a path.
///
/// # Errors
/// As [`edit`].
pub(super) fn value(text: &str, path: &[&str]) -> Result<Option<Value>, Error> {
    let mut found = None;
    edit(text, path, |root| {
        found = match path.split_last() {
            Some((name, above)) => reach(root, above).and_then(|object| object.get(name)?.value()?.to_serde_value()),
            None => root.to_serde_value(),
        };
        Ok(())
    })?;
    Ok(found)
}

/// Returns our entries in the array at a path: those that equal `wanted` or run the same hook.
///
/// # Errors
/// As [`edit`].
pub(super) fn elements(text: &str, path: &[&str], wanted: &Value) -> Result<Vec<Value>, Error> {
    Ok(match value(text, path)? {
        Some(Value::Array(entries)) => {
            entries.into_iter().filter(|is| is == wanted || ours::runs_hook_of(is, wanted)).collect()
        }
        _ => Vec::new(),
    })
}

/// Returns the object at a path, and creates it if it is missing.
///
/// # Errors
/// `invalid` if another kind of value is at the path. It is not ours to replace, even if no program can read it.
fn object_at(root: &CstObject, path: &[&str]) -> Result<CstObject, Error> {
    path.iter().try_fold(root.clone(), |object, name| {
        object.object_value_or_create(name).ok_or_else(|| holds_another(&format!("\"{name}\"")))
    })
}

/// Checks that the entry in the place of our server has a command. Any command is accepted, because it may be a script
/// around `thrum mcp serve`; `thrum doctor agents` tries it. Other members may hold anything.
///
/// # Errors
/// `invalid` if the entry has no command: a program would start no server.
pub(super) fn check_server(name: &str, is: &Value, ours: &Value) -> Result<(), Error> {
    if ours::starts_server(ours) && ours::line(is).is_none() {
        return Err(holds_another(&format!("\"{name}\"")));
    }
    Ok(())
}

/// Adds a member. An existing member stays as it is, unless it is our server as an earlier version wrote it. Such a
/// server gets our current values and keeps the fields that a user added.
pub(super) fn put_member(text: &str, path: &[&str], value: &Value) -> Result<String, Error> {
    edit(text, path, |root| {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let object = object_at(root, above)?;
        let Some(there) = object.get(name) else {
            object.append(name, input(value));
            return Ok(());
        };
        let is = there.to_serde_value().unwrap_or_default();
        check_server(name, &is, value)?;
        if let (Some(server), Some(fields)) = (there.object_value(), value.as_object())
            && ours::runs_thrum(&is)
            && !ours::starts_server(&is)
        {
            for (name, value) in fields {
                match server.get(name) {
                    Some(field) => field.set_value(input(value)),
                    None => drop(server.append(name, input(value))),
                }
            }
        }
        Ok(())
    })
}

/// Adds an element, unless the array already contains it or an element that runs the same hook.
pub(super) fn put_element(text: &str, path: &[&str], value: &Value) -> Result<String, Error> {
    if !elements(text, path, value)?.is_empty() {
        return Ok(text.to_owned());
    }
    edit(text, path, |root| {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let array =
            object_at(root, above)?.array_value_or_create(name).ok_or_else(|| holds_another(&format!("\"{name}\"")))?;
        array.append(input(value));
        Ok(())
    })
}

/// Removes a member if it is our server.
pub(super) fn take_member(text: &str, path: &[&str], before: &Before) -> Result<String, Error> {
    edit(text, path, |root| {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let there = reach(root, above).and_then(|object| object.get(name));
        let is_ours = |is: &Value| ours::runs_thrum(is) || ours::starts_server(is);
        if let Some(there) = there.filter(|there| there.to_serde_value().as_ref().is_some_and(is_ours)) {
            there.remove();
            prune(root, above, before);
        }
        Ok(())
    })
}

/// Removes an element: a string that was not there before, or our hook. Other hooks in the same group stay, and so does
/// a command line that does more than run our hook.
pub(super) fn take_element(text: &str, path: &[&str], value: &Value, before: &Before) -> Result<String, Error> {
    let was_there = before.at(path).and_then(Value::as_array).is_some_and(|was| was.contains(value));
    edit(text, path, |root| {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let Some(array) = reach(root, above).and_then(|object| object.array_value(name)) else { return Ok(()) };
        if take_from(&array, value, was_there) {
            prune(root, path, before);
        }
        Ok(())
    })
}

/// Removes from an array the entries that correspond to `value`. Returns `true` if the array changed.
fn take_from(array: &CstArray, value: &Value, was_there: bool) -> bool {
    let mut has_taken = false;
    for node in array.elements() {
        let is = node.to_serde_value().unwrap_or_default();
        let is_ours = match ours::line(&is) {
            Some(line) => ours::runs_hook_of(&is, value) && !ours::does_more(&line),
            None if is.is_object() => {
                group(&node).is_some_and(|hooks| take_from(&hooks, value, false) && hooks.elements().is_empty())
            }
            None => is == *value && !was_there,
        };
        has_taken |= is_ours || node.to_serde_value().unwrap_or_default() != is;
        if is_ours {
            node.remove();
        }
    }
    has_taken
}

/// Returns the hooks of a group in Claude Code's format.
fn group(node: &CstNode) -> Option<CstArray> {
    node.as_object()?.array_value("hooks")
}

/// Removes the members in `required` if nothing else is left in the file. Members that were there before stay.
pub(super) fn take_required(text: &str, required: &[(&str, &Value)], before: &Before) -> Result<String, Error> {
    edit(text, &[], |root| {
        let properties = root.properties();
        let is_required = |property: &CstObjectProp| {
            let (name, value) = (name_of(property), property.to_serde_value());
            required.iter().any(|(wanted, is)| name.as_deref() == Some(*wanted) && value.as_ref() == Some(*is))
                && name.is_none_or(|name| before.at(&[&name]).is_none())
        };
        if properties.iter().all(is_required) {
            properties.into_iter().for_each(CstObjectProp::remove);
        }
        Ok(())
    })
}

/// Removes the objects and arrays along `path` that are empty now and were not there before.
fn prune(root: &CstObject, path: &[&str], before: &Before) {
    for depth in (1..=path.len()).rev() {
        let (above, name) = (&path[..depth - 1], path[depth - 1]);
        let Some(there) = reach(root, above).and_then(|parent| parent.get(name)) else { return };
        let is_empty = |is: Value| {
            is.as_object().is_some_and(serde_json::Map::is_empty) || is.as_array().is_some_and(Vec::is_empty)
        };
        if before.at(&path[..depth]).is_some() || !there.to_serde_value().is_some_and(is_empty) {
            return;
        }
        there.remove();
    }
}

fn reach(root: &CstObject, path: &[&str]) -> Option<CstObject> {
    path.iter().try_fold(root.clone(), |object, name| object.object_value(name))
}

fn name_of(property: &CstObjectProp) -> Option<String> {
    property.name()?.decoded_value().ok()
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(truth) => CstInputValue::Bool(*truth),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(fields) => {
            CstInputValue::Object(fields.iter().map(|(name, value)| (name.clone(), input(value))).collect())
        }
    }
}
