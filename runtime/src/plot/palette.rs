//! The colours of all pictures. Pure.

/// Lines that are told apart by people who see few colours too. The first is that of a baseline.
const LINES: [(u8, u8, u8); 8] = [
    (0x00, 0x72, 0xb2),
    (0xd5, 0x5e, 0x00),
    (0x00, 0x9e, 0x73),
    (0xcc, 0x79, 0xa7),
    (0xb0, 0x8d, 0x00),
    (0x56, 0xb4, 0xe9),
    (0x7a, 0x3e, 0x9d),
    (0x60, 0x60, 0x60),
];

/// Colours that a page may set, and what it calls them.
const NAMED: [(Colour, &str); 11] = [
    (Colour::Ink, "ink"),
    (Colour::Grid, "grid"),
    (Colour::Noise, "noise"),
    (Colour::Line(0), "base"),
    (Colour::Line(1), "other"),
    (Colour::Line(2), "other2"),
    (Colour::Line(3), "other3"),
    (Colour::Line(4), "other4"),
    (Colour::Line(5), "other5"),
    (Colour::Line(6), "other6"),
    (Colour::Line(7), "other7"),
];

/// A colour by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Behind a picture that stands alone.
    Ground,
    /// Letters and lines of reference.
    Ink,
    /// Axes and the lines of the mesh.
    Grid,
    /// The baseline against itself.
    Noise,
    /// A line of data by its number; there are eight colours, which repeat.
    Line(usize),
}

impl Colour {
    /// Red, green, blue; on a light ground.
    pub(super) fn rgb(self) -> (u8, u8, u8) {
        match self {
            Self::Ground => (0xf7, 0xf7, 0xf4),
            Self::Ink => (0x1b, 0x1d, 0x21),
            Self::Grid => (0xd4, 0xd5, 0xcf),
            Self::Noise => (0x82, 0x87, 0x8f),
            Self::Line(number) => LINES[number % LINES.len()],
        }
    }
}

/// Gives the colours of an SVG the CSS variables of a page (`var(--base)`), so that it decides on light and dark.
pub(super) fn with_variables(svg: &str) -> String {
    // Quotes within text are escaped, so that only attributes match.
    NAMED.iter().fold(svg.to_owned(), |svg, (colour, name)| {
        let (red, green, blue) = colour.rgb();
        let drawn = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        svg.replace(&drawn, &format!("\"var(--{name})\""))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_colours_are_the_same() {
        let named = [Colour::Ground, Colour::Ink, Colour::Grid, Colour::Noise];
        let lines = (0..LINES.len()).map(Colour::Line);
        let all: Vec<_> = named.into_iter().chain(lines).map(Colour::rgb).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(Colour::Line(8).rgb(), Colour::Line(0).rgb());
    }

    #[test]
    fn a_page_sets_the_named_colours_and_text_stays_as_it_is() {
        let svg = "<line stroke=\"#0072B2\"/><text fill=\"#1B1D21\">#0072B2</text>";
        assert_eq!(
            with_variables(svg),
            "<line stroke=\"var(--base)\"/><text fill=\"var(--ink)\">#0072B2</text>"
        );
    }
}
