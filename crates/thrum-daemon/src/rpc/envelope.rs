//! Parses request lines and formats answer lines. The messages of the codes -32700, -32600 and -32601 are copied from
//! recorded answers of Go Thrum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thrum_core::{Error, ErrorKind};

/// A request as received. Unknown keys are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    jsonrpc: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
    /// Returned unchanged in the answer.
    #[serde(default)]
    id: Option<Box<RawValue>>,
}

/// A request that can be executed.
#[derive(Debug)]
pub(crate) struct Call {
    /// The name of the method, which may not exist.
    pub(crate) method: String,
    /// The call's parameters.
    pub(crate) params: Params,
    /// Returned unchanged in the answer; `None` if the request had none.
    pub(crate) id: Option<Box<RawValue>>,
}

/// Parses a line.
///
/// # Errors
/// The finished answer line for a line that is not a request.
pub(crate) fn read(line: &[u8]) -> Result<Call, String> {
    let no_request = |why: String| answer(Err(&RpcError::with_text(-32700, "Parse error", why)), None);
    // Serde would accept an array as the fields of a struct in order.
    if line.trim_ascii_start().first() == Some(&b'[') {
        return Err(no_request("a request is an object; batches are not served".to_owned()));
    }
    let request: Request = serde_json::from_slice(line).map_err(|error| no_request(error.to_string()))?;
    let Request { jsonrpc, method, params, id } = request;
    if jsonrpc.as_deref() != Some("2.0") {
        let error = RpcError::with_text(-32600, "Invalid request", "jsonrpc field must be '2.0'");
        return Err(answer(Err(&error), id.as_deref()));
    }
    Ok(Call { method: method.unwrap_or_default(), params: Params(params), id })
}

/// The unparsed parameters of a call.
#[derive(Debug)]
pub(crate) struct Params(Option<Box<RawValue>>);

impl Params {
    /// Parses the parameters into a method's type. Missing parameters count as an empty object, and `null` counts as
    /// missing, as in Go.
    ///
    /// # Errors
    /// `invalid`, with the error of the parser.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let text = self.0.as_ref().map_or("{}", |raw| raw.get().trim());
        let text = if text == "null" { "{}" } else { text };
        let wrong = |why: String| Error::new(ErrorKind::Invalid, format!("invalid params: {why}"));
        if !text.starts_with('{') {
            return Err(wrong("not an object".to_owned()));
        }
        serde_json::from_str(text)
            .or_else(|error| without_nulls(text).unwrap_or(Err(error)))
            .map_err(|error| wrong(error.to_string()))
    }

    /// Wraps parameters that were not read from a line.
    ///
    /// # Errors
    /// `failed` if they have no JSON form, which does not happen for our values.
    pub(crate) fn of_value(value: &serde_json::Value) -> Result<Self, Error> {
        Ok(Self(Some(result(value)?)))
    }

    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(Some(RawValue::from_string(text.to_owned()).expect("JSON")))
    }
}

/// Parses the parameters again without their null fields; `None` if no field is null.
fn without_nulls<T: DeserializeOwned>(text: &str) -> Option<serde_json::Result<T>> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    let all = fields.len();
    fields.retain(|_, value| value.get() != "null");
    (fields.len() < all).then(|| serde_json::from_str(&serde_json::to_string(&fields)?))
}

/// An error in the form of an answer.
#[derive(Debug, Serialize)]
pub(crate) struct RpcError {
    code: i32,
    message: String,
    data: serde_json::Value,
}

impl RpcError {
    fn with_text(code: i32, message: &str, data: impl Into<String>) -> Self {
        Self { code, message: message.to_owned(), data: serde_json::Value::String(data.into()) }
    }

    /// Returns the error for a method that does not exist.
    pub(crate) fn unknown_method(name: &str) -> Self {
        Self::with_text(-32601, "Method not found", format!("method '{name}' is not registered"))
    }
}

impl From<&Error> for RpcError {
    fn from(error: &Error) -> Self {
        Self { code: -32000, message: error.message.clone(), data: error.data() }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RpcError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
}

/// Formats the answer line for a request.
pub(crate) fn answer(outcome: Result<&RawValue, &RpcError>, id: Option<&RawValue>) -> String {
    let (result, error) = match outcome {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error)),
    };
    line(&Answer { jsonrpc: "2.0", result, error, id })
}

/// Returns the text before and after the result in the line that [`answer`] would format.
pub(crate) fn around(id: Option<&RawValue>) -> (String, String) {
    let before = r#"{"jsonrpc":"2.0","result":"#;
    let id = id.map(|id| format!(",\"id\":{}", id.get())).unwrap_or_default();
    (before.to_owned(), format!("{id}}}\n"))
}

