//! The canonical form of an event (RFC 8785): built from parsed fields, or recognised in the text as received.
//!
//! An event that one of our daemons serves is already in canonical form, except for its `sequence`.
//! [`Canonical::recognise`] proves that in one pass over the bytes and finds the members of the object on the way,
//! which is much faster than parsing the object and writing it again. It recognises only texts for which the proof is
//! simple (`scan.rs`). Any other text is parsed and written again with [`Canonical::new`], which gives the same result
//! for a text that both accept.
//!
//! Example: `{"a":1,"signature":"x","v":1}` is recognised, and its signed part is `{"a":1,"v":1}`. `{"v":1,"a":1}` and
//! `{"a":1.0}` are not recognised, and [`Canonical::new`] writes `{"a":1,"v":1}` and `{"a":1}`.

mod scan;

use std::ops::Range;

use scan::Member;
use serde::ser::Error as _;
use serde_json::{Map, Value};

const SIGNATURE: &str = "signature";

/// The canonical form of one event, without `sequence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    whole: String,
    /// The bytes of `whole` that the signature does not cover: the member `signature` and, if there are other members,
    /// one comma. Without a signature, the empty range at the place of that member.
    unsigned: Range<usize>,
}

impl Canonical {
    /// Writes an object in canonical form without `sequence`.
    ///
    /// # Errors
    /// The object has no canonical form, for example because of a number outside the range of a double.
    pub fn new(fields: &Map<String, Value>) -> Result<Self, serde_json::Error> {
        // Most objects have only members whose usual JSON text is canonical, which is faster to write and to check.
        if let Ok(text) = serde_json::to_string(fields)
            && let Some(unsigned) = recognised(&text).map(|(_, unsigned)| unsigned)
        {
            return Ok(Self { whole: text, unsigned });
        }
        Self::written(fields)
    }

    /// Like [`new`](Self::new), member by member, for any object.
    fn written(fields: &Map<String, Value>) -> Result<Self, serde_json::Error> {
        let mut keys: Vec<&str> = fields.keys().map(String::as_str).filter(|key| *key != "sequence").collect();
        keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        let mut whole = Vec::with_capacity(1024);
        let mut ends = Vec::with_capacity(keys.len());
        whole.push(b'{');
        for key in &keys {
            if whole.len() > 1 {
                whole.push(b',');
            }
            serde_json_canonicalizer::to_writer(key, &mut whole)?;
            whole.push(b':');
            serde_json_canonicalizer::to_writer(&fields[*key], &mut whole)?;
            ends.push(whole.len());
        }
        whole.push(b'}');
        let unsigned = unsigned(&keys, &ends);
        Ok(Self { whole: String::from_utf8(whole).map_err(serde_json::Error::custom)?, unsigned })
    }

    /// Recognises a text that already is canonical and has no `sequence`, and finds its members. `None` does not mean
    /// that the text has no canonical form, only that it must be parsed.
    pub fn recognise(text: &str) -> Option<(Self, Members<'_>)> {
        let (members, unsigned) = recognised(text)?;
        Some((Self { unsigned, whole: text.to_owned() }, members))
    }

    /// The text that the signature covers, without `sequence` and `signature`, in two parts.
    pub fn signed_part(&self) -> [&str; 2] {
        signed_part(&self.whole, &self.unsigned)
    }

    /// Adds a signature, given in base64url, or replaces the one that the object has.
    #[must_use]
    pub fn signed(self, signature: &str) -> Self {
        let [before, after] = self.signed_part();
        let member = format!("\"{SIGNATURE}\":\"{signature}\"");
        let member = match (before, after) {
            ("{", "}") => member,
            ("{", _) => format!("{member},"),
            _ => format!(",{member}"),
        };
        let unsigned = before.len()..before.len() + member.len();
        Self { whole: [before, &member, after].concat(), unsigned }
    }

    /// The text that the log stores and the digest covers: without `sequence`, with the signature if there is one.
    pub fn whole(&self) -> &str {
        &self.whole
    }

    /// Returns the text of [`whole`](Self::whole) without copying it.
    pub fn into_whole(self) -> String {
        self.whole
    }

    /// The [whole](Self::whole) text, and the bytes of it that the signature does not cover.
    pub(crate) fn into_parts(self) -> (String, Range<usize>) {
        (self.whole, self.unsigned)
    }
}

/// Finds the members of a text that already is canonical and has no `sequence`, and the bytes of it that the signature
/// does not cover.
fn recognised(text: &str) -> Option<(Members<'_>, Range<usize>)> {
    let members = Members(scan::object(text)?);
    if members.raw("sequence").is_some() {
        return None;
    }
    let (keys, ends): (Vec<&str>, Vec<usize>) = members.0.iter().map(|member| (member.key, member.end)).unzip();
    Some((members, unsigned(&keys, &ends)))
}

/// The two parts of a text around the bytes that the signature does not cover.
pub(crate) fn signed_part<'a>(whole: &'a str, unsigned: &Range<usize>) -> [&'a str; 2] {
    [&whole[..unsigned.start], &whole[unsigned.end..]]
}

