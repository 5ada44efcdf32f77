//! Kept databases: they outlive their lease.

use serde_json::json;

use crate::http::tests::{TestApi, connect, credentials, lease_path};

#[tokio::test]
async fn kept_database_outlives_its_lease_until_dropped() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 1).await;
    let lease = api.take(json!({})).await;
    let session = connect(&api, &lease).unwrap();
    api.backend.write(session, "evidence").unwrap();
    let keep = json!({"seconds": 60, "reason": "test_x failed"});
    let kept = api.post(&lease_path(&lease, "/keep?via=compose"), keep).await.expect(200).json;
    let name = kept["kept_database"].as_str().unwrap().to_owned();
    let url = kept["kept_url"].as_str().unwrap();
    assert!(url.contains("@[fd00::5]:6000/app_kept_"), "{url}");
    assert_eq!(kept["kept_until"], "1970-01-01T00:01:00.000000Z");
    api.delete(&lease_path(&lease, "")).await.expect(204);
    api.until("it stands under its own name", |api| api.backend.databases().values().any(|d| d.name == name)).await;
    let userinfo = url.strip_prefix("postgresql://").unwrap().split('@').next().unwrap();
    let (user, password) = userinfo.split_once(':').unwrap();
    let session = api.backend.connect(&credentials(user, password), &name).expect("its own login gets in");
    assert!(api.backend.read(session).unwrap().contains(&"evidence".to_owned()));

    let listed = api.get("/v1/databases?pool=app").await.expect(200).json;
    let found = listed["databases"].as_array().unwrap().iter().find(|d| d["database"] == name.as_str()).unwrap();
    assert_eq!((&found["state"], &found["reason"]), (&json!("kept"), &json!("test_x failed")));
    assert_eq!(found["kept_until"], kept["kept_until"]);
    api.delete(&format!("/v1/databases/{name}")).await.expect(204);
    api.until("it is gone", |api| api.backend.databases().values().all(|d| d.name != name)).await;
    api.delete(&format!("/v1/databases/{name}")).await.problem(404, "database_not_found");
}
