//! Who a user id is.

use std::io::Read as _;

use crate::printable::is_unprintable;

/// The most of the user database that is read, in bytes.
const DATABASE_LIMIT: u64 = 4 << 20;

/// The user's name, as `/etc/passwd` has it; `uid 1000` where it has none. (Directory services are
/// not asked: a static program cannot, and the id says it as well.)
pub fn name_of(uid: u32) -> String {
    let mut text = Vec::new();
    let read = std::fs::File::open("/etc/passwd")
        .and_then(|file| file.take(DATABASE_LIMIT).read_to_end(&mut text));
    let found = read.ok().and_then(|_| find(&String::from_utf8_lossy(&text), uid));
    found.unwrap_or_else(|| format!("uid {uid}"))
}

fn find(database: &str, uid: u32) -> Option<String> {
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_usable = !name.is_empty() && name.len() <= 64 && !name.contains(is_unprintable);
        let id = fields.nth(1)?.parse::<u32>().ok()?;
        (id == uid && is_usable).then(|| name.to_owned())
    };
    database.lines().find_map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_id_and_only_by_id() {
        let database = "root:x:0:0:root:/root:/bin/sh\n# 7\nbroken\n:x:8:8::/:\n\
                        a\u{1b}[0mb:x:9:9::/:\nalice:x:1000:1000:Alice:/home:/bin/sh\n";
        assert_eq!(find(database, 0).as_deref(), Some("root"));
        assert_eq!(find(database, 1000).as_deref(), Some("alice"));
        for unknown in [7, 8, 9, 100] {
            assert_eq!(find(database, unknown), None, "{unknown}");
        }
    }
}
