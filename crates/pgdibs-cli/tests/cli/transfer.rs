//! `pgdibs template import` of files that are damaged, of another format or another version of Postgres, or not needed.

use std::path::PathBuf;

use pgdibs_testing::examples::Example;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::process::{Done, pgdibs};
use crate::stub::{Reply, Stub};

/// A file with a correct hash.
fn content(format: u32, header: &Value) -> Vec<u8> {
    let rest = format!("{header}\nPGDMP and so on");
    let hash: String = Sha256::digest(&rest).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("pgdibs-template {format} {hash}\n{rest}").into_bytes()
}

fn header(major: u32) -> Value {
    json!({"pool": "shop_test", "fingerprint": "f1", "postgres_major": major, "pgdibs": "0.1.0", "owner": "pgdibs_shop_test", "settings": {}})
}

/// A daemon on Postgres 15 whose template is in this state.
fn daemon(state: &'static str) -> Stub {
    Stub::start(move |received, _| match received.what.as_str() {
        "GET /v1/status" => {
            Reply::Json(200, Example::Status.with(&json!({"server": {"version": "15.18 (Debian 15.18-0)"}})))
        }
        "GET /v1/pools/shop_test/templates/f1" if !state.is_empty() => {
            Reply::Json(200, Example::Template.with(&json!({"fingerprint": "f1", "state": state})))
        }
        _ => Reply::Problem(404, "pool_not_found", "there is no pool", None),
    })
}

fn import(stub: &Stub, content: &[u8]) -> Done {
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("template.pgdibs");
    std::fs::write(&file, content).unwrap();
    pgdibs(&["template", "import", file.to_str().unwrap(), "--output", "json"]).with_daemon(&stub.url).done()
}

#[test]
fn damaged_file_is_refused_before_any_request() {
    let stub = daemon("");
    let whole = content(1, &header(15));
    let mut changed = whole.clone();
    let at = changed.windows(4).position(|word| word == b"shop").unwrap();
    changed[at] = b'z';
    for (damaged, sentence) in [
        (&whole[..whole.len() - 1], "is damaged: its content does not have the SHA-256 that its first line names"),
        (&whole[..100], "is damaged"),
        (&whole[..10], "is no template of pgdibs: its first line is another one"),
        (&changed, "is damaged: its content"),
        (b"PGDMP\x01\x0e", "is no template of pgdibs"),
        (b"", "is no template of pgdibs"),
        (&content(1, &json!({"pool": 1})), "is damaged: its second line"),
    ] {
        let done = import(&stub, damaged);
        let error: Value = serde_json::from_str(&done.stderr).unwrap();
        assert_eq!((done.code, &error["code"]), (Some(65), &json!("file_damaged")), "{}", done.stderr);
        assert!(error["detail"].as_str().unwrap().contains(sentence), "{sentence}: {}", done.stderr);
    }
    assert_eq!(stub.calls(), Vec::<String>::new());
}

#[test]
fn file_of_newer_format_or_other_major_is_refused_without_build() {
    let stub = daemon("failed");
    let done = import(&stub, &content(2, &json!({})));
    assert!(done.code == Some(1) && done.stderr.contains("has format 2, and this version of pgdibs reads"), "{done:?}");
    assert_eq!(stub.calls(), Vec::<String>::new());
    for major in [14, 16] {
        let done = import(&stub, &content(1, &header(major)));
        let sentence = format!("is a template of Postgres {major}, and the daemon's server is Postgres 15");
        assert!(done.code == Some(1) && done.stderr.contains(&sentence), "{done:?}");
    }
    assert!(stub.calls().iter().all(|call| call.starts_with("GET ")), "{:?}", stub.calls());
}

#[test]
fn import_of_existing_template_succeeds_without_build() {
    let stub = daemon("ready");
    let done = import(&stub, &content(1, &header(16)));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let template: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&template["fingerprint"], &template["state"]), (&json!("f1"), &json!("ready")));
    assert_eq!(stub.calls(), ["GET /v1/pools/shop_test/templates/f1"]);
}
