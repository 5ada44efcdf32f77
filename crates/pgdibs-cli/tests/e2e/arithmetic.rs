//! How large a pool is: demand raises it, quiet lets it fall, and limits are told with their names and numbers.

use serde_json::json;

use crate::support::{Cluster, Place, pool_name, until};

const SCHEMA: &str = "create table t (id int)";

#[test]
fn a_pool_follows_what_is_asked_of_it_and_falls_back() {
    let place = Place::new();
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("demand");
    api.make_pool(&pool, &json!({"warm": 1, "max": 10, "spares": 1}), SCHEMA);
    api.until_counts(&pool, &json!({"ready": 1, "spare": 1}));
    let run = "/v1/runs/a-run";
    api.put(run, &json!({"pool": pool, "workers": 8})).expect(200);
    api.until_counts(&pool, &json!({"ready": 8}));
    let leases: Vec<_> = (0..8)
        .map(|number| {
            let worker = format!("gw{number}");
            let lease = api.lease(&json!({"pool": pool, "run": "a-run", "worker": worker, "wait_seconds": 0}));
            assert_eq!(lease["slot"], json!(number), "a worker gets the slot of its number");
            lease
        })
        .collect();
    assert_eq!(leases.len(), 8);
    let released = api.delete(run).expect(200);
    assert_eq!(released["released"], json!(8));
    api.post("/v1/leases", &json!({"pool": pool, "run": "a-run"})).refused(410, "run_ended");
    api.until_counts(&pool, &json!({"ready": 1, "spare": 1, "leased": 0, "retiring": 0, "creating": 0}));

    // More than can ever fit is refused at once.
    let said = api.put("/v1/runs/too-large", &json!({"pool": pool, "workers": 11})).refused(409, "capacity_exceeded");
    assert!(said.contains("11") && said.contains("max") && said.contains("10"), "{said}");
    let acquire_requests: Vec<_> = (0..11).map(|_| json!({"pool": pool})).collect();
    let said = api.post("/v1/leases/batch", &json!({"leases": acquire_requests})).refused(409, "capacity_exceeded");
    assert!(said.contains("11") && said.contains("10"), "{said}");
    let acquire_requests: Vec<_> = (0..3).map(|_| json!({"pool": pool})).collect();
    let batch = api.post("/v1/leases/batch", &json!({"leases": acquire_requests, "wait_seconds": 60})).expect(201);
    assert_eq!(batch["leases"].as_array().unwrap().len(), 3);

    // All or none: seven are left, eight are wanted.
    let acquire_requests: Vec<_> = (0..8).map(|_| json!({"pool": pool})).collect();
    let said = api
        .post("/v1/leases/batch", &json!({"leases": acquire_requests, "wait_seconds": 1}))
        .refused(503, "pool_exhausted");
    assert!(said.contains(&pool) && said.contains("max"), "{said}");
    assert_eq!(api.pool(&pool)["counts"]["leased"], json!(3));
    daemon.stop();
}

#[test]
fn what_the_server_leaves_room_for_bounds_the_pool_with_a_sentence() {
    let cluster = Cluster::start(&["max_connections=28"]);
    let place = Place::on(&cluster.url());
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("narrow");
    api.make_pool(&pool, &json!({"warm": 1, "max": 32, "spares": 0}), SCHEMA);
    let limits = api.status()["server"]["limits"].clone();
    let slots = limits["slots_by_connections"].as_u64().unwrap();
    assert!(slots < 28, "{limits}");
    let warnings = api.status()["server"]["warnings"].to_string();
    assert!(warnings.contains("max_connections"), "a lowered max is told: {warnings}");
    let workers = slots + 1;
    let said = api.put("/v1/runs/wide", &json!({"pool": pool, "workers": workers})).refused(409, "capacity_exceeded");
    assert!(said.contains("max_connections") && said.contains(&slots.to_string()), "{said}");
    for _ in 0..slots {
        api.lease(&json!({"pool": pool, "wait_seconds": 60}));
    }
    let said = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 1})).refused(503, "pool_exhausted");
    assert!(said.contains("max_connections"), "{said}");
    daemon.stop();

    // What is leased stays; what would have to be cloned is not.
    let floor = "9000000";
    let daemon = place.daemon(&[("PGDIBS_DISK_FLOOR_MB", floor)]);
    let api = daemon.api.clone();
    let leases = api.get("/v1/leases").expect(200)["leases"].as_array().unwrap().clone();
    assert_eq!(leases.len() as u64, slots);
    api.release(&leases[0]);
    until("its slot is empty", || {
        let counts = api.pool(&pool)["counts"].clone();
        if counts["retiring"] == json!(0) { Ok(()) } else { Err(counts.to_string()) }
    });
    let answer = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 1}));
    let said = answer.refused(503, "disk_floor");
    assert!(said.contains("PGDIBS_DISK_FLOOR_MB") && said.contains(floor), "{said}");
    daemon.stop();
}
