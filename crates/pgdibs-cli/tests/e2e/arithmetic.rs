//! Pool sizes: they follow the demand, and errors name the limits with their numbers.

use serde_json::json;

use pgdibs_testing::end_to_end::{Cluster, Place, pool_name, until};

const SCHEMA: &str = "create table t (id int)";

#[test]
fn pool_follows_demand_and_shrinks() {
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

    // A request above the limits fails at once.
    let detail = api.put("/v1/runs/too-large", &json!({"pool": pool, "workers": 11})).refused(409, "capacity_exceeded");
    assert!(detail.contains("11") && detail.contains("max") && detail.contains("10"), "{detail}");
    let acquire_requests: Vec<_> = (0..11).map(|_| json!({"pool": pool})).collect();
    let detail = api.post("/v1/leases/batch", &json!({"leases": acquire_requests})).refused(409, "capacity_exceeded");
    assert!(detail.contains("11") && detail.contains("10"), "{detail}");
    let acquire_requests: Vec<_> = (0..3).map(|_| json!({"pool": pool})).collect();
    let batch = api.post("/v1/leases/batch", &json!({"leases": acquire_requests, "wait_seconds": 60})).expect(201);
    assert_eq!(batch["leases"].as_array().unwrap().len(), 3);

    // All or none: seven are free, eight are requested.
    let acquire_requests: Vec<_> = (0..8).map(|_| json!({"pool": pool})).collect();
    let detail = api
        .post("/v1/leases/batch", &json!({"leases": acquire_requests, "wait_seconds": 1}))
        .refused(503, "pool_exhausted");
    assert!(detail.contains(&pool) && detail.contains("max"), "{detail}");
    assert_eq!(api.pool(&pool)["counts"]["leased"], json!(3));
    daemon.stop();
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn max_connections_and_disk_limit_the_pool() {
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
        assert!(warnings.contains("max_connections"), "the warnings lack the lowered max: {warnings}");
        let workers = slots + 1;
        let detail =
            api.put("/v1/runs/wide", &json!({"pool": pool, "workers": workers})).refused(409, "capacity_exceeded");
        assert!(detail.contains("max_connections") && detail.contains(&slots.to_string()), "{detail}");
        for _ in 0..slots {
            api.lease(&json!({"pool": pool, "wait_seconds": 60}));
        }
        let detail = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 1})).refused(503, "pool_exhausted");
        assert!(detail.contains("max_connections"), "{detail}");
        daemon.stop();

        // Leases continue, and no clone starts.
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
        let detail = answer.refused(503, "disk_floor");
        assert!(detail.contains("PGDIBS_DISK_FLOOR_MB") && detail.contains(floor), "{detail}");
        daemon.stop();
    }
}
