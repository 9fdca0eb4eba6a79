use super::*;

const TIME: u64 = 1_795_226_400_123_456_789;

fn text(message: &str, fields: &[Field<'_>]) -> String {
    line(false, TIME, Level::Warn, "socket_full", message, fields)
}

fn json(message: &str, fields: &[Field<'_>]) -> serde_json::Map<String, serde_json::Value> {
    let line = line(true, TIME, Level::Error, "socket_full", message, fields);
    assert_eq!(line.matches('\n').count(), 1, "one line: {line:?}");
    match serde_json::from_str(&line) {
        Ok(serde_json::Value::Object(object)) => object,
        other => panic!("{line:?} is not an object: {other:?}"),
    }
}

#[test]
fn a_text_line_reads_well() {
    let line = text("the peer reads nothing", &[("conn", &7), ("peer", &"127.0.0.1:5"), ("why", &"a b")]);
    assert_eq!(
        line,
        "2026-11-21T02:00:00.123Z WARN  socket_full the peer reads nothing conn=7 peer=127.0.0.1:5 why=\"a b\"\n"
    );
}

#[test]
fn a_json_line_is_an_object_of_strings() {
    let object = json("full", &[("conn", &7), ("quote", &"say \"x\" \\ y")]);
    assert_eq!(object["time"], "2026-11-21T02:00:00.123Z");
    assert_eq!(object["level"], "error");
    assert_eq!(object["event"], "socket_full");
    assert_eq!(object["message"], "full");
    assert_eq!(object["conn"], "7");
    assert_eq!(object["quote"], "say \"x\" \\ y");
    assert_eq!(object.len(), 6);
}

#[test]
fn nothing_from_a_peer_ends_a_line_or_reaches_a_terminal() {
    let hostile = "a\r\nb\u{1b}[2J\0\u{7f}\u{85}\u{2028}\u{202e}\" = \\é\t";
    let line = text(hostile, &[("name", &hostile)]);
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert!(!line.trim_end_matches('\n').contains(is_unsafe), "{line:?}");
    assert!(line.contains('é'), "what is harmless stays: {line:?}");
    assert_eq!(json(hostile, &[("name", &hostile)])["name"], hostile);
}

#[test]
fn values_that_are_not_one_word_are_quoted() {
    for (value, expected) in [("", "k=\"\""), ("a=b", "k=\"a=b\""), ("a\"b", "k=\"a\\\"b\""), ("ab", "k=ab")]
    {
        let line = text("m", &[("k", &value)]);
        assert_eq!(line.trim_end().rsplit_once(" m ").map(|(_, field)| field), Some(expected));
    }
}

#[test]
fn once_is_once_and_remembered() {
    assert!(once("test_once_key"));
    assert!(!once("test_once_key"));
    degraded("test_degraded_key", "only in a test", &[("remedy", &"none")]);
    let known = degradations();
    assert!(known.contains(&"test_once_key") && known.contains(&"test_degraded_key"));
}

#[test]
fn levels_are_ordered() {
    assert!(Level::Debug < Level::Info && Level::Info < Level::Warn && Level::Warn < Level::Error);
    assert!(enabled(Level::Info) && enabled(Level::Error), "the level before init is info");
}
