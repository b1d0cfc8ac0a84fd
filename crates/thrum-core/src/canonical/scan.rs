//! Scans a text for an object in canonical form, and remembers where its members are.
//!
//! Every text that is accepted is canonical. Some canonical texts are not accepted (see [`object`]).

/// Maximum nesting that is accepted.
const MAX_DEPTH: usize = 32;

/// The number of digits of the largest integer that is accepted.
const MAX_DIGITS: usize = 15;

/// A member of the scanned object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) key: &'a str,
    /// The value as it stands in the text.
    pub(super) value: &'a str,
    /// The offset in the text just after the value.
    pub(super) end: usize,
}

/// Returns the members of an object if `text` is one in canonical form. Does not accept a key with `"`, `\` or a
/// character outside printable ASCII, a number other than an integer of at most 15 digits, or nesting deeper than 32.
pub(super) fn object(text: &str) -> Option<Vec<Member<'_>>> {
    let mut members = Vec::with_capacity(24);
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    scan.object(0, &mut |key, start, end| members.push(Member { key, value: &text[start..end], end }))?;
    (scan.at == text.len()).then_some(members)
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// The offset of the next byte.
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.object(depth, &mut |_, _, _| {}),
            b'[' => self.array(depth),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.integer(),
        }
    }

    /// Calls `found` with the key of each member, and the offsets at which its value begins and ends.
    fn object(&mut self, depth: usize, found: &mut dyn FnMut(&'a str, usize, usize)) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        let mut previous: Option<&str> = None;
        loop {
            let key = self.key()?;
            // Also excludes duplicate keys.
            if previous.is_some_and(|previous| key <= previous) {
                return None;
            }
            previous = Some(key);
            self.take(b':')?;
            let start = self.at;
            self.value(depth + 1)?;
            found(key, start, self.at);
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take(b',').is_none() {
                return self.take(b']');
            }
        }
    }

    fn key(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'))?;
        self.at += length;
        self.take(b'"')?;
        std::str::from_utf8(&rest[..length]).ok()
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let rest = &self.bytes[self.at..];
            self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// The escapes that RFC 8785 (section 3.2.2.2) writes: the short ones, and `\u00xx` for other control characters.
    fn escape(&mut self) -> Option<()> {
        let length = match self.bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => match self.bytes.get(self.at + 2..self.at + 6)? {
                [b'0', b'0', b'0', b'0'..=b'7' | b'b' | b'e' | b'f']
                | [b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f'] => 6,
                _ => return None,
            },
            _ => return None,
        };
        self.at += length;
        Some(())
    }

    fn integer(&mut self) -> Option<()> {
        let is_negative = self.take(b'-').is_some();
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let begins_well = match rest.first()? {
            b'0' => digits == 1 && !is_negative,
            _ => (1..=MAX_DIGITS).contains(&digits),
        };
        // The next byte must end the value, so a fraction or an exponent is not accepted.
        let ends_well = matches!(rest.get(digits), Some(b',' | b'}' | b']'));
        (begins_well && ends_well).then(|| self.at += digits)
    }
}
