//! What is remembered of a key is what was said of it when it was found bad, and nothing that is said later.

use super::{Bad, Duration, Id, Told};
use crate::error::Error;

#[tokio::test(start_paused = true)]
async fn a_key_is_remembered_as_it_was_found_and_forgotten_when_something_else_is_said_of_it() {
    let bad = Bad::new(Duration::from_secs(60));
    let id = Id::of("bad").unwrap();
    let remembered = |bad: &Bad| bad.of(&id).map(|told| matches!(told, Told::Absent));
    bad.found([&id]);
    assert!(!bad.takes(&id, Some(Told::Absent)), "without a store nothing is noted");
    bad.has_store();
    assert!(!bad.takes(&id, Some(Told::Absent)), "it was not found bad");
    bad.found([&id]);
    assert_eq!(remembered(&bad), None, "nothing was said yet");
    assert!(bad.takes(&id, Some(Told::Absent)));
    assert_eq!(remembered(&bad), Some(true));
    assert!(!bad.takes(&id, Some(Told::Failed(Error::TimedOut))), "that is of another load");
    assert_eq!(remembered(&bad), None);
    bad.found([&id]);
    assert!(!bad.takes(&id, None), "a value");
    assert_eq!(remembered(&bad), None);
}
