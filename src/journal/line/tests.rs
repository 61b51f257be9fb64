//! The format: what is written reads back as it was, and nothing else reads.

use proptest::prelude::*;

use super::*;

fn text(pulled: &Pulled) -> String {
    let mut line = Vec::new();
    pulled.write_to(&mut line);
    String::from_utf8(line).unwrap()
}

fn example() -> Pulled {
    Pulled {
        version: VERSION,
        first_ms: 1_776_849_180_000,
        last_ms: 1_776_849_180_500,
        count: 2,
        client: "10.0.0.7".parse().unwrap(),
        listener: "mirror".to_owned(),
        method: Method::Get,
        reference: "docker.io/library/alpine:3.19".parse().unwrap(),
        digest: Some(Digest::sha256([0xab; 32])),
        outcome: Outcome::Held,
        reason: None,
        kept_from: None,
    }
}

#[test]
fn a_line_is_what_the_manual_says() {
    let hex = "ab".repeat(32);
    assert_eq!(
        text(&example()),
        format!(
            "{{\"v\":1,\"first-ms\":1776849180000,\"last-ms\":1776849180500,\"count\":2,\
             \"client\":\"10.0.0.7\",\"listener\":\"mirror\",\"method\":\"GET\",\
             \"reference\":\"docker.io/library/alpine:3.19\",\"digest\":\"sha256:{hex}\",\
             \"outcome\":\"held\"}}\n"
        )
    );
    let manual = include_str!("../../../docs/journal.md");
    let documented = manual.lines().filter(|line| line.starts_with("{\"v\":1,"));
    let documented: Vec<_> =
        documented.map(|line| Pulled::read(line.as_bytes()).unwrap()).collect();
    assert!(documented.len() >= 2, "the manual shows what is given and what is refused");
    for outcome in Outcome::ALL {
        let row = format!("| `{}` |", outcome.name());
        assert!(manual.lines().any(|line| line.starts_with(&row)), "{row}");
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
    }
}

#[test]
fn a_line_of_later_additions_reads_and_one_of_another_version_does_not() {
    let line = text(&example());
    let more = line.replace("\"count\":2", "\"count\":2,\"new\":{\"a\":[1]}");
    assert_eq!(Pulled::read(more.as_bytes()), Some(example()));
    let other = line.replace("\"v\":1", "\"v\":2");
    assert_eq!(Pulled::read(other.as_bytes()), None);
}

#[test]
fn a_line_that_somebody_forged_for_a_terminal_does_not_read() {
    let line = text(&example());
    for (from, to) in [
        ("\"mirror\"", "\"mir\\u001b[2Jror\"".to_owned()),
        ("\"mirror\"", "\"\u{202e}rorrim\"".to_owned()),
        ("\"mirror\"", format!("\"{}\"", "m".repeat(101))),
        ("\"outcome\"", "\"reason\":\"a\\nb\",\"outcome\"".to_owned()),
        ("alpine", "alp\\nine".to_owned()),
        ("10.0.0.7", "10.0.0.7 ".to_owned()),
        ("GET", "get".to_owned()),
        ("\"held\"", "\"served\"".to_owned()),
    ] {
        let forged = line.replace(from, &to);
        assert_ne!(forged, line);
        assert_eq!(Pulled::read(forged.as_bytes()), None, "{forged}");
    }
}

fn any_pulled() -> impl Strategy<Value = Pulled> {
    let name = "[a-z0-9]{1,12}(\\.[a-z]{2,5})(:[1-9][0-9]{1,3})?/[a-z0-9]{1,20}(/[a-z0-9]{1,20})?";
    let tag = proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}");
    let digest = || proptest::option::of(any::<[u8; 32]>().prop_map(Digest::sha256));
    let outcome = proptest::sample::select(Outcome::ALL.to_vec());
    let reason = proptest::option::of("[A-Z_]{1,30}".prop_map(Cow::Owned));
    let numbers = any::<(u64, u64, u64, IpAddr, bool)>();
    let names = (name, tag, digest(), "(mirror|direct)(@127\\.0\\.0\\.1:5050)?");
    (numbers, names, digest(), outcome, reason, digest()).prop_map(
        |(
            (first_ms, last_ms, count, client, is_head),
            names,
            digest,
            outcome,
            reason,
            kept_from,
        )| {
            let (name, tag, by_digest, listener) = names;
            let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
            let by_digest = by_digest.map(|digest| format!("@{digest}")).unwrap_or_default();
            let reference = format!("{name}{tag}{by_digest}").parse().unwrap();
            let method = if is_head { Method::Head } else { Method::Get };
            let version = VERSION;
            Pulled {
                version,
                first_ms,
                last_ms,
                count,
                client,
                listener,
                method,
                reference,
                digest,
                outcome,
                reason,
                kept_from,
            }
        },
    )
}

proptest! {
    #[test]
    fn whatever_is_written_reads_back_the_same_from_one_printable_line(pulled in any_pulled()) {
        let line = text(&pulled);
        prop_assert!(line.len() <= LINE_LIMIT);
        prop_assert!(line.strip_suffix('\n').is_some_and(|line| !line.contains(is_unprintable)));
        prop_assert_eq!(Pulled::read(line.trim_end().as_bytes()), Some(pulled));
    }

    #[test]
    fn a_torn_line_never_reads(pulled in any_pulled(), cut in any::<prop::sample::Index>()) {
        let line = text(&pulled);
        let cut = cut.index(line.len() - 1);
        prop_assert_eq!(Pulled::read(&line.as_bytes()[..cut]), None);
    }

    #[test]
    fn no_bytes_of_strangers_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        Pulled::read(&bytes);
    }
}
