//! The packed form of tensors and values, in which they cross from one process to another.
//!
//! Little endian, without gaps. A tensor is its kind and rank (4 bytes each), its number of elements and its sizes (8 bytes each),
//! and its elements; a string or a list is its length (8 bytes), and what is in it. Whoever reads trusts nothing: every length is held
//! against the bytes that are there before memory is taken for it, and any bytes at all are read without a panic.
//!
//! Not here: whether tensors fit a model (`signature`).

use half::{bf16, f16};

use crate::element::{Element, with_element_type, with_elements};
use crate::signature::ElementType;
use crate::tensor::{Tensor, TensorView, Value};

/// The kinds of values, as numbers.
const TENSOR: u32 = 0;
const SEQUENCE: u32 = 1;
const MAP: u32 = 2;
const MAPS: u32 = 3;

/// Numbers of the element types: the places here.
const ELEMENT_TYPES: [ElementType; 14] = [
    ElementType::Bool,
    ElementType::Uint8,
    ElementType::Uint16,
    ElementType::Uint32,
    ElementType::Uint64,
    ElementType::Int8,
    ElementType::Int16,
    ElementType::Int32,
    ElementType::Int64,
    ElementType::Fp16,
    ElementType::Bf16,
    ElementType::Fp32,
    ElementType::Fp64,
    ElementType::Bytes,
];

/// Tensors in their packed form.
#[must_use]
pub fn pack_tensors<'a>(tensors: impl ExactSizeIterator<Item = TensorView<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    put_len(&mut out, tensors.len());
    for tensor in tensors {
        put_tensor(&mut out, &tensor);
    }
    out
}

/// The tensors of a packed form; none where the bytes are no such thing, or there are more of them.
#[must_use]
pub fn unpack_tensors(bytes: &[u8]) -> Option<Vec<Tensor>> {
    let mut read = Read(bytes);
    let tensors = read.list(Read::tensor)?;
    read.0.is_empty().then_some(tensors)
}

/// Values in their packed form.
#[must_use]
pub fn pack_values(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    put_len(&mut out, values.len());
    for value in values {
        match value {
            Value::Tensor(tensor) => {
                put_u32(&mut out, TENSOR);
                put_tensor(&mut out, &tensor.view());
            }
            Value::Sequence(tensors) => {
                put_u32(&mut out, SEQUENCE);
                put_len(&mut out, tensors.len());
                for tensor in tensors {
                    put_tensor(&mut out, &tensor.view());
                }
            }
            Value::Map(map) => {
                put_u32(&mut out, MAP);
                put_map(&mut out, map);
            }
            Value::Maps(maps) => {
                put_u32(&mut out, MAPS);
                put_len(&mut out, maps.len());
                for map in maps {
                    put_map(&mut out, map);
                }
            }
        }
    }
    out
}

