//! Atomics and shared slices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use manycore::sync::{Atomic, AtomicBool, AtomicI16, AtomicU8, AtomicU64, Number};
use manycore::{Process, Queue, SharedSlice};

use crate::house::{Test, tests};

pub(crate) const TESTS: &[Test] = &tests![
    four_processes_add_without_loss,
    numbers_of_all_sizes_wrap_at_their_ends,
    an_exchange_happens_if_it_is_what_was_expected,
    a_flag_is_taken_by_one_process,
    an_update_is_made_whole_or_not_at_all,
    a_slice_is_read_and_written_in_place_by_another_process,
    a_slice_of_any_length_has_its_elements_where_they_belong,
    what_is_outside_of_a_slice_is_refused,
    a_slice_travels_in_a_message,
];

fn four_processes_add_without_loss() {
    let total = AtomicU64::new(0).unwrap();
    let add = |total: AtomicU64| {
        for _ in 0..20_000 {
            total.fetch_add(3);
        }
    };
    let children = [0; 4].map(|_| Process::spawn(add, total.clone()).unwrap());
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(total.load(), 240_000);
}

fn wraps<T: Number>(least: T, most: T, one: T) {
    let number = Atomic::new(most).unwrap();
    assert_eq!(number.fetch_add(one), most);
    assert_eq!(number.load(), least, "over the end");
    assert_eq!(number.fetch_sub(one), least);
    assert_eq!(number.swap(one), most, "and back");
    assert_eq!(
        (number.fetch_max(most), number.fetch_max(least)),
        (one, most)
    );
    assert_eq!(
        (number.fetch_min(least), number.fetch_min(most)),
        (most, least)
    );
    number.store(one);
    assert_eq!(number.load(), one);
}

fn numbers_of_all_sizes_wrap_at_their_ends() {
    macro_rules! all {
        ($($number:ty)*) => { $(wraps(<$number>::MIN, <$number>::MAX, 1);)* };
    }
    all!(u8 i8 u16 i16 u32 i32 u64 i64 usize isize);
}

fn an_exchange_happens_if_it_is_what_was_expected() {
    let number = AtomicI16::new(-5).unwrap();
    assert_eq!(number.compare_exchange(5, 1), Err(-5));
    assert_eq!(number.compare_exchange(-5, -1), Ok(-5));
    assert_eq!(format!("{number:?}"), "-1");
}

fn a_flag_is_taken_by_one_process() {
    let taken = AtomicBool::new(false).unwrap();
    let take = |taken: AtomicBool| taken.compare_exchange(false, true).is_ok();
    let children = [0; 3].map(|_| Process::spawn(take, taken.clone()).unwrap());
    let won = children.map(|child| child.join().unwrap());
    assert_eq!(won.iter().filter(|&&it| it).count(), 1);
    assert!(taken.swap(false));
}

fn an_update_is_made_whole_or_not_at_all() {
    let number = AtomicU8::new(250).unwrap();
    assert_eq!(number.fetch_update(|number| number.checked_add(5)), Ok(250));
    assert_eq!(
        number.fetch_update(|number| number.checked_add(5)),
        Err(255)
    );
    assert_eq!(number.load(), 255);
}

fn a_slice_is_read_and_written_in_place_by_another_process() {
    let numbers = SharedSlice::<f64>::zeroed(100_000).unwrap();
    let fill = |(numbers, from): (SharedSlice<f64>, usize)| {
        let part: Vec<f64> = (from..from + 50_000).map(|number| number as f64).collect();
        numbers.write(from, &part);
        numbers.set(from, -1.0);
    };
    let children = [0, 50_000].map(|from| Process::spawn(fill, (numbers.clone(), from)).unwrap());
    for child in children {
        child.join().unwrap();
    }
    let expected = |index: usize| {
        if [0, 50_000].contains(&index) {
            -1.0
        } else {
            index as f64
        }
    };
    let is_right = |(index, number): (usize, f64)| number == expected(index);
    assert!(numbers.to_vec().into_iter().enumerate().all(is_right));
}

fn a_slice_of_any_length_has_its_elements_where_they_belong() {
    for len in [0, 1, 7, 64, 3_000] {
        let elements: Vec<[u16; 3]> = (0..len).map(|number| [number, 2, 3]).collect();
        let slice = SharedSlice::from_slice(&elements).unwrap();
        assert_eq!((slice.len(), slice.is_empty()), (elements.len(), len == 0));
        assert_eq!(slice.to_vec(), elements);
        assert_eq!(slice.get(elements.len()), None);
        assert_eq!(slice.get(0), elements.first().copied());
        assert_eq!(slice.as_ptr().addr() % 64, 0, "of {len}");
    }
}

fn what_is_outside_of_a_slice_is_refused() {
    let slice = SharedSlice::from_slice(&[1_u32, 2, 3]).unwrap();
    let refused = |run: &dyn Fn()| catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    let said = refused(&|| slice.set(3, 9));
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("1 elements at 3 are not all in"), "{said}");
    refused(&|| slice.write(2, &[9, 9]));
    refused(&|| slice.write(usize::MAX, &[9, 9]));
    refused(&|| slice.read(1, &mut [0; 3]));
    refused(&|| drop(SharedSlice::<()>::zeroed(3)));
    assert_eq!(slice.to_vec(), [1, 2, 3]);
    assert!(SharedSlice::<u64>::zeroed(usize::MAX).is_err());
}

fn a_slice_travels_in_a_message() {
    let queue = Queue::new().unwrap();
    queue
        .send(&SharedSlice::from_slice(b"abc").unwrap())
        .unwrap();
    let first = |queue: Queue<SharedSlice<u8>>| queue.recv().unwrap().get(0);
    assert_eq!(Process::spawn(first, queue).unwrap().join(), Ok(Some(b'a')));
}
