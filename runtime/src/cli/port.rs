//! The port for scoring where no flag says it: `SERIN_PORT`, else `PORT`, as platforms that run containers set it.

use std::env;
use std::ffi::OsString;

use super::exit::CliError;

/// The port where nobody says another: Azure's inference server has it.
const DEFAULT: u16 = 5001;

/// Variables that say it, the first one first.
const VARIABLES: [&str; 2] = ["SERIN_PORT", "PORT"];

/// The port for scoring.
///
/// # Errors
///
/// When a variable that counts holds no port.
pub(super) fn scoring_port(flag: Option<u16>) -> Result<u16, CliError> {
    chosen(flag, |name| env::var_os(name))
}

fn chosen(flag: Option<u16>, variable: impl Fn(&str) -> Option<OsString>) -> Result<u16, CliError> {
    if let Some(port) = flag {
        return Ok(port);
    }
    let mut set = VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?)))
        // As a variable that is not set: a script that has none to give writes it so.
        .filter(|(_, value)| !value.is_empty());
    let Some((name, value)) = set.next() else {
        return Ok(DEFAULT);
    };
    let port = value.to_str().and_then(|text| text.parse().ok());
    port.ok_or_else(|| {
        CliError::BadInput(format!(
            "{name} must be a port, a number from 0 to 65535; it is {value:?}: correct it, unset it, or give --port"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(flag: Option<u16>, set: &[(&str, &str)]) -> Result<u16, String> {
        let variable = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        chosen(flag, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_wins_then_the_program_s_own_variable_then_the_platform_s() {
        let both = [("PORT", "8080"), ("SERIN_PORT", "9000")];
        assert_eq!(port(None, &[]), Ok(5001));
        assert_eq!(port(None, &both[..1]), Ok(8080));
        assert_eq!(port(None, &both), Ok(9000));
        assert_eq!(port(Some(7), &both), Ok(7));
        assert_eq!(port(Some(7), &[("PORT", "nonsense")]), Ok(7));
    }

    #[test]
    fn an_empty_variable_is_as_none() {
        assert_eq!(port(None, &[("SERIN_PORT", "")]), Ok(5001));
        let first_is_empty = [("SERIN_PORT", ""), ("PORT", "80")];
        assert_eq!(port(None, &first_is_empty), Ok(80));
    }

    #[test]
    fn a_value_that_is_no_port_is_refused_by_the_name_of_its_variable() {
        for value in [
            "http",
            "-1",
            "65536",
            "80 ",
            "tcp://10.0.0.1:80",
            "1\u{1b}[2J",
        ] {
            for name in VARIABLES {
                let words = port(None, &[(name, value)]).unwrap_err();
                assert!(
                    words.starts_with(&format!("{name} must be a port")),
                    "{words}"
                );
                assert!(!words.contains('\u{1b}'), "{words:?}");
            }
        }
        // Another one that would do is not taken in its stead.
        port(None, &[("SERIN_PORT", "x"), ("PORT", "80")]).unwrap_err();
    }
}