/// The values of a packed form; none where the bytes are no such thing, or there are more of them.
#[must_use]
pub fn unpack_values(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut read = Read(bytes);
    let values = read.list(Read::value)?;
    read.0.is_empty().then_some(values)
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_map(out: &mut Vec<u8>, map: &[(String, f32)]) {
    put_len(out, map.len());
    for (key, value) in map {
        put_text(out, key);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_tensor(out: &mut Vec<u8>, tensor: &TensorView<'_>) {
    let datatype = tensor.element_type();
    let kind = ELEMENT_TYPES.iter().position(|kind| *kind == datatype);
    put_u32(out, number(kind.unwrap_or(ELEMENT_TYPES.len())));
    put_u32(out, number(tensor.shape().len()));
    with_elements!(tensor.any_elements(), elements => {
        put_len(out, elements.len());
        for size in tensor.shape() {
            put_len(out, *size);
        }
        PackedElement::put(elements, out);
    });
}

/// A number of kinds or of dimensions. What does not fit is no number that a reader takes.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The elements of a tensor in packed form.
trait PackedElement: Element {
    /// Bytes that one element takes at least.
    const LEAST_BYTES: usize;

    fn put(elements: &[Self], out: &mut Vec<u8>);

    /// As many elements, of which the bytes that are left hold at least [`Self::LEAST_BYTES`] for each.
    fn read(read: &mut Read<'_>, count: usize) -> Option<Vec<Self>>;
}

macro_rules! packed_numbers {
    ($($number:ty)*) => {$(
        impl PackedElement for $number {
            const LEAST_BYTES: usize = size_of::<Self>();

            fn put(elements: &[Self], out: &mut Vec<u8>) {
                let start = out.len();
                out.resize(start + size_of_val(elements), 0);
                let places = out[start..].as_chunks_mut::<{ size_of::<Self>() }>().0;
                for (place, element) in places.iter_mut().zip(elements) {
                    *place = element.to_le_bytes();
                }
            }

            fn read(read: &mut Read<'_>, count: usize) -> Option<Vec<Self>> {
                let bytes = read.bytes(count.checked_mul(size_of::<Self>())?)?;
                let places = bytes.as_chunks().0.iter();
                Some(places.map(|place| Self::from_le_bytes(*place)).collect())
            }
        }
    )*};
}

packed_numbers! { u8 u16 u32 u64 i8 i16 i32 i64 f16 bf16 f32 f64 }

impl PackedElement for bool {
    const LEAST_BYTES: usize = 1;

    fn put(elements: &[Self], out: &mut Vec<u8>) {
        out.extend(elements.iter().map(|element| u8::from(*element)));
    }

    fn read(read: &mut Read<'_>, count: usize) -> Option<Vec<Self>> {
        let bytes = read.bytes(count)?;
        let one = |byte: &u8| match byte {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        bytes.iter().map(one).collect()
    }
}

impl PackedElement for String {
    const LEAST_BYTES: usize = size_of::<u64>();

    fn put(elements: &[Self], out: &mut Vec<u8>) {
        for element in elements {
            put_text(out, element);
        }
    }

    fn read(read: &mut Read<'_>, count: usize) -> Option<Vec<Self>> {
        (0..count).map(|_| read.text()).collect()
    }
}

/// The bytes that are not read yet.
struct Read<'b>(&'b [u8]);

impl<'b> Read<'b> {
    fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let len = self.size()?;
        let bytes = self.bytes(len)?;
        str::from_utf8(bytes).ok().map(str::to_owned)
    }

    /// A list, for which memory is taken as it comes: one that ends early has taken a small multiple of its bytes.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.size()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }

    fn entry(&mut self) -> Option<(String, f32)> {
        Some((self.text()?, f32::from_le_bytes(self.array()?)))
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.u32()? {
            TENSOR => Value::Tensor(self.tensor()?),
            SEQUENCE => Value::Sequence(self.list(Self::tensor)?),
            MAP => Value::Map(self.list(Self::entry)?),
            MAPS => Value::Maps(self.list(|read| read.list(Self::entry))?),
            _ => return None,
        })
    }

    fn tensor(&mut self) -> Option<Tensor> {
        let kind = usize::try_from(self.u32()?).ok()?;
        let datatype = *ELEMENT_TYPES.get(kind)?;
        let rank = usize::try_from(self.u32()?).ok()?;
        let count = self.size()?;
        if rank.checked_mul(size_of::<u64>())? > self.0.len() {
            return None;
        }
        let shape: Vec<usize> = (0..rank).map(|_| self.size()).collect::<Option<_>>()?;
        with_element_type!(datatype, T => {
            if count.checked_mul(T::LEAST_BYTES)? > self.0.len() {
                return None;
            }
            Tensor::new(shape, T::read(self, count)?).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn views(tensors: &[Tensor]) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        tensors.iter().map(Tensor::view)
    }

    /// One tensor of each type.
    fn of_each_type() -> Vec<Tensor> {
        let of = |datatype| {
            fn one<T: Element>() -> Tensor {
                Tensor::new([1, 2], vec![T::one(), T::one()]).unwrap()
            }
            with_element_type!(datatype, T => one::<T>())
        };
        ELEMENT_TYPES.map(of).to_vec()
    }

    #[test]
    fn tensors_of_every_type_come_back_whole() {
        let mut tensors = of_each_type();
        tensors.push(Tensor::new([], vec!["a\0b".to_owned()]).unwrap());
        tensors.push(Tensor::new([0, 64], Vec::<f32>::new()).unwrap());
        let packed = pack_tensors(views(&tensors));
        assert_eq!(unpack_tensors(&packed), Some(tensors));
        assert_eq!(unpack_tensors(&pack_tensors(views(&[]))), Some(Vec::new()));
    }

    #[test]
    fn values_of_every_kind_come_back_whole() {
        let map = vec![("a".to_owned(), 1.5), (String::new(), f32::INFINITY)];
        let values = [
            Value::Sequence(of_each_type()),
            Value::Map(map.clone()),
            Value::Maps(vec![map, Vec::new()]),
            Value::Tensor(of_each_type().remove(0)),
        ];
        assert_eq!(
            unpack_values(&pack_values(&values)).as_deref(),
            Some(&values[..])
        );
    }

    #[test]
    fn what_is_cut_or_goes_on_is_nothing() {
        let packed = pack_tensors(views(&of_each_type()));
        for end in 0..packed.len() {
            assert_eq!(unpack_tensors(&packed[..end]), None, "{end} bytes");
        }
        assert_eq!(unpack_tensors(&[&packed[..], &[0]].concat()), None);
    }

    /// The least bytes that could ask for the most memory.
    #[test]
    fn lengths_that_are_not_there_take_no_memory() {
        let huge = u64::MAX.to_le_bytes();
        assert_eq!(unpack_tensors(&huge), None);
        for kind in 0..=ELEMENT_TYPES.len() {
            for (rank, count) in [
                (0, u64::MAX),
                (u32::MAX, 1),
                (1, 1 << 60),
                (2, u64::MAX / 8),
            ] {
                let kind = number(kind).to_le_bytes();
                let words = [
                    &1_u64.to_le_bytes()[..],
                    &kind,
                    &u32::to_le_bytes(rank),
                    &count.to_le_bytes(),
                    &huge,
                    &huge,
                ];
                assert_eq!(unpack_tensors(&words.concat()), None);
            }
        }
    }

    #[test]
    fn a_byte_that_is_no_truth_value_is_refused() {
        let packed = pack_tensors(views(&[Tensor::new([1], vec![true]).unwrap()]));
        let (last, before) = packed.split_last().unwrap();
        assert_eq!(*last, 1);
        assert_eq!(unpack_tensors(&[before, &[2]].concat()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _read = (unpack_tensors(&bytes), unpack_values(&bytes));
        }

        #[test]
        fn a_damaged_form_is_read_as_something_of_its_own_size_or_not_at_all(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let values = [Value::Sequence(of_each_type()), Value::Maps(vec![vec![("a".to_owned(), 1.0)]])];
            let mut packed = pack_values(&values);
            let at = at.index(packed.len());
            packed[at] = byte;
            if let Some(values) = unpack_values(&packed) {
                // Another reading of the same bytes, for none is left over.
                prop_assert_eq!(pack_values(&values), packed);
            }
        }

        #[test]
        fn numbers_keep_their_bits(numbers in prop::collection::vec(any::<u64>(), 0..50)) {
            let floats: Vec<f64> = numbers.iter().copied().map(f64::from_bits).collect();
            let packed = pack_tensors(views(&[Tensor::new([floats.len()], floats).unwrap()]));
            let read = unpack_tensors(&packed).unwrap();
            let bits = read[0].elements::<f64>().unwrap().iter().map(|float| float.to_bits());
            prop_assert_eq!(bits.collect::<Vec<_>>(), numbers);
        }
    }
}
