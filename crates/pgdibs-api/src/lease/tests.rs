//! A client builds the requests that the daemon reads.

use pgdibs_core::name::PoolName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{AcquireRequest, BatchLease, BatchRequest, ResetRequest};
use crate::bounded::{BoundedInteger, BoundedList, Label, WaitSeconds};
use crate::pool::PoolRequest;

/// The request on the wire; reading it and writing it again changes nothing.
#[track_caller]
fn written<T: Serialize + DeserializeOwned>(request: &T) -> Value {
    let written = serde_json::to_value(request).unwrap();
    let read: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), written);
    written
}

#[test]
fn request_is_read_as_written_without_absent_fields() {
    let pool = || PoolName::parse("app").unwrap();
    let lease = BatchLease { ttl_seconds: BoundedInteger::new(5), ..BatchLease::new(pool()) };
    assert_eq!(written(&lease), json!({"pool": "app", "ttl_seconds": 5, "fresh": false}));
    let acquire = AcquireRequest {
        run: Some(Label::new("r").unwrap()),
        wait_seconds: WaitSeconds::new(std::time::Duration::from_millis(500)),
        ..AcquireRequest::new(pool())
    };
    assert_eq!(written(&acquire), json!({"pool": "app", "run": "r", "fresh": false, "wait_seconds": 0.5}));
    let batch = BatchRequest {
        leases: BoundedList::new(vec![lease]).unwrap(),
        wait_seconds: None,
        exact_slot: true,
        shared_login: false,
    };
    assert_eq!(written(&batch)["leases"][0]["pool"], "app");
    assert_eq!(written(&ResetRequest::default()), json!({}));
    let mut settings = PoolRequest::default();
    settings.warm = BoundedInteger::new(3);
    assert_eq!(written(&settings), json!({"warm": 3}));
}

#[test]
fn value_out_of_bounds_is_not_built() {
    assert_eq!((BoundedInteger::<1, 3600>::new(0), BoundedInteger::<1, 3600>::new(3601)), (None, None));
    assert_eq!(WaitSeconds::new(std::time::Duration::from_millis(600_001)), None);
    assert!(Label::new("").is_err() && Label::new("a\nb").is_err());
    assert!(BoundedList::<u8, 1, 2>::new(vec![]).is_err());
}
