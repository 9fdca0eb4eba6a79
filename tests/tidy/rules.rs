//! The rules, as tables, and their application to one source.

use crate::source::{Source, functions, paths, position_of_word};

/// Lines of a file.
pub const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 80;
/// The same for test code, where a function may be a table of cases.
pub const TEST_FUNCTION_LINES_MAX: usize = 130;

/// What one module may use of the others. A row is above all rows that use it, so there are no cycles.
pub struct Module {
    pub name: &'static str,
    pub may_use: &'static [&'static str],
}

macro_rules! modules {
    ($($name:literal uses [$($used:literal),* $(,)?];)*) => {
        &[$(Module { name: $name, may_use: &[$($used),*] }),*]
    };
}

/// docs/architecture.md, "Dependency direction", row by row.
pub const MODULES: &[Module] = modules! {
    "limits" uses [];
    "ids" uses [];
    "time" uses ["limits"];
    "log" uses ["limits", "time"];
    "lifecycle" uses [];
    "mutation" uses [];
    "wire::generated" uses [];
    "proto" uses ["ids", "limits", "mutation", "wire::generated"];
    "wire" uses ["limits", "proto", "wire::generated"];
    "buf" uses ["ids", "limits", "mutation"];
    "commit_log" uses ["ids", "limits", "mutation", "proto"];
    "topic" uses ["buf", "commit_log", "ids", "limits", "proto"];
    "access" uses ["ids", "limits", "proto"];
    "mesh" uses ["ids", "limits", "proto"];
    "tls" uses ["buf", "mutation", "time"];
    "metrics" uses ["buf", "ids", "lifecycle", "limits", "proto", "time", "tls"];
    "partition" uses ["buf", "commit_log", "ids", "limits", "mutation", "proto", "topic"];
    "io" uses ["buf", "ids", "limits", "log", "mutation", "time"];
    "io::epoll" uses ["buf", "ids", "io", "limits", "log", "time"];
    "io::uring" uses ["buf", "ids", "io", "limits", "log", "time"];
    "io::choice" uses ["buf", "ids", "io", "io::epoll", "io::uring"];
    "io::probe" uses ["io", "io::choice", "io::uring", "limits"];
    "config" uses [
        "access", "commit_log", "ids", "io", "io::choice", "limits", "log", "proto", "tls", "topic",
    ];
    "shard" uses [
        "access", "buf", "commit_log", "ids", "io", "lifecycle", "limits", "log", "mesh", "metrics", "mutation", "partition",
        "proto", "time", "tls", "topic", "wire",
    ];
    "sim::random" uses [];
    "sim::plan" uses ["proto", "sim::random", "topic"];
    "io::sim" uses ["buf", "ids", "io", "mutation", "proto", "sim::plan", "sim::random"];
    "control" uses [
        "access", "buf", "commit_log", "config", "ids", "io", "io::choice", "lifecycle", "limits", "log", "mesh", "metrics", "mutation", "partition",
        "proto", "shard", "time", "tls", "topic", "wire",
    ];
    "server" uses [
        "access", "buf", "commit_log", "config", "control", "ids", "io", "io::choice", "lifecycle", "limits", "log", "mesh",
        "metrics", "partition", "proto", "shard", "time", "tls", "topic", "wire",
    ];
    "client::core" uses ["ids", "limits", "mutation", "proto", "tls", "wire"];
    "client" uses ["client::core", "ids", "limits", "log", "proto", "time", "tls", "wire"];
    "sim" uses [
        "access", "buf", "client", "client::core", "commit_log", "config", "control", "ids", "io", "io::sim", "limits", "log",
        "mesh", "metrics", "mutation", "proto", "shard", "sim::plan", "sim::random", "tls", "topic",
    ];
    "cli" uses [
        "access", "buf", "commit_log", "client", "client::core", "config", "control", "ids", "io", "io::probe", "lifecycle",
        "limits", "log", "metrics", "partition", "proto", "server", "shard", "time", "tls", "topic", "wire",
    ];
};

