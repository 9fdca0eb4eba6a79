//! Style that matters is a test: dependency directions, sizes, banned calls, where `unsafe` may be.
//!
//! Sources are read as text. `scrub` blanks comments and literals, so that a rule sees code only; test code is
//! exempt from the rules about calls and dependencies, not from those about sizes. Every rule is itself tested
//! on a snippet that breaks it.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use rules::{FILE_LINES_MAX, FUNCTION_LINES_MAX, MODULES, TEST_FUNCTION_LINES_MAX};
use source::Source;
use std::path::{Path, PathBuf};

#[test]
fn the_sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let sources = read_all(root);
    assert!(sources.len() > 30, "the sources are found: {}", sources.len());
    for source in &sources {
        found.extend(rules::check(source));
    }
    assert!(found.is_empty(), "{} untidy places:\n{}\n", found.len(), found.join("\n"));
}

#[test]
fn every_module_has_a_row_and_rows_point_downwards_only() {
    let library = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let library = source::scrub(&library.expect("src/lib.rs is readable"));
    let declared: Vec<&str> = library
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert!(declared.len() > 10, "the module list is found: {declared:?}");
    for module in &declared {
        assert!(
            MODULES.iter().any(|row| row.name == *module),
            "module {module} has no row in tests/tidy/rules.rs"
        );
    }
    for (i, row) in MODULES.iter().enumerate() {
        let top = row.name.split("::").next().unwrap_or_default();
        assert!(declared.contains(&top), "row {} names a module that does not exist", row.name);
        for used in row.may_use {
            let above = MODULES[..i].iter().any(|earlier| earlier.name == *used);
            assert!(above, "{} may use {used}, which must have a row above it: no cycles", row.name);
        }
    }
}

