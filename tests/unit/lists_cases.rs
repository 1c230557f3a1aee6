//! Which lists are kept for the next batch, and which stay at rest.

use super::{KEPT, LONGEST, Lists};

fn capacities(lists: &Lists<u32>) -> Vec<usize> {
    lists.0.iter().map(Vec::capacity).collect()
}

#[test]
fn p11_few_lists_are_kept_and_no_long_ones() {
    let mut lists = Lists::new();
    for capacity in [0, LONGEST + 1] {
        lists.reuse(Vec::with_capacity(capacity));
        assert_eq!(capacities(&lists), [0; 0], "none of {capacity}");
    }
    let mut list = Vec::with_capacity(LONGEST);
    list.push(7);
    lists.reuse(list);
    (1..=KEPT).for_each(|capacity| lists.reuse(Vec::with_capacity(capacity)));
    assert_eq!(capacities(&lists), [LONGEST, 1]);
    assert!(lists.list(0).capacity() == 1 && lists.list(0).capacity() == LONGEST, "the last one first");
    assert_eq!(capacities(&lists), [0; 0]);
    lists.reuse(vec![7; 100]);
    let list = lists.list(200);
    assert!(list.is_empty() && list.capacity() >= 200);
}

#[test]
fn p11_no_longer_list_than_that_stays_at_rest() {
    let mut lists = Lists::new();
    lists.reuse(Vec::with_capacity(128));
    lists.reuse(Vec::with_capacity(129));
    lists.rest(128);
    assert_eq!(capacities(&lists), [128]);
}
