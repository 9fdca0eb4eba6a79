use super::*;

#[test]
fn base64_is_that_of_rfc_4648() {
    let vectors = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, encoded) in vectors {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
    assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
}

#[test]
fn bytes_that_are_no_text_are_said_to_be_base64() {
    assert_eq!(text_or_base64("grün".as_bytes()), ("grün".into(), None));
    assert_eq!(text_or_base64(&[0xff]), ("/w==".into(), Some("base64")));
}

#[test]
fn a_start_is_a_word_an_offset_or_a_time() {
    assert_eq!(parse_start("earliest"), Ok(Start::Earliest));
    assert_eq!(parse_start("latest"), Ok(Start::Latest));
    assert_eq!(parse_start("17"), Ok(Start::Offset(17)));
    assert_eq!(parse_start("@2"), Ok(Start::TimeNs(2_000_000_000)));
    assert_eq!(parse_start("1970-01-01T00:00:01Z"), Ok(Start::TimeNs(1_000_000_000)));
    assert!(matches!(parse_start("-5m"), Ok(Start::TimeNs(_))));
    assert!(parse_start("tomorrow").is_err());
}
