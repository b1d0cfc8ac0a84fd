//! JSON as events need it: parsed strictly, measured, and cut to a length.

use std::fmt::{self, Write};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
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
