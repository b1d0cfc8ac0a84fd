//! Decodes parameters as Go's `encoding/json` decodes them into a struct, including its error texts.

use serde_json::{Map, Value, value::RawValue};

use super::RpcError;

/// The `params` of a request.
#[derive(Clone, Debug)]
pub(super) enum Params {
    /// Absent. Go's decoder reports an unexpected end.
    Missing,
    /// An object. `null` counts as an empty object.
    Object(Map<String, Value>),
    /// Any other JSON value, by Go's name for its type.
    Other(&'static str),
}

impl Params {
    /// Reads `params`. Fails only if the JSON is nested too deeply, contains a number that exceeds a double, or
    /// contains an unpaired surrogate.
    pub(super) fn read(raw: Option<&RawValue>) -> Result<Self, serde_json::Error> {
        let Some(raw) = raw else { return Ok(Self::Missing) };
        Ok(match serde_json::from_str(raw.get())? {
            Value::Object(fields) => Self::Object(fields),
            Value::Null => Self::Object(Map::new()),
            other => Self::Other(name_of(&other)),
        })
    }

    /// Returns the fields to decode into the struct that Go calls `go_type`.
    pub(super) fn fields<'a>(&'a self, go_type: &'static str) -> Result<Fields<'a>, RpcError> {
        match self {
            Self::Missing => Err(invalid("unexpected end of JSON input")),
            Self::Object(fields) => Ok(Fields { fields, go_type }),
            Self::Other(kind) => {
                Err(invalid(&format!("json: cannot unmarshal {kind} into Go value of type rpc.{go_type}")))
            }
        }
    }

    /// Returns the fields as they are, for methods that Go does not have.
    pub(super) fn object(&self) -> Result<&Map<String, Value>, RpcError> {
        match self {
            Self::Missing => Err(RpcError::plain("missing params")),
            Self::Object(fields) => Ok(fields),
            Self::Other(kind) => Err(invalid(&format!("{kind} where an object belongs"))),
        }
    }

    /// Returns the `token`; empty unless it is a string.
    pub(super) fn token(&self) -> &str {
        match self {
            Self::Object(fields) => fields.get("token").and_then(Value::as_str).unwrap_or_default(),
            _ => "",
        }
    }
}

/// The fields of one parameter object.
pub(super) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    go_type: &'static str,
}

impl Fields<'_> {
    /// Reads a string. An absent field and `null` are empty.
    pub(super) fn text(&self, name: &str) -> Result<String, RpcError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.mismatch(name, name_of(other), "string")),
        }
    }

    /// Reads an integer. An absent field and `null` are 0. `go_kind` is the type of Go's field.
    pub(super) fn integer(&self, name: &str, go_kind: &str) -> Result<i64, RpcError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::Number(number)) => {
                number.as_i64().ok_or_else(|| self.mismatch(name, &format!("number {number}"), go_kind))
            }
            Some(other) => Err(self.mismatch(name, name_of(other), go_kind)),
        }
    }

    /// Returns `true` if there is a value of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns `true` if the field is `true`; any other value counts as `false`. Go Thrum's parameters contain no
    /// booleans, so there is no error text to imitate.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.fields.get(name) == Some(&Value::Bool(true))
    }

    fn mismatch(&self, field: &str, found: &str, wanted: &str) -> RpcError {
        invalid(&format!(
            "json: cannot unmarshal {found} into Go struct field {}.{field} of type {wanted}",
            self.go_type
        ))
    }
}

fn invalid(why: &str) -> RpcError {
    RpcError::plain(format!("invalid params: {why}"))
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Escapes a finished JSON text as Go's encoder does. In JSON, the characters to escape occur only within strings, so
/// one pass over the whole line is enough.
pub(super) fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}
