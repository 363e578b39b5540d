//! Sizes of axes as the analysis knows them: a whole number times the number of rows times sizes that nobody knows.
//!
//! Equal sizes are equal for every request, whatever the unknown sizes are. Not here: where the unknown ones come from.

/// A size that nobody knows, but that does not depend on the number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Unknown {
    pub(super) id: u32,
    /// It is no less than 0, as the size of an axis is.
    pub(super) is_size: bool,
}

/// `factor * rows^n * unknown * ..`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Size {
    factor: i64,
    rows: u32,
    /// Sorted; the same one several times is a power.
    unknowns: Vec<Unknown>,
}

impl Size {
    pub(super) fn known(factor: i64) -> Self {
        Self {
            factor,
            rows: 0,
            unknowns: Vec::new(),
        }
    }

    /// As many as there are rows.
    pub(super) fn rows() -> Self {
        Self {
            factor: 1,
            rows: 1,
            unknowns: Vec::new(),
        }
    }

    pub(super) fn unknown(unknown: Unknown) -> Self {
        Self {
            factor: 1,
            rows: 0,
            unknowns: vec![unknown],
        }
    }

    pub(super) fn number(&self) -> Option<i64> {
        (self.rows == 0 && self.unknowns.is_empty()).then_some(self.factor)
    }

    pub(super) fn is(&self, number: i64) -> bool {
        self.number() == Some(number)
    }

    /// Whether it is this unknown size, and nothing else.
    pub(super) fn is_unknown(&self, id: u32) -> bool {
        let [unknown] = self.unknowns[..] else {
            return false;
        };
        self.factor == 1 && self.rows == 0 && unknown.id == id
    }

    /// The power of the number of rows in it.
    pub(super) fn power_of_rows(&self) -> u32 {
        self.rows
    }

    /// Whether it is the same for every number of rows.
    pub(super) fn is_fixed(&self) -> bool {
        self.rows == 0
    }

    /// Whether it cannot be below 0.
    pub(super) fn is_no_less_than_zero(&self) -> bool {
        self.factor >= 0 && self.unknowns.iter().all(|unknown| unknown.is_size)
    }

    /// The product; none where it is beyond all numbers.
    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        let factor = self.factor.checked_mul(other.factor)?;
        if factor == 0 {
            return Some(Self::known(0));
        }
        let mut unknowns = [&self.unknowns[..], &other.unknowns[..]].concat();
        unknowns.sort_unstable();
        // A product of so many is of no use, and would make the next one slower.
        let rows = self.rows + other.rows;
        (unknowns.len() <= 32 && rows <= 32).then_some(Self {
            factor,
            rows,
            unknowns,
        })
    }

    /// The quotient, where it is one for all sizes.
    pub(super) fn divided_by(&self, other: &Self) -> Option<Self> {
        if other.factor == 0 || self.factor.checked_rem(other.factor)? != 0 {
            return None;
        }
        let mut unknowns = self.unknowns.clone();
        for unknown in &other.unknowns {
            let at = unknowns.iter().position(|one| one == unknown)?;
            unknowns.remove(at);
        }
        Some(Self {
            factor: self.factor.checked_div(other.factor)?,
            rows: self.rows.checked_sub(other.rows)?,
            unknowns,
        })
    }

    pub(super) fn product<'a>(sizes: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        sizes
            .into_iter()
            .try_fold(Self::known(1), |product, size| product.times(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotient_is_exact_or_none() {
        let unknown = |id| Size::unknown(Unknown { id, is_size: true });
        let six = Size::known(6)
            .times(&Size::rows())
            .and_then(|size| size.times(&unknown(1)))
            .expect("small");
        let two = Size::known(2).times(&unknown(1)).expect("small");
        assert_eq!(
            six.divided_by(&two),
            Size::known(3).times(&Size::rows()),
            "6 rows x / 2 x"
        );
        assert_eq!(six.divided_by(&Size::known(4)), None);
        assert_eq!(six.divided_by(&unknown(2)), None);
        assert_eq!(six.divided_by(&Size::known(0)), None);
        assert_eq!(Size::known(6).divided_by(&Size::rows()), None);
        assert_eq!(Size::known(i64::MIN).divided_by(&Size::known(-1)), None);
        assert_eq!(Size::known(i64::MAX).times(&Size::known(2)), None);
    }
}
