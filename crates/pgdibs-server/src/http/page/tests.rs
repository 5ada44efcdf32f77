//! The page as a browser gets it: complete, escaped, within its policy; and one snapshot for many readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{SCRIPT, STYLE, address, read};
use crate::http::app::App;
use crate::http::tests::{Call, TestApi, lease_path};

/// The largest page without rows.
const LARGEST: usize = 120 * 1024;

async fn page(api: &TestApi) -> String {
    api.get("/").await.expect(200).text
}

/// Text that would run as a script wherever it is not escaped: in an element, in an attribute, in a script.
const ATTACK: &str = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>";

#[tokio::test]
async fn page_shows_everything_of_the_status() {
    let api = TestApi::new();
    api.ready_pool(2, 3, 1).await;
    let lease = api.take(json!({"run": "7f3c", "worker": "gw0", "holder": "ci-7/gw0"})).await;
    let kept = api.take(json!({"run": "7f3c", "worker": "gw1", "holder": "ci-7/gw1"})).await;
    let name = api.post(&lease_path(&kept, "/keep"), json!({"reason": "test_x failed"})).await.expect(200);
    let name = name.json["kept_database"].as_str().unwrap().to_owned();
    api.delete(&lease_path(&kept, "")).await.expect(204);
    api.until("the database is kept", |api| api.count("kept") == 1).await;
    let begun = api.put("/v1/pools/app/templates/v1b", json!({"fingerprint_inputs": {"1.sql": "a"}})).await.expect(201);
    api.post("/v1/pools/app/templates/v1b/seal", json!({"token": begun.json["build"]["token"]})).await.expect(200);
    let begun = api
        .put("/v1/pools/app/templates/v2", json!({"holder": "ada", "fingerprint_inputs": {"1.sql": "b"}}))
        .await
        .expect(201);
    let abandoned = json!({"token": begun.json["build"]["token"], "detail": "psql: ERROR: no\nlast line"});
    api.post("/v1/pools/app/templates/v2/abandon", abandoned).await.expect(204);
    api.until("the build has failed", |api| api.snapshot().templates.iter().any(|template| template.detail.is_some()))
        .await;
    let html = page(&api).await;
    let id = lease["id"].as_str().unwrap();
    for part in [
        "<p class=\"word\">Attention</p>",
        "app: template v2 failed",
        "ada<br><span class=\"muted\">built after changes since v1b: 1.sql changed</span>",
        "PostgreSQL 15.8",
        "127.0.0.1:5432",
        "<h3 title=\"run 7f3c\">ci-7/gw0</h3>",
        "No caller waits.",
        &format!("<tr data-key=\"{id}\" data-same="),
        "<button data-do=\"release\" aria-label=\"Release app_gw0\">Release</button>",
        &format!("<button data-do=\"drop\" aria-label=\"Drop {name}\">Drop</button>"),
        "test_x failed",
        "psql: ERROR: no\nlast line",
        "<i class=\"leased\" title=\"app_gw0: leased by gw0 ci-7/gw0\">",
        "max_connections is low",
        "<span class=\"kind\">lease granted</span> app_gw0 · gw0 ci-7/gw0",
        "leases per second",
        "<p>fsync = on, where a server for tests wants off</p>",
        "data-text=\"alter system set fsync = &#39;off&#39;; select pg_reload_conf()\"",
        "export PGDIBS_URL=http://localhost:8432",
    ] {
        assert!(html.contains(part), "{part}:\n{html}");
    }
    assert!(!html.contains("pgdibs_l_"), "no login is shown:\n{html}");
}

#[tokio::test]
async fn free_text_is_escaped_wherever_it_is_shown() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 1, "max": 1, "spares": 0})).await.expect(201);
    api.build(
        &ATTACK.replace('/', "%2F").replace('<', "%3C").replace('>', "%3E").replace('"', "%22").replace(' ', "%20"),
    )
    .await;
    let text = |field: &str| format!("{field}{ATTACK}");
    let lease = api
        .take(json!({"run": text("run"), "worker": text("worker"), "alias": text("alias"), "holder": text("holder")}))
        .await;
    api.post(&lease_path(&lease, "/keep"), json!({"reason": text("reason")})).await.expect(200);
    let waiter = json!({"pool": "app", "run": text("run"), "worker": text("second"), "holder": text("waiter"), "wait_seconds": 600});
    let waiting = tokio::spawn({
        let router = api.router.clone();
        async move { crate::http::tests::answer(&router, Call::new("POST", "/v1/leases").json(&waiter)).await }
    });
    api.until("a caller waits", |api| !api.snapshot().tickets.is_empty()).await;
    let html = page(&api).await;
    for field in ["worker", "holder", "reason", "waiter", "second"] {
        assert!(html.contains(&format!("{field}&#60;img src=x")), "{field} is not shown:\n{html}");
    }
    let body = html.split("</style>").nth(1).unwrap();
    assert_eq!((body.matches("<script").count(), body.matches("<img").count()), (1, 0), "{body}");
    assert!(!body.contains("\"'><"), "{body}");
    waiting.abort();
}

