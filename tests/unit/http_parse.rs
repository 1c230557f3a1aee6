//! The nearest field.

use super::*;

#[test]
fn distances_are_those_of_the_book() {
    for (one, other, far) in [("kitten", "sitting", 3), ("", "abc", 3), ("base", "bse", 1), ("same", "same", 0)] {
        assert_eq!((distance(one, other), distance(other, one)), (far, far), "{one} {other}");
    }
}
