//! Element types: the JSON that each accepts, and how it is written.

use half::{bf16, f16};

use super::NonFinite;
use super::text::{Scalar, Text, token};
use crate::element::Element;

/// An element of a tensor. Each `from_` gives nothing where the JSON value is not of this type or does not fit.
pub(super) trait JsonElement: Element {
    /// Reads the number that begins at the next byte. What it leaves unread where it gives nothing says nothing.
    fn read_number(_: &mut Text<'_>) -> Option<Self> {
        None
    }
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    /// From NaN, an infinity, or `null`, which is NaN.
    fn from_non_finite(_: f64) -> Option<Self> {
        None
    }
    /// From any value.
    fn from_scalar(scalar: &Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Null => Self::from_non_finite(f64::NAN),
            Scalar::Bool(value) => Self::from_bool(*value),
            Scalar::Number(number) => Self::read_number(&mut number.text()),
            Scalar::NonFinite(value) => Self::from_non_finite(*value),
            Scalar::Text(text) => Self::from_text(text),
        }
    }
    /// Appends the JSON form.
    fn write(&self, non_finite: NonFinite, out: &mut Vec<u8>);
}

/// Appends what `serde_json` makes of a value: floats in the fewest digits that read back the
/// same, and `null` for NaN and infinities.
pub(super) fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a plain value written to memory");
}

impl JsonElement for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
    fn write(&self, _: NonFinite, out: &mut Vec<u8>) {
        write_json(self, out);
    }
}

impl JsonElement for String {
    fn from_text(value: &str) -> Option<Self> {
        Some(value.to_owned())
    }
    fn write(&self, _: NonFinite, out: &mut Vec<u8>) {
        write_json(self, out);
    }
}

macro_rules! whole_elements {
    ($($whole:ty),*) => {$(
        impl JsonElement for $whole {
            #[inline]
            fn read_number(text: &mut Text<'_>) -> Option<Self> {
                text.whole()?.try_into().ok()
            }
            fn write(&self, _: NonFinite, out: &mut Vec<u8>) {
                write_json(self, out);
            }
        }
    )*};
}

whole_elements!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! float_elements {
    ($($float:ty, $narrow:expr, $wide:expr;)*) => {$(
        impl JsonElement for $float {
            /// Rounds to the nearest; what would round to infinity does not fit.
            #[inline]
            fn read_number(text: &mut Text<'_>) -> Option<Self> {
                let narrowed: Self = $narrow(text.float()?);
                narrowed.is_finite().then_some(narrowed)
            }
            fn from_non_finite(value: f64) -> Option<Self> {
                Some($narrow(value))
            }
            // Always: a call for each number makes an answer of many take nearly twice as long to write, and nobody inlines it unasked.
            #[inline(always)]
            fn write(&self, non_finite: NonFinite, out: &mut Vec<u8>) {
                if non_finite == NonFinite::Tokens && !self.is_finite() {
                    out.extend_from_slice(token(f64::from(*self)).as_bytes());
                } else {
                    write_json(&$wide(*self), out);
                }
            }
        }
    )*};
}

float_elements! {
    f16, Self::from_f64, Self::to_f32;
    bf16, Self::from_f64, Self::to_f32;
    f32, nearest_f32, std::convert::identity;
    f64, std::convert::identity, std::convert::identity;
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest is meant"
)]
fn nearest_f32(value: f64) -> f32 {
    value as f32
}
