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
    ];
    for (text, written) in good {
        assert_eq!(
            text.parse::<Address>().map(|address| address.to_string()),
            Ok(written.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_address_says_why() {
    let bad = [
        ("", "host is missing"),
        (":7440", "host is missing"),
        ("http://x", "scheme"),
        ("uringest+tls://x", "TLS"),
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
