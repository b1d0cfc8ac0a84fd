//! JSON as events need it: read strictly, written in RFC 8785 canonical form.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser,
};
use serde_json::{Map, Number, Value};

/// Reads one JSON object. Refused: anything else, duplicate keys, lone surrogates, numbers beyond a double, nesting beyond
/// [`MAX_JSON_DEPTH`](crate::limits::MAX_JSON_DEPTH), bytes after the end.
pub fn parse_object(text: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let Strict(value) = serde_json::from_str(text)?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(de::Error::custom("not an object")),
    }
}

/// How many bytes a value has as JSON.
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
    // `Count` never returns an error, and the values counted here can all be written as JSON.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// The longest beginning of a text that has at most so many bytes as a JSON string, without its quotes.
pub fn prefix(text: &str, most: usize) -> &str {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if u32::from(c) < 0x20 => 6,
            c => c.len_utf8(),
        };
        if bytes > most {
            return &text[..at];
        }
    }
    text
}

/// The object in canonical form without `sequence`, in the two shapes that signatures need.
///
/// Top-level members are written one by one, so that both texts come from one pass over the values.
pub fn canonical(fields: &Map<String, Value>) -> Result<Canonical, serde_json::Error> {
    let mut keys: Vec<&String> = fields.keys().filter(|key| *key != "sequence" && *key != SIGNATURE).collect();
    keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    let mut signed_part = Vec::with_capacity(1024);
    let mut signature_at = None;
    signed_part.push(b'{');
    for key in keys {
        // Order by code units and by bytes agree as long as one side is ASCII, as `signature` is.
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
    /// Where the signature's member stands in it.
    signature_at: usize,
    /// The signature, as JSON.
    signature: Option<String>,
}

impl Canonical {
    /// Without `sequence` and `signature`: what the signature covers.
    pub fn signed_part(&self) -> &str {
        &self.signed_part
    }

    /// With this signature, base64url.
    #[must_use]
    pub fn signed(self, signature: &str) -> Self {
        Self { signature: Some(format!("\"{signature}\"")), ..self }
    }

    /// Without `sequence`, with the signature if there is one: what the log keeps and the digest sums.
    pub fn whole(&self) -> String {
        let Some(signature) = &self.signature else { return self.signed_part.clone() };
        let (before, after) = self.signed_part.split_at(self.signature_at);
        let comma_before = if before.len() > 1 && !before.ends_with(',') { "," } else { "" };
        let comma_after = if after == "}" { "" } else { "," };
        format!("{before}{comma_before}\"{SIGNATURE}\":{signature}{comma_after}{after}")
    }
}

/// A value read with duplicate keys refused; `serde_json` alone keeps the last one silently.
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
    fn a_prefix_is_as_long_as_json_makes_it() {
        let text = "a\u{1}é\"\\\n\u{7f}世b";
        for most in 0..40 {
            let cut = prefix(text, most);
            assert!(size(&cut) - 2 <= most && text.starts_with(cut));
            let longer: String = text.chars().take(cut.chars().count() + 1).collect();
            assert!(cut == text || size(&longer) - 2 > most, "it is the longest");
        }
    }

    #[test]
    fn sequence_and_signature_are_taken_out_wherever_they_stand() {
        let cases = [
            (r#"{"sequence":7,"v":1,"signature":"s","a":"<b>"}"#, r#"{"a":"<b>","signature":"s","v":1}"#, r#"{"a":"<b>","v":1}"#),
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
    fn what_has_no_canonical_form_is_refused() {
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
