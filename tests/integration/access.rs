//! Tokens, what they allow, and what may be listened on.

use std::path::Path;

use crate::rig::{Case, Program, assert_each_once, ended, lines, publish, scenarios};
use crate::support::{Server, free_address, http, run, wait_for};

scenarios! {
    a_token_opens_what_its_rules_say_and_reload_changes_it on best;
    nobody_listens_beyond_loopback_unasked on best;
    one_tenant_publishes_and_another_subscribes on best epoll;
}

/// A token and its digest, as `token new` makes them.
fn token() -> (String, String) {
    let (code, stdout, stderr) = ended(&["token", "new", "-o", "json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let made: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    (text("token"), text("sha256"))
}

fn write_tenant(file: &Path, digests: &[&str]) {
    let digests = digests.iter().map(|digest| format!("{digest:?}")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "[[tenant]]\nname = \"plant\"\ntoken_sha256 = [{digests}]\nrules = [\n  \
         {{ prefix = \"plant.\", verbs = [\"publish\", \"subscribe\", \"admin\"] }},\n  \
         {{ prefix = \"alerts.\", verbs = [\"subscribe\"] }},\n]\n"
    );
    std::fs::write(file, text).expect("written");
}

/// Publishes a few lines: exit code and standard error.
fn try_pub(server: &Server, topic: &str, token: &str) -> (Option<i32>, String) {
    let args = ["pub", topic, "--server", &server.url(), "--token", token, "--retry-for", "1"];
    let output = run(&args, &lines(1..=10));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn a_token_opens_what_its_rules_say_and_reload_changes_it(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("uringest.toml");
    let (old, old_digest) = token();
    let (new, new_digest) = token();
    write_tenant(&file, &[&old_digest]);
    let server = case.start(&["--shards", "2", "--config", file.to_str().expect("UTF-8")]);
    let refused = |topic: &str, token: &str, code: &str| {
        let (exit, stderr) = try_pub(&server, topic, token);
        assert!(exit == Some(4) && stderr.contains(code), "pub {topic}: {exit:?} {stderr}");
    };
    refused("plant.a", "", "unauthenticated");
    refused("plant.a", "urt_wrong", "unauthenticated");
    refused("plant.a", &new, "unauthenticated");
    refused("other", &old, "not_authorized");
    refused("plan", &old, "not_authorized");
    refused("alerts.fire", &old, "not_authorized");
    let args = ["sub", "other", "--server", &server.url(), "--token", &old, "--count", "1"];
    let (exit, _, stderr) = ended(&args);
    assert!(exit == Some(4) && stderr.contains("not_authorized"), "{exit:?} {stderr}");
    // The right one, on a topic that it may make.
    assert_eq!(try_pub(&server, "plant.a", &old), (Some(0), String::new()));
    let mut sub =
        Program::attached(&server, "plant.a", &["--token", &old, "--from", "earliest", "--count", "30"]);
    sub.wait_lines(10);
    // While the tokens change both are good; then the old one is not, and who was there stays.
    let reload = |digests: &[&str], times: usize| {
        write_tenant(&file, digests);
        server.signal("HUP");
        wait_for("the reload", || (server.log().matches("\"reloaded\"").count() == times).then_some(()));
    };
    reload(&[&old_digest, &new_digest], 1);
    assert_eq!(try_pub(&server, "plant.a", &old), (Some(0), String::new()));
    reload(&[&new_digest], 2);
    wait_for("the old token to be refused", || {
        let (exit, stderr) = try_pub(&server, "plant.b", &old);
        (exit == Some(4) && stderr.contains("unauthenticated")).then_some(())
    });
    assert_eq!(try_pub(&server, "plant.a", &new), (Some(0), String::new()));
    let thrice: Vec<u64> = (0..3).flat_map(|_| 1..=10).collect();
    assert_eq!(sub.numbers(), thrice);
    // A configuration with faults changes nothing.
    std::fs::write(&file, "[[tenant]]\nname = 1\n").expect("written");
    server.signal("HUP");
    wait_for("the refusal", || server.log().contains("\"reload_refused\"").then_some(()));
    assert_eq!(try_pub(&server, "plant.a", &new), (Some(0), String::new()));
    assert!(!server.log().contains(&old) && !server.log().contains(&new_digest), "no secret is logged");
}

fn nobody_listens_beyond_loopback_unasked(_: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let admin = free_address().to_string();
    let everywhere = format!("0.0.0.0:{}", free_address().port());
    let args = ["serve", "--data", data, "--listen", &everywhere, "--admin", &admin];
    let (code, _, stderr) = ended(&args);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--insecure-plaintext") && stderr.contains(&everywhere), "{stderr}");
    assert!(!Path::new(data).exists(), "it has touched nothing");
    let admin_everywhere = format!("0.0.0.0:{}", free_address().port());
    let args = ["serve", "--data", data, "--listen", "127.0.0.1:0", "--admin", &admin_everywhere];
    let (code, _, stderr) = ended(&args);
    assert!(code == Some(2) && stderr.contains(&admin_everywhere), "{code:?} {stderr}");
    // Asked for, it does.
    let mut program = Program::start(&[
        "serve",
        "--data",
        data,
        "--listen",
        &everywhere,
        "--admin",
        &admin,
        "--insecure-plaintext",
    ]);
    let admin = admin.parse().expect("an address");
    wait_for("the server", || {
        assert!(!program.has_ended(), "{}", program.err());
        matches!(http(admin, "GET", "/readyz", ""), Ok((200, _))).then_some(())
    });
    let url = format!("uringest://127.0.0.1:{}", everywhere.rsplit(':').next().expect("a port"));
    let output = run(&["pub", "lines", "--server", &url], &lines(1..=10));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0), "{}", program.err());
}

fn one_tenant_publishes_and_another_subscribes(case: &Case) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("uringest.toml");
    let (sensor, sensor_digest) = token();
    let (watcher, watcher_digest) = token();
    let tenant = |name: &str, digest: &str, verbs: &str| {
        format!(
            "[[tenant]]\nname = {name:?}\ntoken_sha256 = [{digest:?}]\n\
             rules = [{{ prefix = \"alerts.\", verbs = [{verbs}] }}]\n"
        )
    };
    let tenants = tenant("sensor", &sensor_digest, "\"publish\", \"admin\"")
        + &tenant("watcher", &watcher_digest, "\"subscribe\"");
    std::fs::write(&file, tenants).expect("written");
    let server = case.start(&["--shards", "2", "--config", file.to_str().expect("UTF-8")]);
    publish(&server, "alerts.fire", 1..=10, &["--token", &sensor]);
    let named = ["--token", &watcher, "--name", "watch", "--from", "earliest"];
    let mut sub = Program::attached(&server, "alerts.fire", &[&named[..], &["--count", "20"]].concat());
    publish(&server, "alerts.fire", 11..=20, &["--token", &sensor]);
    assert_each_once(&sub.numbers(), 1..=20);
    let (code, stderr) = try_pub(&server, "alerts.fire", &watcher);
    assert!(code == Some(4) && stderr.contains("not_authorized"), "{code:?} {stderr}");
    let args = ["sub", "alerts.fire", "--server", &server.url(), "--token", &sensor, "--count", "1"];
    let (code, _, stderr) = ended(&args);
    assert!(code == Some(4) && stderr.contains("not_authorized"), "{code:?} {stderr}");
}
