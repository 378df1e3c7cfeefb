//! Sizes in pages, four to a doubling: 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ... At most a quarter
//! of a block is slack.

/// How many classes there are: up to 2^28 pages, which is a tebibyte.
pub const CLASSES: usize = 4 * 27;

/// The number of pages in blocks of a class.
#[must_use]
pub const fn pages_of(class: usize) -> u64 {
    if class < 4 {
        return class as u64 + 1;
    }
    let (doubling, quarter) = (class / 4, class as u64 % 4);
    // 4, 5, 6, 7 quarters of 2^(doubling - 1) pages, moved up by one so that 4 is the last of the first four.
    (5 + quarter) << (doubling - 1)
}

/// The smallest class whose blocks have at least `pages` pages.
#[must_use]
pub fn class_holding(pages: u64) -> Option<usize> {
    (0..CLASSES).find(|&class| pages_of(class) >= pages)
}

/// The largest class whose blocks have at most `pages` pages: where a free run of that length is listed.
#[must_use]
pub fn class_within(pages: u64) -> usize {
    (0..CLASSES)
        .rfind(|&class| pages_of(class) <= pages.max(1))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_by_a_quarter_at_most() {
        assert_eq!(
            (0..12).map(pages_of).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]
        );
        for class in 4..CLASSES {
            let (small, large) = (pages_of(class - 1), pages_of(class));
            assert!(
                large > small && (large - small) * 4 <= small.max(4),
                "{small} {large}"
            );
        }
        assert!(pages_of(CLASSES - 1) >= 1 << 28);
    }

    #[test]
    fn a_request_is_held_by_its_class_and_listed_within_it() {
        for pages in (1..2000).chain([1 << 20, (1 << 28) - 1]) {
            let class = class_holding(pages).expect("in range");
            assert!(pages_of(class) >= pages);
            assert!(pages_of(class_within(pages)) <= pages);
            assert_eq!(class_within(pages_of(class)), class);
        }
    }
}