/// Paths of other crates that some modules may not use.
const FOREIGN: &[(&[&str], &[&str])] = &[
    (
        &["proto", "wire", "partition", "commit_log", "access", "client::core", "tls", "topic", "lifecycle"],
        &[
            "libc",
            "std::net",
            "std::time::Instant",
            "std::time::SystemTime",
            "io_uring",
            "socket2",
            "tokio",
            "tokio_uring",
        ],
    ),
    (&["io", "io::epoll", "io::choice", "io::probe"], &["io_uring", "tokio_uring"]),
    (&["buf", "mesh", "metrics", "time"], &["io_uring", "socket2", "tokio", "tokio_uring"]),
    (
        &["shard"],
        &[
            "libc",
            "io_uring",
            "socket2",
            "tokio",
            "tokio_uring",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    ),
];

/// A piece of code that is banned in some places of `src`.
struct Ban {
    code: &'static str,
    /// Where it is banned.
    within: &'static [&'static str],
    /// Exceptions.
    but: &'static [&'static str],
    why: &'static str,
}

const SRC: &[&str] = &["src/"];
const CLOCKS: &[&str] = &[
    "src/io/",
    "src/control/",
    "src/client/",
    "src/cli/",
    "src/log.rs",
    "src/log/",
    "src/server.rs",
    "src/server/",
    "src/bin",
];
const PRINTS: &[&str] = &["src/cli/", "src/main.rs", "src/bin", "src/sim"];

/// Where a Cargo feature may be named: the choice of a backend, what is shared by backends or judges them, and what
/// runs on tokio-uring.
const ASKS_FOR_FEATURES: &[&str] = &[
    "src/lib.rs",
    "src/io/",
    "src/control/runtime.rs",
    "src/control/http.rs",
    "src/control/files.rs",
    "src/client/mod.rs",
];

/// What shards share all the same: handed over by control and immutable, or made of atomics in `mesh` and
/// `metrics`; looked at or cloned when a connection or topic comes or goes.
const SHARED_BY_SHARDS: &[&str] =
    &["Arc<Topic>", "Arc<Access>", "Arc<Mapping>", "Arc<Census>", "Arc<CounterPage>"];

const BANS: &[Ban] = &[
    Ban {
        code: "Instant::now",
        within: SRC,
        but: CLOCKS,
        why: "the data plane's clock is `Io::clock`, once a tick",
    },
    Ban { code: "Instant::now", within: &["src/client/core"], but: &[], why: "time is an argument" },
    Ban {
        code: "SystemTime::now",
        within: SRC,
        but: CLOCKS,
        why: "the data plane's clock is `Io::clock`, once a tick",
    },
    Ban { code: "SystemTime::now", within: &["src/client/core"], but: &[], why: "time is an argument" },
    Ban {
        code: "feature=",
        within: SRC,
        but: ASKS_FOR_FEATURES,
        why: "the backend is chosen in io/choice.rs; nothing else asks which ones there are",
    },
    Ban { code: "println!", within: SRC, but: PRINTS, why: "output is the command line's" },
    Ban { code: "print!", within: SRC, but: PRINTS, why: "output is the command line's" },
    Ban { code: "eprintln!", within: SRC, but: PRINTS, why: "diagnostics go through `log`" },
    Ban { code: "eprint!", within: SRC, but: PRINTS, why: "diagnostics go through `log`" },
    Ban { code: ".unwrap()", within: SRC, but: &[], why: "say why it cannot fail (`expect`), or handle it" },
    Ban { code: "todo!", within: SRC, but: &[], why: "no stubs" },
    Ban { code: "unimplemented!", within: SRC, but: &[], why: "no stubs" },
    Ban {
        code: "thread::sleep",
        within: &["src/shard", "src/partition", "src/mesh"],
        but: &[],
        why: "a shard waits in `reap` only",
    },
    Ban {
        code: "Arc<",
        within: &["src/shard"],
        but: &["src/shard/messages.rs"],
        why: "a shard shares nothing (but what SHARED_BY_SHARDS names)",
    },
    Ban { code: "Mutex", within: &["src/shard", "src/partition"], but: &[], why: "a shard shares nothing" },
    Ban { code: "RwLock", within: &["src/shard", "src/partition"], but: &[], why: "a shard shares nothing" },
    Ban {
        code: "Box<dyn",
        within: &["src/shard", "src/partition"],
        but: &[],
        why: "one type parameter, no dynamic dispatch",
    },
];

