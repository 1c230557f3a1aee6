//! However many buckets a server makes up, so many are told apart.

use super::{BUCKETS, Host, Keyring, LONGEST_NAME, Quota};

#[test]
fn a_server_that_makes_up_buckets_gets_no_more_than_there_is_room_for() {
    let host = Host::new("http://api/", &Keyring::none());
    let limits = Quota::per_second(1);
    let lane = |name: Option<&str>| host.lane(name, &limits, limits.clone().build().unwrap());
    assert_eq!(lane(None).bucket, None);
    for number in 0..10_000 {
        let name = format!("bucket {number}");
        let known = lane(Some(&name)).bucket.is_some();
        assert_eq!(known, number < BUCKETS - 1, "{number}");
    }
    assert_eq!(host.known.lock().lanes.len(), BUCKETS);
    assert!(lane(Some("bucket 0")).bucket.is_some(), "those that are known stay");
    let host = Host::new("http://api/", &Keyring::none());
    let lane = |name: &str| host.lane(Some(name), &limits, limits.clone().build().unwrap());
    assert!(lane(&"x".repeat(LONGEST_NAME)).bucket.is_some());
    assert!(lane(&"x".repeat(LONGEST_NAME + 1)).bucket.is_none());
    assert_eq!(host.known.lock().lanes.len(), 2);
}