#[tokio::test]
async fn policy_allows_the_inlined_assets_alone() {
    let api = TestApi::new();
    let answer = api.get("/").await.expect(200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    let between = |from: &str, to: &str| {
        let rest = answer.text.split_once(from).unwrap().1;
        rest.split_once(to).unwrap().0.to_owned()
    };
    for (name, text) in
        [("style", between("<style>", "</style>")), ("script", between("<script type=\"module\">", "</script>"))]
    {
        let hash = STANDARD.encode(Sha256::digest(&text));
        assert!(policy.contains(&format!("{name}-src 'sha256-{hash}'")), "{name}: {policy}");
    }
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    let body = answer.text.replace(SCRIPT, "").replace(STYLE, "");
    for forbidden in [" style=", " onclick=", " onload=", "<link rel=\"stylesheet", " src=\"", "href=\"http"] {
        assert!(!body.contains(forbidden), "{forbidden}: {body}");
    }
    assert!(answer.text.len() <= LARGEST, "{} bytes", answer.text.len());
}

#[tokio::test]
async fn page_of_starting_daemon_says_so() {
    let api = TestApi::new();
    api.stage.send_replace(None);
    api.status.starting.store(true, Ordering::SeqCst);
    let html = page(&api).await;
    assert!(html.contains("running initdb\nline 2 of its output"), "{html}");
    api.get("/v1/status").await.problem(503, "server_unavailable");
}

#[tokio::test]
async fn readers_at_once_share_a_status_read_after_their_call() {
    let api = TestApi::new();
    let stage = watch::Sender::new(Some(api.service.clone()));
    let app =
        App { stage: stage.subscribe(), status: api.status.clone(), page: Arc::default(), metrics: Arc::default() };
    let first = app.page.read(true, read(&app)).await;
    api.put("/v1/pools/later", json!({})).await.expect(201);
    let reads = (0..50).map(|_| {
        let app = app.clone();
        tokio::spawn(async move { app.page.read(true, read(&app)).await })
    });
    let reads: Vec<_> = reads.collect();
    let mut shown = Vec::new();
    for one in reads {
        shown.push(one.await.unwrap());
    }
    assert!(first.status.pools.is_empty());
    assert!(shown.iter().all(|one| one.status.pools.len() == 1), "each call sees what happened before it");
    assert!(shown.iter().all(|one| Arc::ptr_eq(one, &shown[0])), "one snapshot for all of them");
    let opened = app.page.read(false, read(&app)).await;
    assert!(Arc::ptr_eq(&opened, &shown[0]), "who opens the page gets what is there");
    let began = tokio::time::Instant::now();
    let next = app.page.read(true, read(&app)).await;
    assert!(!Arc::ptr_eq(&next, &shown[0]), "a later call has a later status");
    assert!(began.elapsed() >= Duration::from_millis(200), "after a pause: {:?}", began.elapsed());
}

#[test]
fn address_leaves_out_what_a_shell_would_read() {
    let of = |host: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        address(&headers)
    };
    assert_eq!(of("127.0.0.1:7432"), "http://127.0.0.1:7432");
    assert_eq!(of("[::1]:7432"), "http://[::1]:7432");
    assert_eq!(of("a;rm$(x)"), "http://HOST:PORT");
}

/// With `PGDIBS_SERVE_PAGE` it serves the page to the tests in a browser, until the file of that name, to which it writes its address, is
/// deleted.
#[tokio::test]
async fn page_with_500_slots_has_a_cell_and_a_row_for_each() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 0, "max": 500, "spares": 0})).await.expect(201);
    api.build("v1").await;
    let leases: Vec<_> = (0..500)
        .map(|slot| {
            json!({"pool": "app", "run": format!("run-{}", slot / 50), "worker": format!("gw{slot}"),
                "holder": format!("ci-{}/pid {}/gw{slot}", slot / 50, 4000 + slot / 50), "ttl_seconds": 3600})
        })
        .collect();
    for batch in leases.chunks(50) {
        api.post("/v1/leases/batch", json!({"leases": batch, "wait_seconds": 60})).await.expect(201);
    }
    let html = page(&api).await;
    assert_eq!(html.matches("<i class=\"leased\"").count(), 500);
    assert_eq!(html.matches("data-do=\"release\"").count(), 500);
    assert!(html.contains("500 slots: 500 leased"), "the cells in words");
    let Some(file) = std::env::var_os("PGDIBS_SERVE_PAGE") else { return };
    let served = api.listen().await;
    std::fs::write(&file, served.to_string()).unwrap();
    while std::fs::exists(&file).unwrap() {
        // The file is a level: no event tells of its end.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