/// Formats the answer line for an error.
pub(crate) fn failure(error: &Error, id: Option<&RawValue>) -> String {
    answer(Err(&error.into()), id)
}

/// Formats the line of a notification.
pub(crate) fn notification(method: &str, params: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Notification<'a, T> {
        jsonrpc: &'static str,
        method: &'a str,
        params: &'a T,
    }
    line(&Notification { jsonrpc: "2.0", method, params })
}

/// Serialises a method's result.
pub(crate) fn result(value: &impl Serialize) -> Result<Box<RawValue>, Error> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Error::new(ErrorKind::Failed, format!("the answer has no JSON form: {error}")))
}

fn line(value: &impl Serialize) -> String {
    // An answer contains only text, numbers and JSON that was parsed before, so serialising it cannot fail.
    let mut line = serde_json::to_string(value).expect("answers are JSON");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(line: &str) -> Value {
        serde_json::from_str(&read(line.as_bytes()).expect_err(line)).expect("an answer is JSON")
    }

    #[test]
    fn malformed_requests_get_gos_errors() {
        let deep = format!("{{\"jsonrpc\":\"2.0\",\"method\":{}1", "[".repeat(100_000));
        for line in [
            "nonsense",
            "",
            "[]",
            "[{\"jsonrpc\":\"2.0\"}]",
            "7",
            "{\"jsonrpc\":2}",
            "{\"id\":1,\"id\":2}",
            "\u{feff}{}",
            &deep,
        ] {
            let answer = refused(line);
            assert_eq!(
                (&answer["error"]["code"], &answer["error"]["message"]),
                (&json!(-32700), &json!("Parse error")),
                "{line:.40}"
            );
            assert!(answer["error"]["data"].is_string() && answer.get("id").is_none(), "{answer}");
        }
        for line in ["{\"id\":\"x\"}", "{\"jsonrpc\":\"1.0\",\"id\":\"x\"}", "{\"jsonrpc\":null,\"id\":\"x\"}"] {
            let data = "jsonrpc field must be '2.0'";
            assert_eq!(
                refused(line),
                json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid request", "data": data}, "id": "x"})
            );
        }
        assert!(read(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}").is_err());
    }

    #[test]
    fn an_answer_carries_the_id_as_it_came() {
        for id in ["1", "\"a\"", "null", "[1]", "1e3"] {
            let call =
                read(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"health\",\"more\":1}}\r").as_bytes())
                    .expect("a request");
            let line = answer(Err(&RpcError::unknown_method(&call.method)), call.id.as_deref());
            // Serde treats a null id as absent, as Go does.
            let expected = if id == "null" { "}".to_owned() } else { format!(",\"id\":{id}}}") };
            assert!(line.ends_with(&format!("\"data\":\"method 'health' is not registered\"}}{expected}\n")), "{line}");
        }
    }

    #[test]
    fn a_large_result_stands_in_the_same_line_as_a_small_one() {
        let value = result(&json!({"n": [1, "\u{1}"]})).expect("JSON");
        for id in [None, Some(result(&7).expect("JSON")), Some(result(&"a").expect("JSON"))] {
            let (before, after) = around(id.as_deref());
            assert_eq!(format!("{before}{}{after}", value.get()), answer(Ok(&value), id.as_deref()));
        }
    }

    #[test]
    fn parameters_are_an_object_or_nothing() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Wanted {
            #[serde(default)]
            n: u32,
        }
        assert_eq!(Params(None).read::<Wanted>(), Ok(Wanted { n: 0 }));
        assert_eq!(Params::of("null").read::<Wanted>(), Ok(Wanted { n: 0 }));
        assert_eq!(Params::of("{\"n\":null,\"x\":1}").read::<Wanted>(), Ok(Wanted { n: 0 }));
        assert_eq!(Params::of(" {\"n\":7,\"x\":1} ").read::<Wanted>(), Ok(Wanted { n: 7 }));
        for wrong in
            ["{\"n\":\"7\",\"x\":null}", "[7]", "7", "\"n\"", "{\"n\":-1}", "{\"n\":\"7\"}", "{\"n\":7,\"n\":8}"]
        {
            let error = Params::of(wrong).read::<Wanted>().expect_err(wrong);
            assert!(error.kind == ErrorKind::Invalid && error.message.starts_with("invalid params: "), "{error}");
        }
    }
}
