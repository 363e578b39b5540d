//! The text of a body: JSON, piece by piece, with no tree of values in between.
//!
//! Beyond JSON it has the bare tokens `NaN`, `Infinity` and `-Infinity`, which Python's `json` writes, and a byte order mark before
//! the first byte. Not here: which pieces a body is made of (`read`).

use std::borrow::Cow;
use std::fmt;

use memchr::memchr2;

/// Powers of ten that a float holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Largest whole number up to which a float holds every one.
const EXACT_MAX: u64 = 1 << 53;
/// The same as a float.
const EXACT_MAX_FLOAT: f64 = 9_007_199_254_740_992.0;
/// Decimal digits that a `u64` holds whatever they are.
const DIGITS_MAX: usize = 19;
/// Longest number, name or key that a message repeats, in characters.
const QUOTED_MAX: usize = 60;
const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The place where the text is no JSON, and why.
///
/// Always boxed: it is far larger than what is read, and numbers are read in registers.
#[derive(Debug)]
pub(super) struct Fault {
    /// Bytes before it.
    pub(super) at: usize,
    pub(super) problem: String,
}

/// A value without parts.
#[derive(Debug)]
pub(super) enum Scalar<'t> {
    Null,
    Bool(bool),
    Number(Number<'t>),
    /// `NaN`, `Infinity`, `-Infinity`.
    NonFinite(f64),
    Text(Cow<'t, str>),
}

/// Numbers as they are written; text only by kind, since it may be long or private.
impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(&shortened(&String::from_utf8_lossy(number.0))),
            Self::NonFinite(value) => f.write_str(token(*value)),
            Self::Text(_) => f.write_str("text"),
        }
    }
}

/// The token of a float that is not finite.
pub(super) fn token(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

pub(super) fn shortened(name: &str) -> String {
    match name.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}..", &name[..end]),
        None => name.to_owned(),
    }
}

/// A number by the grammar of JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'t>(&'t [u8]);

impl<'t> Number<'t> {
    /// The number as a text of its own.
    pub(super) fn text(self) -> Text<'t> {
        Text {
            whole: self.0,
            rest: self.0,
        }
    }
}

/// Decimal digits as a number, and how many there are.
#[derive(Debug, Default)]
struct Digits {
    value: u64,
    count: usize,
}

/// The whole number that a float is.
fn whole_of(value: f64) -> Option<i128> {
    if value.fract() != 0.0 || value.abs() > EXACT_MAX_FLOAT {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    Some(value as i128)
}

/// The rest of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'t> {
    whole: &'t [u8],
    rest: &'t [u8],
}

impl<'t> Text<'t> {
    /// Begins with a body, behind its byte order mark.
    pub(super) fn of(whole: &'t [u8]) -> Result<Self, Box<Fault>> {
        let text = Self {
            whole,
            rest: whole.strip_prefix(UTF8_MARK).unwrap_or(whole),
        };
        // Beside the marks: JSON begins with a byte of ASCII, whose other half UTF-16 makes a zero.
        match whole {
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => {
                Err(text.fault("this is UTF-16; send UTF-8"))
            }
            _ => Ok(text),
        }
    }

