//! JSON as events need it: parsed strictly, written in RFC 8785 canonical form.

use std::fmt::{self, Write};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser,
};
use serde_json::{Map, Number, Value};

use crate::name::is_printable;

/// Parses one JSON object. Refuses anything else, duplicate keys, lone surrogates, numbers outside the range of a
/// double, nesting of [`MAX_JSON_DEPTH`](crate::limits::MAX_JSON_DEPTH) or more, and text after the end.
pub fn parse_object(text: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let Strict(value) = serde_json::from_str(text)?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(de::Error::custom("not an object")),
    }
}

/// Escapes the characters in a line of JSON that are not [printable](is_printable): JSON allows some of them in
/// strings, and a terminal would obey or hide them. The line must not have line breaks or tabs between its values.
pub fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if is_printable(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// The length of a value as JSON, in bytes.
pub fn size(value: &impl serde::Serialize) -> usize {
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    // `Count` never returns an error, and every value counted here can be written as JSON.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// The length of a string as JSON without its quotes, in bytes. Two less than [`size`], which counts the quotes, and
/// much faster.
pub fn text_size(text: &str) -> usize {
    text.bytes().map(|byte| usize::from(ESCAPED[usize::from(byte)])).sum()
}

/// The number of bytes that each byte of a string takes in JSON.
const ESCAPED: [u8; 256] = {
    let mut bytes = [1; 256];
    let mut control = 0;
    while control < 0x20 {
        bytes[control] = 6;
        control += 1;
    }
    let mut short = 0;
    while short < SHORT_ESCAPES.len() {
        bytes[SHORT_ESCAPES[short] as usize] = 2;
        short += 1;
    }
    bytes
};

/// Characters that JSON escapes as a backslash and one character.
const SHORT_ESCAPES: [u8; 7] = *b"\"\\\n\r\t\x08\x0c";

/// The longest prefix of a string that takes at most `most` bytes in JSON, without its quotes.
pub fn prefix(text: &str, most: usize) -> &str {
    let mut bytes = 0;
    for (at, byte) in text.bytes().enumerate() {
        bytes += usize::from(ESCAPED[usize::from(byte)]);
        if bytes > most {
            return &text[..text.floor_char_boundary(at)];
        }
    }
    text
}

/// Converts an object to canonical form without `sequence`, with and without `signature`.
///
/// Writes the top-level members one by one, so that one pass over the values yields both forms.
pub fn canonical(fields: &Map<String, Value>) -> Result<Canonical, serde_json::Error> {
    let mut keys: Vec<&String> = fields.keys().filter(|key| *key != "sequence" && *key != SIGNATURE).collect();
    keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    let mut signed_part = Vec::with_capacity(1024);
    let mut signature_at = None;
    signed_part.push(b'{');
    for key in keys {
        // The order by UTF-16 code units equals the order by bytes if one side is ASCII, as `signature` is.
        if key.as_str() > SIGNATURE && signature_at.is_none() {
            signature_at = Some(signed_part.len());
        }
        serde_json_canonicalizer::to_writer(key, &mut signed_part)?;
        signed_part.push(b':');
        serde_json_canonicalizer::to_writer(&fields[key], &mut signed_part)?;
        signed_part.push(b',');
    }
    if signed_part.len() > 1 {
        signed_part.pop();
    }
    let signature_at = signature_at.unwrap_or(signed_part.len());
    signed_part.push(b'}');
    let signed_part = String::from_utf8(signed_part).map_err(ser::Error::custom)?;
    let mut canonical = Canonical { signed_part, signature_at, signature: None };
    if let Some(signature) = fields.get(SIGNATURE) {
        canonical.signature = Some(serde_json_canonicalizer::to_string(signature)?);
    }
    Ok(canonical)
}

const SIGNATURE: &str = "signature";

/// The canonical form of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    signed_part: String,
    /// Byte offset in `signed_part` at which the signature's member belongs.
    signature_at: usize,
    /// The signature as JSON.
    signature: Option<String>,
}

impl Canonical {
    /// The text that the signature covers: without `sequence` and `signature`.
    pub fn signed_part(&self) -> &str {
        &self.signed_part
    }

    /// Sets the signature, given in base64url.
    #[must_use]
    pub fn signed(self, signature: &str) -> Self {
        Self { signature: Some(format!("\"{signature}\"")), ..self }
    }

    /// The text that the log stores and the digest covers: without `sequence`, with the signature if there is one.
    pub fn whole(&self) -> String {
        let Some(signature) = &self.signature else { return self.signed_part.clone() };
        let (before, after) = self.signed_part.split_at(self.signature_at);
        let comma_before = if before.len() > 1 && !before.ends_with(',') { "," } else { "" };
        let comma_after = if after == "}" { "" } else { "," };
        format!("{before}{comma_before}\"{SIGNATURE}\":{signature}{comma_after}{after}")
    }
}

/// A value whose parser refuses duplicate keys. `serde_json` alone silently keeps the last duplicate.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(StrictVisitor)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom("duplicate key"));
            }
            let value = access.next_value_seed(StrictVisitor)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(text: &str) -> Canonical {
        canonical(&parse_object(text).expect("an object")).expect("canonical")
    }

    #[test]
    fn a_prefix_is_measured_in_its_json_form() {
        let text = "a\u{1}é\"\\\n\u{7f}世b";
        for most in 0..40 {
            let cut = prefix(text, most);
            assert!(size(&cut) - 2 <= most && text.starts_with(cut));
            let longer: String = text.chars().take(cut.chars().count() + 1).collect();
            assert!(cut == text || size(&longer) - 2 > most, "it is the longest");
        }
        let every: String = (0..0x180).filter_map(char::from_u32).collect();
        assert_eq!(text_size(&every), size(&every) - 2);
    }

    #[test]
    fn sequence_and_signature_are_removed_at_any_position() {
        let cases = [
            (
                r#"{"sequence":7,"v":1,"signature":"s","a":"<b>"}"#,
                r#"{"a":"<b>","signature":"s","v":1}"#,
                r#"{"a":"<b>","v":1}"#,
            ),
            (r#"{"signature":"s","v":1}"#, r#"{"signature":"s","v":1}"#, r#"{"v":1}"#),
            (r#"{"signature":"s","a":1}"#, r#"{"a":1,"signature":"s"}"#, r#"{"a":1}"#),
            (r#"{"signature":"s"}"#, r#"{"signature":"s"}"#, "{}"),
            (r#"{"sequence":1}"#, "{}", "{}"),
        ];
        for (text, whole, signed_part) in cases {
            let made = canonical_of(text);
            assert_eq!((made.whole().as_str(), made.signed_part()), (whole, signed_part), "{text}");
        }
    }

    #[test]
    fn numbers_are_doubles_as_go_relays_them() {
        let made = canonical_of(r#"{"big":9007199254740993,"one":1.0,"tiny":1e-7,"huge":1e21}"#);
        assert_eq!(made.whole(), r#"{"big":9007199254740992,"huge":1e+21,"one":1,"tiny":1e-7}"#);
    }

    #[test]
    fn values_without_canonical_form_are_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "",
            "[]",
            "1",
            "{} {}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":1e400}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":NaN}"#,
            "\u{feff}{}",
            &deep,
        ] {
            assert!(parse_object(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }
}
