//! A template of which no clone can be made: callers and probes learn why at once.

use serde_json::json;

use pgdibs_testing::end_to_end::{Cluster, Place, Session, pool_name, until};

const BREAK: &str =
    "create function refuse() returns trigger language plpgsql as $$ begin raise 'made to fail'; end $$;
    create trigger refuse before update on databases for each row when (new.state = 'spare') execute function refuse()";

#[test]
fn template_without_clones_is_refused_with_reason() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("failing");
    api.put(&format!("/v1/pools/{pool}"), &json!({"warm": 1, "max": 2, "spares": 0})).expect(201);
    let mut catalog = cluster.superuser("pgdibs");
    catalog.run(BREAK);
    let path = format!("/v1/pools/{pool}/templates/first");
    let build = api.put(&path, &json!({"holder": "a test"})).expect(201)["build"].clone();
    Session::open(build["url"].as_str().unwrap()).run("create table t (n int)");
    api.post(&format!("{path}/seal"), &json!({"token": build["token"]})).expect(200);
    // A caller that waits meanwhile gets the reason before its time is over.
    let detail = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 60})).refused(422, "template_failed");
    assert!(detail.contains("no clone of it can be made: made to fail"), "{detail}");
    api.put(&path, &json!({})).refused(422, "template_failed");
    let unready = api.get("/readyz");
    assert!(unready.status == 503 && unready.body.to_string().contains("made to fail"), "{}", unready.body);
    catalog.run("drop function refuse cascade; update databases set retry_at = null");
    until("a lease", || {
        let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 10}));
        if answer.status == 201 { Ok(()) } else { Err(answer.body.to_string()) }
    });
    until("the daemon is ready", || {
        let answer = api.get("/readyz");
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    });
}
