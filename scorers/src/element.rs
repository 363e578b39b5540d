//! Elements of tensors: the Rust types that they are, and lists of them whose type is known at run time.

use half::{bf16, f16};

use crate::signature::ElementType;

/// A Rust type that a tensor may be made of: `bool`, whole numbers of 8 to 64 bits, `f16`, `bf16`, `f32`, `f64` and `String`.
pub trait Element: sealed::Sealed + Clone + Send + Sync + 'static {
    /// Its name in signatures.
    const TYPE: ElementType;
}

pub(crate) mod sealed {
    use super::{Elements, ElementsRef};

    /// The way between a list of one type and a list of any. Nobody else can have an element type, for ONNX has no more.
    pub trait Sealed: Sized {
        /// The list as one of any type.
        fn wrap(elements: Vec<Self>) -> Elements;
        /// The same, borrowed.
        fn lend(elements: &[Self]) -> ElementsRef<'_>;
        /// The list, where it is of this type.
        fn of(elements: ElementsRef<'_>) -> Option<&[Self]>;
        /// The list itself, where it is of this type.
        fn take(elements: Elements) -> Result<Vec<Self>, Elements>;
        /// The number 1.
        fn one() -> Self;
    }
}

macro_rules! elements {
    ($($kind:ident $element:ty, $one:expr;)*) => {
        /// Elements of one type, owned.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Elements {
            $($kind(Vec<$element>),)*
        }

        /// Elements of one type, borrowed.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum ElementsRef<'a> {
            $($kind(&'a [$element]),)*
        }

        impl Elements {
            pub(crate) fn lend(&self) -> ElementsRef<'_> {
                match self {
                    $(Self::$kind(elements) => ElementsRef::$kind(elements),)*
                }
            }
        }

        impl ElementsRef<'_> {
            pub(crate) fn element_type(&self) -> ElementType {
                match self {
                    $(Self::$kind(_) => ElementType::$kind,)*
                }
            }

            /// Whether there is no NaN and no infinity.
            pub(crate) fn is_finite(&self) -> bool {
                match self {
                    Self::Fp16(floats) => all_finite(floats, |float| float.is_finite()),
                    Self::Bf16(floats) => all_finite(floats, |float| float.is_finite()),
                    Self::Fp32(floats) => all_finite(floats, |float| float.is_finite()),
                    Self::Fp64(floats) => all_finite(floats, |float| float.is_finite()),
                    _ => true,
                }
            }
        }

        $(
            impl Element for $element {
                const TYPE: ElementType = ElementType::$kind;
            }

            impl sealed::Sealed for $element {
                fn wrap(elements: Vec<Self>) -> Elements {
                    Elements::$kind(elements)
                }

                fn lend(elements: &[Self]) -> ElementsRef<'_> {
                    ElementsRef::$kind(elements)
                }

                fn of(elements: ElementsRef<'_>) -> Option<&[Self]> {
                    match elements {
                        ElementsRef::$kind(elements) => Some(elements),
                        _ => None,
                    }
                }

                fn take(elements: Elements) -> Result<Vec<Self>, Elements> {
                    match elements {
                        Elements::$kind(elements) => Ok(elements),
                        other => Err(other),
                    }
                }

                fn one() -> Self {
                    $one
                }
            }
        )*
    };
}

elements! {
    Bool bool, true;
    Uint8 u8, 1;
    Uint16 u16, 1;
    Uint32 u32, 1;
    Uint64 u64, 1;
    Int8 i8, 1;
    Int16 i16, 1;
    Int32 i32, 1;
    Int64 i64, 1;
    Fp16 f16, Self::ONE;
    Bf16 bf16, Self::ONE;
    Fp32 f32, 1.0;
    Fp64 f64, 1.0;
    Bytes String, "1".to_owned();
}

/// Whether all are, a few at a time and those without a branch: answers may have millions.
fn all_finite<T: Copy>(floats: &[T], is_finite: impl Fn(T) -> bool) -> bool {
    let mut parts = floats.chunks(64);
    parts.all(|part| part.iter().fold(true, |all, float| all & is_finite(*float)))
}

/// Does the same to the elements inside, whatever their type.
macro_rules! with_elements {
    ($borrowed:expr, $elements:ident => $same:expr) => {
        with_elements!(@each $borrowed, $elements, $same;
            Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes)
    };
    (@each $borrowed:expr, $elements:ident, $same:expr; $($kind:ident)*) => {
        match $borrowed {
            $($crate::element::ElementsRef::$kind($elements) => $same,)*
        }
    };
}

/// Does the same for the Rust type of an element type.
macro_rules! with_element_type {
    ($datatype:expr, $element:ident => $same:expr) => {
        with_element_type!(@each $datatype, $element, $same;
            Bool bool, Uint8 u8, Uint16 u16, Uint32 u32, Uint64 u64, Int8 i8, Int16 i16, Int32 i32, Int64 i64,
            Fp16 half::f16, Bf16 half::bf16, Fp32 f32, Fp64 f64, Bytes String)
    };
    (@each $datatype:expr, $element:ident, $same:expr; $($kind:ident $type:ty),*) => {
        match $datatype {
            $($crate::signature::ElementType::$kind => {
                type $element = $type;
                $same
            })*
        }
    };
}

pub(crate) use with_element_type;
pub(crate) use with_elements;
