//! Builds by clients over HTTP: one builder, waiting callers, seal, abandon, and the failure of a silent builder.

use pgdibs::Method;
use serde_json::json;

use pgdibs_testing::end_to_end::{Cluster, Place, Session, pool_name, until};

#[test]
fn one_caller_builds_and_others_wait() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let daemon = place.daemon(&[]);
    let api = daemon.api.clone();
    let pool = pool_name("built");
    api.put(&format!("/v1/pools/{pool}"), &json!({"warm": 1, "spares": 0})).expect(201);
    let path = format!("/v1/pools/{pool}/templates/one");
    let sentence = api.post("/v1/leases", &json!({"pool": pool, "wait_seconds": 0})).refused(404, "template_not_found");
    assert!(sentence.contains(&pool), "{sentence}");

    // The first of several callers becomes the builder; the others get its holder.
    let acquire_request = |wait: u32, holder: &str| json!({"holder": holder, "wait_seconds": wait});
    let answers = std::thread::scope(|scope| {
        let callers: Vec<_> = ["a", "b", "c", "d"]
            .map(|holder| {
                let (api, path) = (&api, &path);
                scope.spawn(move || api.call(Method::PUT, path, Some(&acquire_request(0, holder))))
            })
            .into_iter()
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
    });
    let (mut built, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((built.len(), others.len()), (1, 3));
    let build = built.remove(0).expect(201);
    for answer in others {
        assert!(answer.retry_after.is_some(), "{}", answer.body);
        let body = answer.expect(202);
        assert_eq!((&body["state"], &body["holder"]), (&json!("building"), &build["holder"]));
    }

    // The builder abandons; the waiting caller becomes the builder, with an empty database.
    Session::open(build["build"]["url"].as_str().unwrap()).run("create table half_done (n int)");
    let next = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| api.call(Method::PUT, &path, Some(&acquire_request(60, "the next one"))));
        let abandon = json!({"token": build["build"]["token"], "detail": "the migration failed"});
        assert_eq!(api.post(&format!("{path}/abandon"), &abandon).status, 204);
        waiter.join().unwrap().expect(201)
    });
    assert_eq!(next["holder"], "the next one");
    let stale = json!({"token": build["build"]["token"]});
    api.post(&format!("{path}/seal"), &stale).refused(409, "build_token_stale");
    api.post(&format!("{path}/renew"), &stale).refused(409, "build_token_stale");
    let mut builder = Session::open(next["build"]["url"].as_str().unwrap());
    builder.run("create table half_done (n int); insert into half_done values (5)");
    let token = json!({"token": next["build"]["token"]});
    api.post(&format!("{path}/renew"), &token).expect(200);

    // One caller waits for the template, one for a database of it; the builder's session is still open at the seal.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| api.call(Method::PUT, &path, Some(&acquire_request(60, "waiting client"))));
        let tenant = scope.spawn(|| {
            let acquire_request = json!({"pool": pool, "fingerprint": "one", "wait_seconds": 60});
            api.call(Method::POST, "/v1/leases", Some(&acquire_request))
        });
        let sealed = api.post(&format!("{path}/seal"), &token).expect(200);
        assert_eq!(sealed["state"], "ready");
        assert!(builder.try_run("select 1").is_err(), "the builder's session is still open in the sealed template");
        let again = api.post(&format!("{path}/seal"), &token).expect(200);
        assert_eq!((&again["database"], &again["built_at"]), (&sealed["database"], &sealed["built_at"]));
        assert_eq!(waiter.join().unwrap().expect(200)["state"], "ready");
        let lease = tenant.join().unwrap().expect(201);
        assert_eq!(Session::of(&lease).text("select n from half_done"), "5");
        api.delete(&path).refused(409, "template_in_use");
        api.release(&lease);
    });
    assert!(Session::try_open(next["build"]["url"].as_str().unwrap()).is_err(), "the build's login is closed");
    assert_eq!(api.put(&path, &acquire_request(0, "later")).status, 200);

    // A silent builder: its last renewal is more than a minute ago.
    let path = format!("/v1/pools/{pool}/templates/two");
    let silent = api.put(&path, &acquire_request(0, "silent")).expect(201);
    let mut catalog = cluster.superuser("pgdibs");
    let age = "update templates set build_heard_at = now() - interval '61 s' where fingerprint = 'two'";
    let mut session = Session::open(silent["build"]["url"].as_str().unwrap());
    catalog.run(age);
    until("a session on its database counts as a renewal", || {
        let seen =
            catalog.text("select now() - build_heard_at < interval '10 s' from templates where fingerprint = 'two'");
        if seen == "true" { Ok(()) } else { Err(seen) }
    });
    session.run("create table mine (n int)");
    drop(session);
    until("the build fails", || {
        catalog.run(age);
        let building = catalog.text("select count(*) from templates where fingerprint = 'two' and state = 'building'");
        if building == "0" { Ok(()) } else { Err(building) }
    });
    let taken = api.put(&path, &acquire_request(30, "its successor")).expect(201);
    let stale = json!({"token": silent["build"]["token"]});
    api.post(&format!("{path}/seal"), &stale).refused(409, "build_token_stale");
    api.post(&format!("{path}/seal"), &json!({"token": taken["build"]["token"]})).expect(200);
    assert_eq!(api.delete(&path).status, 204);
    daemon.stop();
}
