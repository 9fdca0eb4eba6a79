//! Runs the pieces under callgrind and reads what it wrote down.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Count, CountedOn, REPETITIONS, TIMES};
use crate::pieces;

/// Counts of one piece may differ by this share: hash tables are seeded at random.
const REPEATABLE: f64 = 0.005;

/// Why the pieces could not be counted.
#[derive(Debug)]
pub enum ProfileError {
    /// No valgrind.
    NoValgrind(std::io::Error),
    /// A file or a process failed.
    Io(std::io::Error),
    /// Valgrind, or the program under it, failed: what it said.
    Failed(String),
    /// A piece was not written down, or not as expected.
    Unreadable(String),
    /// A piece takes a different number each time: how many.
    NotRepeatable(String, Vec<u64>),
}

impl std::fmt::Display for ProfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProfileError::NoValgrind(error) => {
                write!(f, "valgrind does not start ({error}): install it (package valgrind)")
            }
            ProfileError::Io(error) => write!(f, "counting: {error}"),
            ProfileError::Failed(what) => write!(f, "counting under valgrind failed:\n{what}"),
            ProfileError::Unreadable(what) => write!(f, "callgrind's output: {what}"),
            ProfileError::NotRepeatable(name, counts) => {
                write!(f, "piece {name} is not fixed work: {counts:?} instructions")
            }
        }
    }
}

impl std::error::Error for ProfileError {}

impl From<std::io::Error> for ProfileError {
    fn from(error: std::io::Error) -> Self {
        ProfileError::Io(error)
    }
}

/// Counts all pieces.
pub(super) fn take() -> Result<(Vec<Count>, CountedOn), ProfileError> {
    let version = Command::new("valgrind").arg("--version").output().map_err(ProfileError::NoValgrind)?;
    let valgrind = String::from_utf8_lossy(&version.stdout).trim().trim_start_matches("valgrind-").to_owned();
    let directory = tempfile::tempdir()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--callgrind-out-file={}", directory.path().join("counts").display()))
        .arg(std::env::current_exe()?)
        .args(["instructions", "--count"])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(ProfileError::Failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines();
    let mut line =
        || lines.next().map(str::to_owned).ok_or_else(|| ProfileError::Unreadable(said.to_string()));
    let on = CountedOn {
        processor: line()?,
        checksum: line()?,
        rustc: env!("URINGEST_BENCH_RUSTC").to_owned(),
        libc: libc_version(),
        valgrind,
    };
    Ok((counts(directory.path())?, on))
}

/// The pieces' counts, from callgrind's files in a directory.
fn counts(directory: &Path) -> Result<Vec<Count>, ProfileError> {
    let mut dumps = HashMap::new();
    for entry in std::fs::read_dir(directory)? {
        let text = String::from_utf8_lossy(&std::fs::read(entry?.path())?).into_owned();
        dumps.extend(dump(&text));
    }
    pieces::all().map(|piece| joined(piece.name, &dumps)).collect()
}

/// One count of several.
fn joined(name: &str, dumps: &HashMap<String, u64>) -> Result<Count, ProfileError> {
    let counted: Option<Vec<u64>> =
        (0..TIMES).map(|time| dumps.get(&format!("{name}#{time}")).copied()).collect();
    let counted = counted.ok_or_else(|| ProfileError::Unreadable(format!("no count of {name}")))?;
    let (least, most) =
        (counted.iter().min().copied().unwrap_or(0), counted.iter().max().copied().unwrap_or(0));
    if least == 0 {
        return Err(ProfileError::Unreadable(format!("nothing was counted of {name}")));
    }
    if (most - least) as f64 > REPEATABLE * least as f64 {
        return Err(ProfileError::NotRepeatable(name.to_owned(), counted));
    }
    let instructions = counted.iter().sum::<u64>() / (REPETITIONS * TIMES as u64);
    Ok(Count { name: name.to_owned(), instructions })
}

/// Name and sum of one of callgrind's files ("Callgrind Format Specification"), if it was asked for by name.
pub(super) fn dump(text: &str) -> Option<(String, u64)> {
    let name = text.lines().find_map(|line| line.strip_prefix("desc: Trigger: Client Request: "))?;
    let sum =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")))?;
    Some((name.trim().to_owned(), sum.trim().parse().ok()?))
}

/// The C library's version, for what it knows of processors is in the counts.
fn libc_version() -> String {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the function has no arguments and gives a static string.
        let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
        format!("glibc {}", version.to_string_lossy())
    }
    #[cfg(not(target_env = "gnu"))]
    "unknown".to_owned()
}
