//! The stream of events: filters, resumption, slow readers on real sockets, the end of the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::name::PoolName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::events::KEPT;
use crate::http::serve::Bounds;
use crate::http::tests::sockets::{GENEROUS, listen, read_to_end};
use crate::http::tests::{Call, TestApi};
use crate::http::{Authenticator, events};
use crate::service::NoSources;

const LIVE: &str = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Kind, id and data of each event.
fn read(text: &str) -> Vec<(String, String, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {block}")).to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    blocks
        .map(|block| {
            (field(block, "event: "), field(block, "id: "), serde_json::from_str(&field(block, "data: ")).unwrap())
        })
        .collect()
}

fn happen(api: &TestApi, kind: EventKind, pool: &str, reason: &str) {
    api.service.events().publish(Event::of_pool(kind, &PoolName::parse(pool).unwrap()).because(reason));
}

async fn kinds(api: &TestApi, path: &str) -> Vec<String> {
    read(&api.get(path).await.expect(200).text).into_iter().map(|(kind, ..)| kind).collect()
}

#[tokio::test]
async fn stream_has_the_kinds_and_pools_that_were_asked_for() {
    let api = TestApi::new();
    happen(&api, EventKind::RunAdmitted, "a", "1");
    happen(&api, EventKind::RunEnded, "b", "2");
    api.service.events().publish(Event::new(EventKind::ServerLost));
    assert_eq!(kinds(&api, "/v1/events?follow=false").await, ["run_admitted", "run_ended", "server_lost"]);
    assert_eq!(kinds(&api, "/v1/events?follow=false&pool=a&pool=b").await, ["run_admitted", "run_ended"]);
    assert_eq!(kinds(&api, "/v1/events?follow=false&kind=run_ended,server_lost&pool=b").await, ["run_ended"]);
    let answer = api.get("/v1/events?follow=false").await;
    assert_eq!(
        (&answer.headers["content-type"], &answer.headers["cache-control"]),
        (&"text/event-stream".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let first = &read(&answer.text)[0];
    assert_eq!(first.1, "0-1");
    assert_eq!(
        (&first.2["kind"], &first.2["pool"], &first.2["reason"]),
        (&json!("run_admitted"), &json!("a"), &json!("1"))
    );
    let detail = api.get("/v1/events?kind=lost").await.problem(400, "invalid_request");
    assert!(
        detail.contains("\"lost\" is no kind of event; the kinds are lease_granted, lease_renewed_late, "),
        "{detail}"
    );
    assert!(api.get("/v1/events?pool=A-B").await.problem(400, "invalid_request").contains("pool"));
    for empty in ["pool=", "kind=", "kind=run_ended,", "pool=a,,b"] {
        let detail = api.get(&format!("/v1/events?follow=false&{empty}")).await.problem(400, "invalid_request");
        assert!(detail.starts_with(&empty[..4]), "{detail}");
    }
    assert!(api.get("/v1/events?kinds=x").await.problem(400, "invalid_request").contains("unknown field `kinds`"));
}

#[tokio::test]
async fn stream_resumes_or_begins_with_gap_and_status() {
    let api = TestApi::new();
    for number in 0..3 {
        happen(&api, EventKind::RunEnded, "a", &number.to_string());
    }
    let after = |id: &str| Call::new("GET", "/v1/events?follow=false&since=0-0").header("last-event-id", id);
    let resumed = read(&api.send(after("0-2")).await.expect(200).text);
    assert_eq!(resumed.iter().map(|(_, id, _)| id.as_str()).collect::<Vec<_>>(), ["0-3"], "the header has precedence");
    for unknown in ["0-4", "9-2", "nonsense"] {
        let missed = read(&api.send(after(unknown)).await.expect(200).text);
        let [gap, status, rest @ ..] = missed.as_slice() else { panic!("{missed:?}") };
        assert_eq!((gap.0.as_str(), &gap.2["kind"], status.0.as_str()), ("gap", &json!("gap"), "status"));
        assert_eq!(status.2["daemon"]["instance"], "test-instance");
        assert_eq!((gap.1.as_str(), status.1.as_str(), rest.len()), ("0-0", "0-0", 3), "what is kept follows");
    }
    for _ in 0..KEPT {
        happen(&api, EventKind::RunEnded, "a", "later");
    }
    assert_eq!(read(&api.send(after("0-2")).await.text)[0].0, "gap");
    assert_eq!(read(&api.send(after("0-3")).await.text).len(), KEPT);
}

#[tokio::test]
async fn lease_and_run_over_http_are_events() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 0).await;
    let run = json!({"pool": "app", "workers": 1});
    api.put("/v1/runs/r1", run.clone()).await.expect(200);
    api.put("/v1/runs/r1", run).await.expect(200);
    let lease = api.take(json!({"run": "r1", "worker": "gw0", "holder": "ci"})).await;
    api.delete("/v1/runs/r1").await.expect(200);
    api.delete("/v1/runs/r1").await.expect(200);
    let events =
        read(&api.get("/v1/events?follow=false&kind=run_admitted,run_ended,lease_granted,lease_released").await.text);
    let found: Vec<&str> = events.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(found, ["run_admitted", "lease_granted", "lease_released", "run_ended"], "each once");
    for (kind, _, data) in &events {
        assert_eq!((&data["run"], &data["pool"]), (&json!("r1"), &json!("app")), "{kind}");
    }
    let released = &events[2].2;
    for (field, value) in [
        ("lease", &lease["id"]),
        ("database", &lease["database"]),
        ("worker", &json!("gw0")),
        ("holder", &json!("ci")),
        ("template", &json!("v1")),
    ] {
        assert_eq!(&released[field], value, "{field}");
    }
    assert!(released["seconds"].as_f64() > Some(0.0) && released["reason"] == "its run ended", "{released}");
    assert_eq!(events[3].2["reason"], "it held 1 leases");
    let status = api.get("/v1/status").await.expect(200).json;
    assert_eq!(
        status["history"].as_array().unwrap().iter().map(|bucket| bucket["grants"].as_u64().unwrap()).sum::<u64>(),
        1
    );
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_daemon() {
    let api = TestApi::with_waiter_limit(Authenticator::default(), Arc::new(NoSources), 4);
    let (address, serving) = listen(&api, GENEROUS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(LIVE.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let detail = api.get("/v1/events").await.problem(503, "server_unavailable");
    assert!(detail.contains("streams of events"), "{detail}");
    happen(&api, EventKind::RunEnded, "a", "the last one");
    // Published before the daemon stops, read after.
    let began = Instant::now();
    tokio::time::sleep(events::PAUSE).await;
    api.stopping.cancel();
    let text = read_to_end(&mut stream).await;
    assert!(text.contains("the last one") && text.ends_with("0\r\n\r\n"), "{text}");
    serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Connects with a small buffer and asks for the stream.
async fn open(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(LIVE.as_bytes()).await.unwrap();
    stream
}

/// Some read nothing, some a little now and then: both are disconnected, no publisher waits for them, and a quick reader gets every event.
#[tokio::test]
async fn slow_readers_are_cut_off_without_delay_for_others() {
    const SLOW: usize = 20;
    const BURSTS: usize = 40;
    const BURST: usize = 500;
    let api = TestApi::new();
    let bounds = Bounds { stalled: Duration::from_millis(500), ..GENEROUS };
    let (address, _serving) = listen(&api, bounds).await;
    let mut quick = TcpStream::connect(address).await.unwrap();
    quick.write_all(LIVE.as_bytes()).await.unwrap();
    let mut stalled = Vec::new();
    let mut dripping = tokio::task::JoinSet::new();
    for _ in 0..SLOW {
        stalled.push(open(address).await);
        let mut stream = open(address).await;
        dripping.spawn(async move {
            let mut some = [0; 512];
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            while matches!(stream.read(&mut some).await, Ok(count) if count > 0) {
                pause.tick().await;
            }
        });
    }
    let quick = tokio::spawn(async move {
        let mut text = Vec::new();
        let mut some = vec![0; 1 << 16];
        while !text.ends_with(b"the end\",\"daemon\":\"0\"}\n\n\r\n") {
            let count = quick.read(&mut some).await.unwrap();
            assert!(count > 0, "the quick reader is disconnected");
            text.extend_from_slice(&some[..count]);
        }
        String::from_utf8(text).unwrap().matches("event: step_failed").count()
    });
    api.until("all streams are open", |api| api.service.open_streams() == 2 * SLOW + 1).await;
    let filler = "x".repeat(500);
    let mut longest = Duration::ZERO;
    for _ in 0..BURSTS {
        let began = Instant::now();
        for _ in 0..BURST {
            happen(&api, EventKind::StepFailed, "a", &filler);
        }
        longest = longest.max(began.elapsed());
        tokio::time::sleep(events::PAUSE).await;
    }
    happen(&api, EventKind::RunEnded, "a", "the end");
    let seen = tokio::time::timeout(Duration::from_secs(30), quick).await.expect("the end").unwrap();
    assert_eq!(seen, BURSTS * BURST, "the quick reader has every event");
    assert!(longest < Duration::from_secs(1), "no publisher waits: {longest:?}");
    assert_eq!(api.service.events().kept().len(), KEPT);
    api.until("the slow readers are cut off", |api| api.service.open_streams() <= 1).await;
    drop(stalled);
    dripping.abort_all();
}