/// Every source of the package and the bench, with paths from the root; generated code left out.
fn read_all(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "bench/src", "tests", "examples"] {
        list(&root.join(folder), &mut files);
    }
    files.sort();
    let relative = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("files are under the root");
        path.to_str().expect("source paths are ASCII").to_owned()
    };
    let texts: Vec<(String, String)> = files
        .iter()
        .map(|file| (relative(file), std::fs::read_to_string(file).expect("sources are readable")))
        .filter(|(path, _)| !path.starts_with("src/wire/generated/"))
        .collect();
    source::read(texts)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("folders are readable").path();
        if path.is_dir() && !path.ends_with("target") {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// What the rules say about one file with this text.
fn violations(path: &str, text: &str) -> Vec<String> {
    let sources = source::read(vec![(path.to_owned(), text.to_owned())]);
    sources.iter().flat_map(rules::check).collect()
}

#[track_caller]
fn breaks(path: &str, text: &str, message: &str) {
    let found = violations(path, text);
    assert!(
        found.iter().any(|line| line.contains(message)),
        "{path}: {text:?} gives {found:?}, not {message:?}"
    );
}

#[track_caller]
fn is_fine(path: &str, text: &str) {
    assert_eq!(violations(path, text), Vec::<String>::new(), "{path}: {text:?}");
}

#[test]
fn upward_dependencies_are_found() {
    breaks("src/proto/frame.rs", "use crate::io::Op;", "src/proto/frame.rs:1: proto may not use io");
    breaks(
        "src/proto/mod.rs",
        "fn f() {\n    crate::shard::run();\n}",
        "src/proto/mod.rs:2: proto may not use shard",
    );
    breaks("src/partition/ring.rs", "use crate::{buf::Span, io::{self, Op}};", "partition may not use io");
    breaks(
        "src/partition/ring.rs",
        "use crate::{\n    buf::Span,\n    cli,\n};",
        "ring.rs:3: partition may not use cli",
    );
    breaks("src/shard/tick.rs", "use crate::io::{Op, uring::Uring};", "shard may not use io::uring");
    breaks("src/server/seats.rs", "use crate::io::uring::UringIo;", "server may not use io::uring");
    breaks("src/limits.rs", "use crate::ids::ConnId;", "limits may not use ids");
    breaks("src/proto/x.rs", "use super::super::io;", "name it by its path from the crate");
    breaks("src/proto/mod.rs", "use super::io::Op;", "name it by its path from the crate");
    breaks("src/novel/mod.rs", "use crate::ids::ConnId;", "has no row");
    is_fine("src/partition/ring.rs", "use crate::{buf::{Memory, Span}, ids::*};\nuse super::live;");
    is_fine(
        "src/proto/frame.rs",
        "// use crate::io::Op;\nconst X: &str = \"crate::io\"; use crate::proto::code::Code;",
    );
    is_fine("src/proto/tests.rs", "use crate::io::Op;");
    is_fine(
        "src/proto/x.rs",
        "#[cfg(test)]\nmod tests { use crate::io::Op; fn f() { x.unwrap() } }\nuse super::code;",
    );
}

#[test]
fn foreign_paths_are_found_where_they_do_not_belong() {
    breaks("src/proto/frame.rs", "use std::net::IpAddr;", "proto may not use std::net");
    breaks("src/wire/batch.rs", "use libc::c_int;", "wire may not use libc");
    breaks(
        "src/partition/mod.rs",
        "use std::{net::IpAddr, time::Duration};",
        "partition may not use std::net",
    );
    breaks(
        "src/partition/mod.rs",
        "fn f(at: std::time::Instant) {}",
        "partition may not use std::time::Instant",
    );
    breaks("src/shard/mod.rs", "use io_uring::IoUring;", "shard may not use io_uring");
    breaks("src/io/epoll/mod.rs", "use io_uring::IoUring;", "io::epoll may not use io_uring");
    is_fine("src/io/uring/mod.rs", "use io_uring::IoUring; use libc::c_int;");
    is_fine("src/shard/mod.rs", "use crate::ids::io_uring_thing; use std::net::IpAddr;");
}

#[test]
fn banned_calls_are_found() {
    breaks(
        "src/shard/mod.rs",
        "fn f() {\n    let t = std::time::Instant::now();\n}",
        "mod.rs:2: `Instant::now`",
    );
    breaks("src/partition/mod.rs", "fn f() { SystemTime::now(); }", "`SystemTime::now`");
    breaks("src/server.rs", "fn f() { println!(\"x\"); }", "`println!`");
    breaks("src/server.rs", "fn f() { print! (\"x\"); }", "`print!`");
    breaks("src/control/mod.rs", "fn f() { x\n    .unwrap(); }", "control/mod.rs:2: `.unwrap()`");
    breaks("src/cli/mod.rs", "fn f() { todo!() }", "`todo!`");
    breaks("src/shard/mod.rs", "use std::thread; fn f() { thread::sleep(d); }", "`thread::sleep`");
    breaks("src/shard/conn.rs", "struct Conn { topic: Arc<Conn> }", "`Arc<`");
    is_fine("src/shard/conn.rs", "struct Conn { topic: Arc<Topic> }");
    breaks("src/shard/conn.rs", "fn f(x: &Mutex<u8>) {}", "`Mutex`");
    breaks("src/shard/conn.rs", "fn f(x: Box<dyn Fn()>) {}", "`Box<dyn`");
    breaks("src/shard/mod.rs", "#[cfg(feature = \"uring\")]\nfn f() {}", "mod.rs:1: `feature=`");
    breaks("src/shard/messages.rs", "struct M(Box<dyn Fn()>);", "`Box<dyn`");
    is_fine("src/shard/messages.rs", "struct M(Arc<M>);");
    is_fine("src/cli/mod.rs", "fn f() { println!(\"x\"); Instant::now(); }");
    is_fine("src/server.rs", "fn f() { eprintln_like!(x); unwrap_or(1); x.unwrap_or_default(); }");
    is_fine("src/shard/tests.rs", "fn f() { x.unwrap(); Instant::now(); let _: Arc<u8>; println!(); }");
}

#[test]
fn test_code_is_known_by_its_declaration_too() {
    let files = [
        ("src/shard/mod.rs", "#[cfg(test)]\nmod harness;\nmod conn;"),
        ("src/shard/harness.rs", "fn f() { x.unwrap(); }"),
        ("src/shard/harness/steps.rs", "fn f() { x.unwrap(); }"),
        ("src/shard/conn.rs", "#[cfg(test)]\nmod cases;\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod more;"),
        ("src/shard/conn/cases.rs", "fn f() { x.unwrap(); }"),
        ("src/shard/cases.rs", "fn f() { x.unwrap(); }"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec();
    let found: Vec<String> = source::read(files).iter().flat_map(rules::check).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("src/shard/cases.rs:1: `.unwrap()`"), "{found:?}");
}

#[test]
fn unsafe_code_outside_its_places_is_found() {
    breaks("src/shard/mod.rs", "fn f() {\n    unsafe { g() }\n}", "mod.rs:2: `unsafe`");
    breaks("src/server.rs", "#![allow(unsafe_code)]", "`unsafe_code`");
    breaks("src/proto/tests.rs", "fn f() { unsafe { g() } }", "`unsafe`");
    is_fine("src/buf/memory.rs", "#![allow(unsafe_code)]\nfn f() { unsafe { g() } }");
    is_fine("src/lib.rs", "#![deny(unsafe_code)]");
    is_fine("src/shard/mod.rs", "// unsafe\nfn unsafe_looking() {}");
}

#[test]
fn long_files_and_functions_are_found() {
    let lines = |count: usize| "    let x = 1;\n".repeat(count);
    is_fine("src/topic.rs", &format!("fn f() {{\n{}}}\n", lines(FUNCTION_LINES_MAX - 2)));
    let long =
        format!("impl X {{\nfn f(a: [u8; 3]) -> Y\nwhere Z: W,\n{{\n{}}}\n}}\n", lines(FUNCTION_LINES_MAX));
    breaks("src/topic.rs", &long, "src/topic.rs:2: function `f` has 84 lines");
    breaks("src/topic.rs", &format!("{long}#[cfg(test)]\nmod tests {{}}"), "function `f`");
    is_fine("tests/x.rs", &long);
    is_fine("src/topic.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}"));
    let longer = format!("fn f() {{\n{}}}\n", lines(TEST_FUNCTION_LINES_MAX));
    breaks("tests/x.rs", &longer, "tests/x.rs:1: function `f` has 132 lines");
    breaks(
        "src/topic.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{longer}}}"),
        "src/topic.rs:3: function `f`",
    );
    breaks("src/topic.rs", &"\n".repeat(FILE_LINES_MAX + 1), "src/topic.rs:1: file has 801 lines");
    is_fine("src/topic.rs", &"\n".repeat(FILE_LINES_MAX));
    is_fine("src/topic.rs", &format!("trait T {{ fn f(); }}\n{}", "const A: u8 = 1;\n".repeat(100)));
    is_fine("src/topic.rs", &format!("type F = fn(u8);\nstruct S {{\n{}}}", "    a: u8,\n".repeat(100)));
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a /* b /* c */ d */ e \"f \\\" g\" h r#\"i \" j\"# k 'l' m '\\'' n 'o: p // q\nr b\"s\" t br\"u\" v '\\u{7f}' w r#type";
    let scrubbed = source::scrub(text);
    assert_eq!(scrubbed.len(), text.len());
    assert_eq!(scrubbed.lines().count(), 2);
    let words: Vec<&str> = scrubbed.split_whitespace().filter(|word| *word != "\"\"").collect();
    assert_eq!(words, ["a", "e", "h", "k", "m", "n", "'o:", "p", "r", "t", "v", "w", "r#type"], "{scrubbed}");
}
