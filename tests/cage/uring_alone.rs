//! A build with io_uring alone, where it is forbidden.

use crate::filter::{ALL, open, run_caged, without};
use crate::{does_not_serve, end, is_refused_as_not_built, json, records_pass, serve_caged};

#[test]
fn it_does_not_start_and_says_which_build_would() {
    for (errno, cause) in
        [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "Function not implemented")]
    {
        for asked in [&[][..], &["--io", "uring"], &["--io-tier", "1"]] {
            let (code, err) = does_not_serve(asked, &without(ALL, errno));
            assert_eq!(code, Some(1), "{err}");
            let parts = [
                "io_uring cannot be used",
                cause,
                "\n  try: ",
                "io_uring_",
                "run on epoll: ",
                "--features epoll",
            ];
            for part in parts {
                assert!(err.contains(part), "{asked:?}: {part} in: {err}");
            }
        }
    }
}

#[test]
fn epoll_is_refused_by_name() {
    is_refused_as_not_built(&["--io", "epoll"], "io (--io)", "epoll");
}

#[test]
fn the_doctor_finds_the_cage() {
    let (code, out, err) = run_caged(&["doctor", "-o", "json"], &without(ALL, libc::EPERM));
    assert_eq!(code, Some(1), "the server cannot run here: {err}");
    let report = json(&out);
    assert_eq!(report["host"]["backends"], serde_json::json!(["uring"]));
    let worst = &report["findings"][0];
    assert_eq!(worst["level"], "bad", "{worst}");
    assert!(worst["remedy"].as_str().is_some_and(|remedy| remedy.contains("--features epoll")), "{worst}");
}

/// That the cage is what it does not start in: outside of it, where this host has io_uring, it serves.
#[test]
fn it_serves_outside_of_the_cage() {
    let (_, out, _) = run_caged(&["doctor", "-o", "json"], &open());
    let host = json(&out)["host"].clone();
    if host["io_uring"]["available"] != true {
        return println!("SKIPPED: no io_uring here: {}", host["io_uring"]);
    }
    let server = serve_caged(&[], &open());
    records_pass(&server, &open());
    end(server);
}