/// Where unsafe code may be, tests included.
const UNSAFE: &[&str] = &[
    "src/io/",
    "src/buf/",
    "src/mesh/",
    "src/mesh.rs",
    "src/wire/generated/",
    "examples/generated/",
    "src/wire/mod.rs",
    "src/proto/checksum",
    "tests/",
    "bench/",
];

/// Every violation in one source, as `file:line: what`.
pub fn check(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    check_sizes(source, &mut found);
    check_unsafe(source, &mut found);
    if source.path.starts_with("src/") && !source.is_test {
        check_bans(source, &mut found);
        check_dependencies(source, &mut found);
    }
    found
}

fn check_sizes(source: &Source, found: &mut Vec<String>) {
    let path = &source.path;
    if source.lines > FILE_LINES_MAX {
        found.push(format!("{path}:1: file has {} lines, more than {FILE_LINES_MAX}", source.lines));
    }
    for function in functions(&source.code) {
        let (name, line, lines) = (function.name, function.line, function.lines);
        let max =
            if source.is_test_code(function.start) { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
        if lines > max {
            found.push(format!("{path}:{line}: function `{name}` has {lines} lines, more than {max}"));
        }
    }
}

fn check_unsafe(source: &Source, found: &mut Vec<String>) {
    let path = &source.path;
    if UNSAFE.iter().any(|place| path.starts_with(place)) {
        return;
    }
    let mut say =
        |line, what: &str| found.push(format!("{path}:{line}: `{what}`: only in {}", UNSAFE.join(" ")));
    for at in position_of_word(&source.code, "unsafe") {
        say(source.line_of(at), "unsafe");
    }
    for at in position_of_word(&source.code, "unsafe_code") {
        if source.code[..at].ends_with("allow(") {
            say(source.line_of(at), "unsafe_code");
        }
    }
}

fn check_bans(source: &Source, found: &mut Vec<String>) {
    for ban in BANS {
        let path = &source.path;
        let at_path = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        if !at_path(ban.within) || at_path(ban.but) {
            continue;
        }
        for at in source.find(ban.code) {
            if SHARED_BY_SHARDS.iter().any(|shared| source.production[at..].starts_with(shared)) {
                continue;
            }
            found.push(format!("{path}:{}: `{}`: {}", source.line_of(at), ban.code, ban.why));
        }
    }
}

fn check_dependencies(source: &Source, found: &mut Vec<String>) {
    let path = &source.path;
    if path == "src/lib.rs" || path == "src/main.rs" || path.starts_with("src/bin/") {
        return;
    }
    let module = source.module();
    let Some(row) = row_of(&module) else {
        found.push(format!("{path}:1: module {module} has no row in tests/tidy/rules.rs"));
        return;
    };
    for (at, used) in paths(&source.production) {
        let line = source.line_of(at);
        if let Some(within) = used.strip_prefix("crate::") {
            match row_of(within) {
                Some(of) if of.name == row.name || row.may_use.contains(&of.name) => {}
                Some(of) => found.push(format!("{path}:{line}: {} may not use {}", row.name, of.name)),
                None => {} // a macro or item of the root
            }
        } else if source.leaves_its_module(&used) {
            found.push(format!("{path}:{line}: {used}: name it by its path from the crate"));
        } else {
            check_foreign(source, row, line, &used, found);
        }
    }
}

fn check_foreign(source: &Source, row: &Module, line: usize, used: &str, found: &mut Vec<String>) {
    for (modules, banned) in FOREIGN {
        if !modules.contains(&row.name) {
            continue;
        }
        for path in banned.iter().filter(|path| is_under(used, path)) {
            found.push(format!("{}:{line}: {} may not use {path}", source.path, row.name));
        }
    }
}

/// The most specific row for a module path.
fn row_of(path: &str) -> Option<&'static Module> {
    MODULES.iter().filter(|row| is_under(path, row.name)).max_by_key(|row| row.name.len())
}

fn is_under(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
