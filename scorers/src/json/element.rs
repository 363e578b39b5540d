//! Element types: the JSON that each accepts, and how it is written.

use half::{bf16, f16};

/// Largest magnitude up to which every whole number has its own `f64`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// An element of a tensor. Each `from_` gives nothing where the JSON value is not of this type or does not fit.
pub(super) trait Element: Sized + Clone {
    fn from_unsigned(_: u64) -> Option<Self> {
        None
    }
    fn from_signed(_: i64) -> Option<Self> {
        None
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    /// Appends the JSON form.
    fn write(&self, out: &mut Vec<u8>);
}

/// Appends what `serde_json` makes of a value: floats in the fewest digits that read back the
/// same, and `null` for NaN and infinities.
pub(super) fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a plain value written to memory");
}

impl Element for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_json(self, out);
    }
}

impl Element for String {
    fn from_text(value: &str) -> Option<Self> {
        Some(value.to_owned())
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_json(self, out);
    }
}

macro_rules! whole_elements {
    ($($whole:ty),*) => {$(
        impl Element for $whole {
            fn from_unsigned(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn from_signed(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
            /// `5.0` is 5 in JSON, and NumPy clients write it so.
            fn from_float(value: f64) -> Option<Self> {
                if value.fract() != 0.0 || value.abs() > EXACT_MAX {
                    return None;
                }
                #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
                Self::from_signed(value as i64)
            }
            fn write(&self, out: &mut Vec<u8>) {
                write_json(self, out);
            }
        }
    )*};
}

whole_elements!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! float_elements {
    ($($float:ty, $narrow:expr, $wide:expr;)*) => {$(
        impl Element for $float {
            fn from_unsigned(value: u64) -> Option<Self> {
                Self::from_float(value as f64)
            }
            fn from_signed(value: i64) -> Option<Self> {
                Self::from_float(value as f64)
            }
            /// Rounds to the nearest; what would round to infinity does not fit.
            fn from_float(value: f64) -> Option<Self> {
                let narrowed: Self = $narrow(value);
                narrowed.is_finite().then_some(narrowed)
            }
            fn write(&self, out: &mut Vec<u8>) {
                write_json(&$wide(*self), out);
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
