//! The user of this process by name, for the journal.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Most bytes of the file of users that are looked at.
const USERS_BYTES_MAX: u64 = 1 << 20;

/// The name of the user that this process runs as, by the machine's own file of users; its number where that has none.
#[must_use]
pub fn user_of_process() -> String {
    let number = rustix::process::geteuid().as_raw();
    let named = users(Path::new("/etc/passwd")).and_then(|users| name_in(&users, number));
    named.unwrap_or_else(|| format!("user {number}"))
}

fn users(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(USERS_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The name of the first user with a number: `name:x:number:..`
fn name_in(users: &str, number: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let is_it = fields.nth(1)?.parse() == Ok(number);
        is_it.then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_of_the_first_line_with_its_number() {
        let users = "root:x:0:0::/root:/bin/sh\n# a remark\n::7\nann:x:1000:1000:Ann:/home/ann:/bin/sh\nbob:x:1000:1::/:\n";
        assert_eq!(name_in(users, 1000).as_deref(), Some("ann"));
        assert_eq!(name_in(users, 0).as_deref(), Some("root"));
        assert_eq!(name_in(users, 7), None);
        assert!(!user_of_process().is_empty());
    }
}
