use super::*;
use crate::limits;
use crate::proto::header::Kind;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The cells of the rows of a table of the document, found by its first line.
fn table(first_line: &str) -> Vec<Vec<String>> {
    let (_, rest) = DOCUMENT.split_once(first_line).expect("the document has the table");
    rest.lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn the_documents_table_is_the_enum() {
    let documented = table("| code | name | fault | scope | retryable | meaning |");
    let rows: Vec<Vec<String>> = Code::ALL
        .iter()
        .map(|code| {
            let retryable = if code.retryable() { "yes" } else { "no" };
            vec![
                (*code as u16).to_string(),
                code.name().to_owned(),
                format!("{:?}", code.fault()).to_lowercase(),
                format!("{:?}", code.scope()).to_lowercase(),
                retryable.to_owned(),
                code.text().to_owned(),
            ]
        })
        .collect();
    for row in &rows {
        assert!(
            documented.contains(row),
            "docs/protocol.md lacks this row, or has it otherwise: | {} |",
            row.join(" | ")
        );
    }
    assert_eq!(documented.len(), rows.len(), "the document has rows for codes that do not exist");
    assert!(documented.is_sorted_by_key(|row| row[0].parse::<u16>().unwrap()));
}

#[test]
fn the_documents_kinds_are_the_enum() {
    let documented: Vec<(String, String)> =
        table("| kind | name | from | body | header fields used beside kind, sizes and checksums |")
            .into_iter()
            .map(|row| (row[0].clone(), row[1].clone()))
            .collect();
    let kinds: Vec<(String, String)> = Kind::ALL
        .iter()
        .map(|kind| ((*kind as u8).to_string(), format!("{kind:?}").to_lowercase()))
        .collect();
    assert_eq!(documented, kinds);
}

#[test]
fn the_documents_limits_are_the_constants() {
    let documented: Vec<u64> =
        table("| limit | value | told in |").into_iter().map(|row| row[1].parse().unwrap()).collect();
    let constants = [
        limits::HEADER_BYTES as u64,
        u64::from(limits::FRAME_BYTES_MAX_DEFAULT),
        u64::from(limits::CONTROL_BODY_BYTES_MAX),
        u64::from(limits::BATCH_RECORDS_MAX),
        limits::TOPIC_NAME_BYTES_MAX as u64,
        limits::CONSUMER_NAME_BYTES_MAX as u64,
        limits::TOKEN_BYTES_MAX as u64,
        limits::PEER_NAME_BYTES_MAX as u64,
        limits::DETAIL_BYTES_MAX as u64,
        u64::from(limits::INFLIGHT_BATCHES_MAX),
        u64::from(limits::CHANNELS_PER_CONNECTION),
        u64::from(limits::SUBSCRIPTIONS_PER_CONNECTION),
        u64::from(limits::PARTITIONS_PER_TOPIC),
        limits::HANDSHAKE_TIMEOUT_MS,
        limits::FRAME_TIMEOUT_MS,
        limits::IDLE_TIMEOUT_MS,
    ];
    assert_eq!(documented, constants);
}

#[test]
fn numbers_grow_and_lead_back() {
    assert!(Code::ALL.windows(2).all(|pair| (pair[0] as u16) < pair[1] as u16));
    for code in Code::ALL {
        assert_eq!(Code::from_number(*code as u16), Some(*code));
    }
    assert_eq!(Code::from_number(0), None);
    let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
}
