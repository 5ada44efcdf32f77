//! The client library in a test: a lease is a value that renews itself, resets, and is released on drop.

use std::time::Duration;

use pgdibs::{Acquire, Client};
use serde_json::json;

use pgdibs_testing::end_to_end::{Place, Session, block, pool_name, until};

#[test]
fn lease_value_is_renewed_reset_and_released_on_drop() {
    let place = Place::new();
    let daemon = place.daemon(&[]);
    let pool = pool_name("library");
    daemon.api.make_pool(&pool, &json!({"warm": 1, "spares": 1}), "create table witness (id int)");
    let client = Client::builder(daemon.api.url()).build().unwrap();
    let request = || Acquire::new(pool.as_str()).worker("gw0").run("r1").ttl(Duration::from_secs(2));
    let lease_of = |id: &str| daemon.api.get(&format!("/v1/leases/{id}")).expect(200);

    let mut lease = block(client.acquire(request())).unwrap();
    let id = lease.info().id.clone();
    let first_expiry = lease_of(&id)["expires_at"].clone();
    until("the lease renews itself", || match lease_of(&id)["expires_at"].clone() {
        expiry if expiry != first_expiry => Ok(()),
        expiry => Err(expiry.to_string()),
    });
    Session::open(lease.url()).run("create table left_behind ()");
    block(lease.reset(Duration::from_secs(30))).unwrap();
    assert_eq!(lease.info().generation, 2);
    assert_eq!(Session::open(lease.url()).text("select to_regclass('left_behind') is null"), "true");
    drop(lease);
    let ended = lease_of(&id);
    assert_eq!((&ended["state"], &ended["ended_reason"]), (&json!("released"), &json!("released by its holder")));

    let again = block(client.acquire(request())).unwrap();
    assert_ne!(again.info().id, id);
    let id = again.info().id.clone();
    block(again.release()).unwrap();
    assert_eq!(lease_of(&id)["state"], "released");
    daemon.stop();
    place.until_nothing_runs();
}

#[test]
fn lost_lease_is_reported_with_its_reason() {
    let place = Place::new();
    let daemon = place.daemon(&[]);
    let pool = pool_name("lost");
    daemon.api.make_pool(&pool, &json!({"warm": 1, "spares": 0}), "create table witness (id int)");
    let client = Client::builder(daemon.api.url()).build().unwrap();
    let lease = block(client.acquire(Acquire::new(pool.as_str()).ttl(Duration::from_secs(1)))).unwrap();
    daemon.api.delete(&format!("/v1/pools/{pool}?force=true")).expect(204);
    let refusal = block(lease.lost());
    assert_eq!(refusal.code, "lease_ended", "{refusal}");
    daemon.stop();
    place.until_nothing_runs();
}
