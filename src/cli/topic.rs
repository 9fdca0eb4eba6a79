//! `topic create|list|describe|delete|pause|resume`: topics of a running server, over the admin API.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{AdminArgs, escape};
use super::exit::{Output, print, print_json, table};
use super::progress::counted;
use super::{EXIT_CODES, Exit, Failure, Outcome};
use crate::config::{Codec as _, RETENTION_AGE, TOPIC_NAME, parse_bytes, show_bytes};

/// `topic ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    admin: AdminArgs,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    /// Sent to who is subscribed now; nothing is kept.
    Live,
    /// Kept in memory, oldest out.
    Memory,
    /// Kept on disk, for as long as its retention says.
    Log,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityArg {
    /// In the server's memory: any acknowledgement may be asked for.
    Received,
    /// In the log's file: survives the end of the process.
    Written,
    /// On the disk: survives power loss.
    Durable,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum OverflowArg {
    /// Producers wait for the slowest current subscriber.
    Block,
    /// The oldest records go; subscribers are told what they missed.
    DropOldest,
    /// New batches are refused.
    Reject,
}

/// For topics of kind `log`.
#[derive(Debug, Args)]
struct LogArgs {
    /// The least acknowledgement a producer may ask for, of kind log [default: the server's].
    #[arg(long, value_name = "LEVEL", value_enum)]
    durability: Option<DurabilityArg>,
    /// Age at which records may go although there is room (as 7d, or none), of kind log [default: the server's].
    #[arg(long, value_name = "AGE", value_parser = age)]
    retention_age: Option<u64>,
    /// Length of each file of a partition (as 64MiB), of kind log [default: the server's].
    #[arg(long, value_name = "N", value_parser = parse_bytes)]
    segment_bytes: Option<u64>,
}

fn age(text: &str) -> Result<u64, String> {
    RETENTION_AGE.parse(text).map_err(|why| format!("it {why}; allowed: {}", RETENTION_AGE.allowed()))
}

fn topic_name(text: &str) -> Result<String, String> {
    TOPIC_NAME.parse(text).map_err(|why| format!("it {why}; allowed: {}", TOPIC_NAME.allowed()))
}

macro_rules! example {
    ($text:literal) => {
        concat!(
            "Example:\n  ",
            $text,
            "\n\nExit codes: 0 done; 1 failed; 2 wrong command line; \
            3 server not reachable or no answer in time; 4 refused by the server."
        )
    };
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Makes a topic.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest topic create sensors --partitions 4 --retention-bytes 256MiB"))]
    Create {
        /// Its name.
        #[arg(value_parser = topic_name)]
        name: String,
        /// How many partitions it has.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::limits::PARTITIONS_PER_TOPIC)))]
        partitions: u32,
        /// What becomes of its records.
        #[arg(long, value_enum, default_value = "memory")]
        kind: KindArg,
        /// Bytes each partition keeps (as 64MiB), of kind log on disk [default: the server's].
        #[arg(long, value_name = "N", value_parser = parse_bytes)]
        retention_bytes: Option<u64>,
        /// What happens when a partition is full of what a subscriber has yet to receive [default: the server's].
        #[arg(long, value_name = "P", value_enum)]
        overflow: Option<OverflowArg>,
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Lists the topics.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest topic list -o json"))]
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Shows a topic's partitions and its consumers with their lag and its cause.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest topic describe sensors"))]
    Describe(Named),
    /// Deletes a topic and what it keeps.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest topic delete sensors"))]
    Delete(Named),
    /// Refuses publishes to a topic until it is resumed.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest topic pause sensors"))]
    Pause(Named),
    /// Takes publishes to a paused topic again.
    #[command(after_help = EXIT_CODES, after_long_help = example!("uringest topic resume sensors"))]
    Resume(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The topic's name.
    #[arg(value_parser = topic_name)]
    name: String,
    #[command(flatten)]
    common: Common,
}

fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn run(args: TopicArgs) -> Outcome {
    match args.command {
        TopicCommand::Create { name, partitions, kind, retention_bytes, overflow, log, common } => {
            let mut body = json!({ "name": name, "partitions": partitions, "kind": word(kind) });
            if let Some(bytes) = retention_bytes {
                body["retention_bytes"] = bytes.into();
            }
            if let Some(overflow) = overflow {
                body["overflow"] = word(overflow).into();
            }
            if let Some(durability) = log.durability {
                body["durability"] = word(durability).into();
            }
            if let Some(age) = log.retention_age {
                body["retention_ms"] = age.into();
            }
            if let Some(bytes) = log.segment_bytes {
                body["segment_bytes"] = bytes.into();
            }
            let made = common.admin.client()?.call("POST", "/v1/topics", Some(&body))?;
            let partitions = counted(u64::from(partitions), "partition");
            done(common.output, &made, &format!("{name}: created with {partitions}\n"))
        }
        TopicCommand::List { common } => {
            let listed = common.admin.client()?.call("GET", "/v1/topics", None)?;
            if common.output == Output::Json { print_json(&listed) } else { print(&list(&listed)?) }
        }
        TopicCommand::Describe(named) => {
            let topic = call(&named, "GET", "")?;
            if named.common.output == Output::Json { print_json(&topic) } else { print(&describe(&topic)) }
        }
        TopicCommand::Delete(named) => {
            let answer = call(&named, "DELETE", "")?;
            done(named.common.output, &answer, &format!("{}: deleted\n", named.name))
        }
        TopicCommand::Pause(named) => {
            let answer = call(&named, "POST", "/pause")?;
            done(named.common.output, &answer, &format!("{}: paused\n", named.name))
        }
        TopicCommand::Resume(named) => {
            let answer = call(&named, "POST", "/resume")?;
            done(named.common.output, &answer, &format!("{}: resumed\n", named.name))
        }
    }
}

fn call(named: &Named, method: &str, action: &str) -> Result<Value, Failure> {
    let path = format!("/v1/topics/{}{action}", escape(&named.name));
    named.common.admin.client()?.call(method, &path, None)
}

fn done(output: Output, answer: &Value, text: &str) -> Outcome {
    if output == Output::Json { print_json(answer) } else { print(text) }
}

/// A field as a cell: numbers and words as they are, nothing as `-`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bytes_cell(value: &Value) -> String {
    value.as_u64().map_or_else(|| cell(value), show_bytes)
}

fn list(listed: &Value) -> Result<String, Failure> {
    let topics = listed["topics"].as_array().or_else(|| listed.as_array());
    let topics = topics
        .ok_or_else(|| Failure::new(Exit::Failed, "the server's list of topics has no topics field", ""))?;
    if topics.is_empty() {
        return Ok("no topics; make one with `uringest topic create NAME`\n".to_owned());
    }
    let row = |topic: &Value| {
        let partitions = match &topic["partitions"] {
            Value::Array(partitions) => partitions.len().to_string(),
            count => cell(count),
        };
        let state = if topic["paused"].as_bool() == Some(true) { "paused" } else { "running" };
        vec![
            cell(&topic["name"]),
            cell(&topic["kind"]),
            partitions,
            bytes_cell(&topic["retention_bytes"]),
            cell(&topic["overflow"]),
            topic["state"].as_str().unwrap_or(state).to_owned(),
        ]
    };
    let rows: Vec<_> = topics.iter().map(row).collect();
    Ok(table(&["TOPIC", "KIND", "PARTITIONS", "RETENTION", "OVERFLOW", "STATE"], &[2, 3], &rows))
}

/// What is said of a topic of kind log alone.
fn kept(topic: &Value) -> String {
    let Some(durability) = topic["durability"].as_str() else { return String::new() };
    let age = topic["retention_ms"].as_u64().unwrap_or(0);
    let age = if age == 0 { String::new() } else { format!(" for {}", RETENTION_AGE.show(&age)) };
    let segment = bytes_cell(&topic["segment_bytes"]);
    format!(" on disk{age} in files of {segment}, acknowledged as {durability} at least")
}

fn describe(topic: &Value) -> String {
    let mut text = format!(
        "{}: {}, overflow {}, {} a partition{}{}\n\n",
        cell(&topic["name"]),
        cell(&topic["kind"]),
        cell(&topic["overflow"]),
        bytes_cell(&topic["retention_bytes"]),
        kept(topic),
        if topic["paused"].as_bool() == Some(true) { ", paused" } else { "" }
    );
    let none = Vec::new();
    let partitions = topic["partitions"].as_array().unwrap_or(&none);
    let mut fields = vec!["id", "shard", "log_start_offset", "log_end_offset", "bytes"];
    let mut head = vec!["PARTITION", "SHARD", "LOG START", "LOG END", "BYTES"];
    if topic["kind"] == "log" {
        fields.extend(["closed_segments", "disk_bytes"]);
        head.extend(["CLOSED", "DISK"]);
    }
    let row = |one: &Value| fields.iter().map(|field| cell(&one[*field])).collect::<Vec<_>>();
    let rows: Vec<_> = partitions.iter().map(row).collect();
    text += &table(&head, &(0..head.len()).collect::<Vec<_>>(), &rows);
    let mut rows = Vec::new();
    for partition in partitions {
        for consumer in partition["consumers"].as_array().unwrap_or(&none) {
            let fields =
                ["name", "lag_records", "missed_records", "cause"].map(|field| cell(&consumer[field]));
            rows.push([vec![cell(&partition["id"])], fields.to_vec()].concat());
        }
    }
    if rows.is_empty() {
        return text + "\nno consumers\n";
    }
    text + "\n" + &table(&["PARTITION", "CONSUMER", "LAG", "MISSED", "CAUSE"], &[0, 2, 3], &rows)
}
