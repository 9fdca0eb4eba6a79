use super::*;

#[test]
fn addresses_are_read_and_written() {
    let good = [
        ("uringest://example.org:7000", "example.org:7000"),
        ("uringest://example.org", "example.org:7440"),
        ("uringest://example.org/", "example.org:7440"),
        ("localhost", "localhost:7440"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::1]", "[::1]:7440"),
        ("uringest://[fe80::1]:65535", "[fe80::1]:65535"),
        ("uringest+tls://example.org", "uringest+tls://example.org:7440"),
        ("uringest+tls://[::1]:7/", "uringest+tls://[::1]:7"),
    ];
    for (text, written) in good {
        assert_eq!(
            text.parse::<Address>().map(|address| address.to_string()),
            Ok(written.to_owned()),
            "{text}"
        );
        let address: Address = text.parse().expect("good");
        assert_eq!(written.parse(), Ok(address), "{text}");
    }
}

#[test]
fn only_one_scheme_asks_for_tls() {
    for (text, secured) in [("x", false), ("uringest://x", false), ("uringest+tls://x", true)] {
        let address: Address = text.parse().expect("good");
        assert_eq!(address.is_secured(), secured);
        assert!(address.with_tls(true).to_string().starts_with("uringest+tls://"));
    }
}

#[test]
fn what_is_no_address_says_why() {
    let bad = [
        ("", "host is missing"),
        (":7440", "host is missing"),
        ("http://x", "scheme"),
        ("uringest+tls://", "host is missing"),
        ("uringest+TLS://x", "scheme"),
        ("x:0", "port"),
        ("x:65536", "port"),
        ("x:", "port"),
        ("::1", "brackets"),
        ("[::1", "]"),
        ("[::1]7440", ":port"),
        ("uringest://x/topic", "host:port"),
        ("uringest://token@x", "token"),
    ];
    for (text, why) in bad {
        let error = text.parse::<Address>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}
