//! Times in words.

use std::fmt;

/// A number of seconds, in words.
pub(super) struct Duration(pub(super) u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        let parts = [(hours, "h"), (minutes, "m"), (seconds, "s")];
        let parts = parts.iter().filter(|(number, _)| *number > 0);
        let words: Vec<_> = parts
            .map(|(number, unit)| format!("{number} {unit}"))
            .collect();
        f.write_str(if words.is_empty() { "0 s" } else { "" })?;
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_units() {
        for (seconds, words) in [(0, "0 s"), (59, "59 s"), (60, "1 m"), (3661, "1 h 1 m 1 s")] {
            assert_eq!(Duration(seconds).to_string(), words);
        }
    }
}
