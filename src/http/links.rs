//! Pages of lists: queries in, Link headers out.
//!
//! An upstream's Link is the word of a hostile peer: only its query is taken, from the same
//! origin, and the client gets a path of ours.

use hyper::Uri;

/// The most that a page may be asked to hold.
const PAGE_ENTRIES: u64 = 1000;

/// The longest query that is passed on, in bytes.
const QUERY_LIMIT: usize = 2048;

/// The query to pass to an upstream: only plain characters, `n` between 1 and 1000.
pub(super) fn upstream_query(query: &str) -> Option<String> {
    let lawful = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'~' | b'%' | b'=' | b'&' | b'+' | b'/' | b':' | b'-')
    };
    if query.len() > QUERY_LIMIT || !query.bytes().all(lawful) {
        return None;
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(clamp);
    Some(pairs.collect::<Option<Vec<_>>>()?.join("&"))
}

fn clamp(pair: &str) -> Option<String> {
    match pair.split_once('=') {
        Some(("n", number)) => {
            // What is larger than any number is still a number.
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse::<u64>().unwrap_or(PAGE_ENTRIES);
            is_number.then(|| format!("n={}", number.clamp(1, PAGE_ENTRIES)))
        }
        _ => Some(pair.to_owned()),
    }
}

/// The client's Link to the next page, from an upstream's: our own path, the upstream's query,
/// and `ns` where the client named the registry by it.
///
/// `None` for a link to another origin, one that leads to this page again, or one that is no
/// link.
pub(super) fn next_page(
    link: &str,
    origin: &str,
    path: &str,
    asked: &str,
    ns: Option<&str>,
) -> Option<String> {
    let rest = link.trim().strip_prefix('<')?;
    let (target, parameters) = rest.split_once('>')?;
    if !parameters.to_ascii_lowercase().replace('"', "").contains("rel=next") {
        return None;
    }
    let query = same_origin_query(target, origin)?;
    let query = upstream_query(query)?;
    if query == asked {
        return None;
    }
    let ns = ns.map(|ns| format!("&ns={}", ns.replace(':', "%3A"))).unwrap_or_default();
    Some(format!("<{path}?{query}{ns}>; rel=\"next\""))
}

fn same_origin_query<'a>(target: &'a str, origin: &str) -> Option<&'a str> {
    let (before, query) = target.split_once('?')?;
    let is_relative = before.is_empty() || (before.starts_with('/') && !before.starts_with("//"));
    let same = |before: &str| {
        let (Ok(target), Ok(origin)) = (before.parse::<Uri>(), origin.parse::<Uri>()) else {
            return false;
        };
        target.scheme() == origin.scheme() && target.authority() == origin.authority()
    };
    (is_relative || same(before)).then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://registry.example";

    #[test]
    fn a_next_page_is_ours_whatever_the_upstream_calls_it() {
        for target in [
            "/v2/x/tags/list?last=b&n=2",
            "?last=b&n=2",
            "https://registry.example/v2/x/tags/list?last=b&n=2",
        ] {
            let link = format!("<{target}>; rel=\"next\"");
            let next = next_page(&link, ORIGIN, "/v2/docker.io/x/tags/list", "n=2", None);
            let expected = "</v2/docker.io/x/tags/list?last=b&n=2>; rel=\"next\"";
            assert_eq!(next.as_deref(), Some(expected), "{target}");
        }
        let link = "<?last=b>; rel=next";
        let next = next_page(link, ORIGIN, "/v2/x/tags/list", "", Some("localhost:5000"));
        let expected = "</v2/x/tags/list?last=b&ns=localhost%3A5000>; rel=\"next\"";
        assert_eq!(next.as_deref(), Some(expected));
    }

    #[test]
    fn a_link_that_leads_away_or_round_is_dropped() {
        for link in [
            "<https://evil.example/v2/x/tags/list?last=b>; rel=\"next\"",
            "<http://registry.example/v2/x/tags/list?last=b>; rel=\"next\"",
            "<//evil/v2/x/tags/list?last=b>; rel=\"next\"",
            "<javascript:alert(1)?a=b>; rel=\"next\"",
            "<?n=2>; rel=\"next\"",
            "<?last=b>; rel=\"prev\"",
            "<?last=b\r\nX: y>; rel=\"next\"",
            "?last=b",
            "",
        ] {
            assert_eq!(next_page(link, ORIGIN, "/v2/x/tags/list", "n=2", None), None, "{link}");
        }
    }

    #[test]
    fn page_sizes_are_clamped_and_odd_queries_refused() {
        for (query, expected) in [
            ("n=0", Some("n=1")),
            ("n=1000000000000000000", Some("n=1000")),
            ("n=99999999999999999999999", Some("n=1000")),
            ("n=5&last=x", Some("n=5&last=x")),
            ("", Some("")),
            ("n=-1", None),
            ("n=abc", None),
            ("n=", None),
            ("last=<script>", None),
        ] {
            assert_eq!(upstream_query(query).as_deref(), expected, "{query}");
        }
    }
}