/// The range of bytes that the signature does not cover. `keys` are the keys of the object, in order, and `ends` the
/// offsets at which their members end.
fn unsigned(keys: &[&str], ends: &[usize]) -> Range<usize> {
    // The order by UTF-16 code units equals the order by bytes if one side is ASCII, as `signature` is.
    let index = keys.partition_point(|key| *key < SIGNATURE);
    let before = index.checked_sub(1).map_or(1, |previous| ends[previous]);
    match keys.get(index) {
        Some(&SIGNATURE) => {
            let is_only = keys.len() == 1;
            // One of the two commas goes with the member: the one before it, unless it is the first member.
            let comma_after = usize::from(index == 0 && !is_only);
            before..ends[index] + comma_after
        }
        _ => before..before,
    }
}

/// The members of an object that was [recognised](Canonical::recognise), in order.
#[derive(Debug)]
pub struct Members<'a>(Vec<Member<'a>>);

impl<'a> Members<'a> {
    /// The value of a member as it stands in the text.
    pub fn raw(&self, key: &str) -> Option<&'a str> {
        let index = self.0.binary_search_by(|member| member.key.cmp(key)).ok()?;
        Some(self.0[index].value)
    }

    /// The value of a member that is a string without escapes.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let text = self.raw(key)?.strip_prefix('"')?.strip_suffix('"')?;
        (!text.contains('\\')).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_object;

    fn parsed(text: &str) -> Canonical {
        let fields = parse_object(text).expect("an object");
        let made = Canonical::new(&fields).expect("canonical");
        assert_eq!(made, Canonical::written(&fields).expect("canonical"), "{text}");
        made
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
            let made = parsed(text);
            assert_eq!((made.whole(), made.signed_part().concat().as_str()), (whole, signed_part), "{text}");
            if text.contains("signature") {
                assert_eq!(parsed(signed_part).signed("s"), made, "{text}");
            }
            assert_eq!(Canonical::recognise(whole).expect("canonical").0, made, "{text}");
        }
    }

    #[test]
    fn numbers_are_doubles_as_go_relays_them() {
        let made = parsed(r#"{"big":9007199254740993,"one":1.0,"tiny":1e-7,"huge":1e21}"#);
        assert_eq!(made.whole(), r#"{"big":9007199254740992,"huge":1e+21,"one":1,"tiny":1e-7}"#);
    }

    #[test]
    fn a_canonical_event_is_recognised_with_its_members() {
        let text = "{\"a\":[],\"b\":{\"c\":[-7,0,true,false,null,{}],\"d\":\"\\n\\u001f\\\"\u{7f}\u{2028}ß\"},\"event_id\":\"evt_1\",\"origin_seq\":12}";
        let (canonical, members) = Canonical::recognise(text).expect("canonical");
        assert_eq!(canonical, parsed(text));
        assert_eq!((members.text("event_id"), members.raw("origin_seq")), (Some("evt_1"), Some("12")));
        assert_eq!((members.text("origin_seq"), members.raw("missing")), (None, None));
        let escaped = Canonical::recognise(r#"{"event_id":"a\\nb"}"#).expect("canonical");
        assert_eq!(escaped.1.text("event_id"), None, "the text would have to be unescaped");
    }

    #[test]
    fn a_text_that_is_not_canonical_is_not_recognised() {
        for text in [
            "",
            "[]",
            "{",
            "{}}",
            "{} ",
            r#"{"a":1,}"#,
            r#"{"a" :1}"#,
            r#"{"a":1 }"#,
            r#"{"b":1,"a":1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"b":1,"a":1}}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e2}"#,
            r#"{"a":01}"#,
            r#"{"a":-0}"#,
            r#"{"a":-}"#,
            r#"{"a":+1}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\u000a"}"#,
            r#"{"a":"\u001F"}"#,
            r#"{"a":"\ud83d\ude00"}"#,
            "{\"a\":\"\t\"}",
            r#"{"\u0061":1}"#,
            r#"{"ä":1}"#,
            r#"{"a":tru}"#,
            r#"{"a":nullx}"#,
            r#"{"a":}"#,
            r#"{"sequence":1}"#,
        ] {
            assert!(Canonical::recognise(text).is_none(), "{text}");
        }
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Canonical::recognise(&nested(31)).is_some());
        assert!(Canonical::recognise(&nested(32)).is_none());
        assert!(Canonical::recognise(&nested(1_000_000)).is_none());
    }

    /// If a canonical text with one altered byte is recognised, parsing it and writing it again gives the same.
    #[test]
    fn no_altered_byte_makes_a_text_canonical_that_is_not() {
        let text = "{\"a\":[1,-20,\"x\\n\\u0001y\"],\"b\":{\"c\":true,\"d\":null},\"signature\":\"s\",\"v\":1}";
        let bytes =
            [b'"', b'\\', b',', b':', b'{', b'}', b'[', b']', b'0', b'9', b'-', b'.', b'e', b'a', b'u', b' ', b'\n', 0];
        let mut recognised = 0;
        for at in 0..text.len() {
            for byte in bytes {
                let mut altered = text.as_bytes().to_vec();
                altered[at] = byte;
                let altered = String::from_utf8(altered).expect("ASCII");
                if let Some((canonical, _)) = Canonical::recognise(&altered) {
                    recognised += 1;
                    assert_eq!(canonical.whole(), altered);
                    assert_eq!(canonical, parsed(&altered), "{altered}");
                }
            }
        }
        assert!(recognised > 50, "{recognised}");
    }
}
