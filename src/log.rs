//! The log: one line an event to stderr, as text for people or JSON for machines.
//!
//! An event has a stable name (`snake_case`, listed in `docs/operations.md`), a message and fields. A line is
//! one write, so lines of different threads do not mix. Never called from a shard's tick: a shard reports to
//! control, and control logs. Before `init`, and in tests, events of `Info` and above go out as text.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::limits::DEGRADATIONS_MAX;
use crate::time::format_utc;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `Text` when stderr is a terminal, else `Json`.
    #[default]
    Auto,
    /// `TIME LEVEL event message key=value ...`
    Text,
    /// One object a line: `time`, `level`, `event`, `message` and the fields.
    Json,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// For whoever looks into the server.
    Debug = 0,
    /// What happened in the normal course.
    #[default]
    Info = 1,
    /// The server goes on, with less than it could.
    Warn = 2,
    /// Something an operator has to act on.
    Error = 3,
}

impl Level {
    /// The name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// A field: its name and its value.
pub type Field<'a> = (&'a str, &'a dyn Display);

static JSON: AtomicU8 = AtomicU8::new(0);
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static DEGRADATIONS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// Chooses the format and the lowest level that is logged, for the whole process; may be called again.
pub fn init(format: Format, level: Level) {
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    JSON.store(u8::from(json), Ordering::Relaxed);
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether an event of this level is logged.
#[must_use]
pub fn enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed) && !is_silent()
}

#[cfg(any(test, uringest_sim))]
thread_local! {
    static SILENT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// From now on this thread logs nothing, or everything again: thousands of simulated servers have much to say.
#[cfg(any(test, uringest_sim))]
pub fn silence(silent: bool) {
    SILENT.set(silent);
}

#[cfg(any(test, uringest_sim))]
fn is_silent() -> bool {
    SILENT.get()
}

#[cfg(not(any(test, uringest_sim)))]
fn is_silent() -> bool {
    false
}

/// Logs an event. `name` is stable; `message` is for people; a field's name is `snake_case` with its unit last.
/// A line that cannot be written is lost.
pub fn event(level: Level, name: &'static str, message: &str, fields: &[Field<'_>]) {
    if !enabled(level) {
        return;
    }
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ns = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
    let json = JSON.load(Ordering::Relaxed) != 0;
    let line = line(json, wall_ns, level, name, message, fields);
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// True the first time it is called with this key in this process: for what is to be logged once. False for
/// every new key once `DEGRADATIONS_MAX` are remembered, so that it cannot grow.
#[must_use]
pub fn once(key: &'static str) -> bool {
    let mut keys = DEGRADATIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let new = !keys.contains(&key) && keys.len() < DEGRADATIONS_MAX;
    if new {
        keys.push(key);
    }
    new
}

/// Logs, once, that something does not work as well as it could here. `name` is the event and what
/// `uringest_degraded` shows; the fields should have a `remedy`.
pub fn degraded(name: &'static str, message: &str, fields: &[Field<'_>]) {
    if once(name) {
        event(Level::Warn, name, message, fields);
    }
}

/// The keys that `once` and `degraded` were called with, in that order: for the metrics page and `doctor`.
#[must_use]
pub fn degradations() -> Vec<&'static str> {
    DEGRADATIONS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A whole line, with its end.
fn line(json: bool, wall_ns: u64, level: Level, name: &str, message: &str, fields: &[Field<'_>]) -> String {
    let time = format_utc(wall_ns / 1_000_000 * 1_000_000);
    let mut out = String::with_capacity(256);
    if json {
        out.push_str("{\"time\":");
        push_json(&mut out, &time);
        let fixed: [Field<'_>; 3] = [("level", &level.name()), ("event", &name), ("message", &message)];
        for (key, value) in fixed.iter().chain(fields) {
            out.push(',');
            push_json(&mut out, key);
            out.push(':');
            push_json(&mut out, &value.to_string());
        }
        out.push('}');
    } else {
        put(&mut out, format_args!("{time} {:<5} {name} ", level.name().to_uppercase()));
        push_text(&mut out, message);
        for (key, value) in fields {
            put(&mut out, format_args!(" {key}="));
            push_value(&mut out, &value.to_string());
        }
    }
    out.push('\n');
    out
}

/// A JSON string. Values are strings, also where they look like numbers: a field has one type for ever.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if is_unsafe(c) => put(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Text with everything escaped that could end the line or move a terminal's cursor.
fn push_text(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// A field's value, in quotes when it would not be seen as one word.
fn push_value(out: &mut String, text: &str) {
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\')) {
        return push_text(out, text);
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if is_unsafe(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Control characters (C0, DEL, C1), and the separators and direction marks that viewers act on. All of them
/// are below U+10000, so that `\uXXXX` can write them.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes whatever is written to it");
}

#[cfg(test)]
mod tests;