    /// The bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[cold]
    pub(super) fn fault(&self, problem: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            at: self.whole.len() - self.rest.len(),
            problem: problem.into(),
        })
    }

    /// What else was wanted here, or that nothing is here.
    #[cold]
    fn unexpected(&self, wanted: &str) -> Box<Fault> {
        match self.rest {
            [] => self.fault(format!("it ends where {wanted} was expected")),
            _ => self.fault(format!("expected {wanted}")),
        }
    }

    /// The next byte that is no white space, left where it is.
    #[inline]
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Takes the byte that [`Self::next_byte`] saw.
    #[inline]
    pub(super) fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Takes the next byte that is no white space.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u8> {
        let byte = self.next_byte()?;
        self.rest = &self.rest[1..];
        Some(byte)
    }

    /// Takes the next byte that is no white space, if it is this one.
    #[inline]
    pub(super) fn takes(&mut self, wanted: u8) -> bool {
        let found = self.next_byte() == Some(wanted);
        if found {
            self.skip();
        }
        found
    }

    /// Takes these bytes behind white space, if they are there.
    pub(super) fn takes_word(&mut self, wanted: &[u8]) -> bool {
        self.next_byte().is_some() && self.eats_word(wanted)
    }

    /// Behind a value in a list or an object: whether another one follows.
    #[inline]
    pub(super) fn goes_on(&mut self, close: u8) -> Result<bool, Box<Fault>> {
        match self.next_byte() {
            Some(b',') => {
                self.skip();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.skip();
                Ok(false)
            }
            _ => Err(self.unexpected(if close == b']' {
                "`,` or `]`"
            } else {
                "`,` or `}`"
            })),
        }
    }

    /// The end of the body.
    pub(super) fn end(&mut self) -> Result<(), Box<Fault>> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.fault("more text follows the value")),
        }
    }

    /// A key and its colon.
    pub(super) fn key(&mut self) -> Result<Cow<'t, str>, Box<Fault>> {
        if self.next_byte() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let key = self.string()?;
        if self.takes(b':') {
            Ok(key)
        } else {
            Err(self.unexpected("`:`"))
        }
    }

    /// A value without parts; also what else stands here is called a value that was expected.
    pub(super) fn scalar(&mut self) -> Result<Scalar<'t>, Box<Fault>> {
        match self.next_byte() {
            Some(b'"') => self.string().map(Scalar::Text),
            Some(b'-') if self.eats_word(b"-Infinity") => Ok(Scalar::NonFinite(f64::NEG_INFINITY)),
            Some(b'-' | b'0'..=b'9') => match self.number() {
                Some(number) => Ok(Scalar::Number(number)),
                None => Err(self.unexpected("a digit")),
            },
            Some(b'n') if self.eats_word(b"null") => Ok(Scalar::Null),
            Some(b't') if self.eats_word(b"true") => Ok(Scalar::Bool(true)),
            Some(b'f') if self.eats_word(b"false") => Ok(Scalar::Bool(false)),
            Some(b'N') if self.eats_word(b"NaN") => Ok(Scalar::NonFinite(f64::NAN)),
            Some(b'I') if self.eats_word(b"Infinity") => Ok(Scalar::NonFinite(f64::INFINITY)),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// The number that begins at the next byte, rounded to the nearest float: infinite where it is too large. Nothing from where
    /// a digit is missing on.
    #[inline]
    pub(super) fn float(&mut self) -> Option<f64> {
        self.next_byte()?;
        let start = self.rest;
        let negative = self.eats(b'-');
        let mut digits = Digits::default();
        if !self.eats(b'0') {
            self.digits(&mut digits)?;
        }
        let mut decimals = 0;
        if self.eats(b'.') {
            let whole = digits.count;
            self.digits(&mut digits)?;
            decimals = digits.count - whole;
        }
        let scientific = self.exponent()?;
        // Both are exact, so their quotient is rounded once (Clinger, How to read floating point numbers accurately, 1990).
        if !scientific
            && digits.count <= DIGITS_MAX
            && digits.value <= EXACT_MAX
            && let Some(ten) = TENS.get(decimals)
        {
            let value = digits.value as f64 / ten;
            return Some(if negative { -value } else { value });
        }
        let text = &start[..start.len() - self.rest.len()];
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// The whole number that begins at the next byte. `5.0` is 5 in JSON, and NumPy clients write it so.
    #[inline]
    pub(super) fn whole(&mut self) -> Option<i128> {
        self.next_byte()?;
        let start = *self;
        let negative = self.eats(b'-');
        let mut digits = Digits::default();
        if !self.eats(b'0') {
            self.digits(&mut digits)?;
        }
        if let [b'.' | b'e' | b'E', ..] = self.rest {
            *self = start;
            return whole_of(self.float()?);
        }
        if digits.count <= DIGITS_MAX {
            let value = i128::from(digits.value);
            return Some(if negative { -value } else { value });
        }
        let text = &start.rest[..start.rest.len() - self.rest.len()];
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// A number whatever its size, which begins at the next byte.
    fn number(&mut self) -> Option<Number<'t>> {
        let start = self.rest;
        self.float()?;
        Some(Number(&start[..start.len() - self.rest.len()]))
    }

    /// Whether there is an exponent.
    #[inline]
    fn exponent(&mut self) -> Option<bool> {
        let scientific = self.eats(b'e') || self.eats(b'E');
        if scientific {
            let _sign = self.eats(b'+') || self.eats(b'-');
            self.digits(&mut Digits::default())?;
        }
        Some(scientific)
    }

    /// One digit or more, behind those read before.
    #[inline]
    fn digits(&mut self, digits: &mut Digits) -> Option<()> {
        let before = digits.count;
        while let [byte @ b'0'..=b'9', rest @ ..] = self.rest {
            // Wraps only beyond `DIGITS_MAX`, where it is not looked at.
            digits.value = digits
                .value
                .wrapping_mul(10)
                .wrapping_add(u64::from(byte - b'0'));
            digits.count += 1;
            self.rest = rest;
        }
        (digits.count > before).then_some(())
    }

    #[inline]
    fn eats(&mut self, wanted: u8) -> bool {
        match self.rest {
            [byte, rest @ ..] if *byte == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn eats_word(&mut self, wanted: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A string, which begins at the next byte.
    fn string(&mut self) -> Result<Cow<'t, str>, Box<Fault>> {
        let (length, escapes) = self.string_length()?;
        let (quoted, rest) = self.rest.split_at(length);
        let text = if escapes {
            // serde_json's words end with the place in what it was given.
            serde_json::from_slice(quoted)
                .map(Cow::Owned)
                .map_err(|error| {
                    let words = error.to_string();
                    let words = words.split(" at line ").next().unwrap_or_default();
                    self.fault(format!("in this string: {words}"))
                })?
        } else {
            let inside = &quoted[1..length - 1];
            let text = std::str::from_utf8(inside);
            Cow::Borrowed(text.map_err(|_| self.fault("this string is not UTF-8"))?)
        };
        self.rest = rest;
        Ok(text)
    }

    /// Bytes of a string with its quotes, and whether it has escapes.
    fn string_length(&self) -> Result<(usize, bool), Box<Fault>> {
        let mut escapes = false;
        let mut at = 1;
        loop {
            let ahead = self.rest.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', ahead) else {
                return Err(self.fault("this string does not end"));
            };
            at += found + 1;
            if ahead[found] == b'"' {
                break;
            }
            escapes = true;
            at += 1;
        }
        // Looked at all of it, so that many bytes are compared at once.
        let control = |any, byte: &u8| any | (*byte < 0x20);
        if self.rest[..at].iter().fold(false, control) {
            return Err(self.fault("this string has a control character; escape it"));
        }
        Ok((at, escapes))
    }
}
