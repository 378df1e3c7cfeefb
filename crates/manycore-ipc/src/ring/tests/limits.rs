use super::*;

/// What a message of so many bytes takes, in the ring and in its block.
fn bytes_of(payload: usize, block: usize) -> u64 {
    let references = if block > 0 { BlockRef::SIZE } else { 0 };
    (record::HEADER + references + payload).next_multiple_of(16) as u64 + block as u64
}

fn of_bytes(max_bytes: u64) -> Shape {
    Shape {
        max_bytes,
        ..Shape::unbounded()
    }
}

#[test]
fn a_ring_is_full_when_the_next_message_would_be_over_its_bytes() {
    let most = 3 * bytes_of(100, 5_000);
    let hold = family().make_ring(of_bytes(most)).expect("room");
    let ring = hold.ring().expect("a ring");
    for _ in 0..3 {
        let block = block_with(&ring, &[7; 5_000]);
        put(&ring, 1, &[0; 100], &[block]).expect("room");
    }
    assert_eq!(ring.bytes(), most);
    assert!(ring.is_full());
    assert_eq!(put(&ring, 1, b"", &[]), Err(PutError::Full));
    read_block(&ring, get(&ring).expect("three are in").blocks[0]);
    assert!(!ring.is_full());
    let block = block_with(&ring, &[7; 5_001]);
    assert_eq!(put(&ring, 1, &[0; 100], &[block]), Err(PutError::Full));
    ring.blocks.free(block);
    put(&ring, 1, b"small", &[]).expect("room");
}

#[test]
fn a_message_over_the_limit_is_alone_in_its_ring() {
    let hold = family().make_ring(of_bytes(1_000)).expect("room");
    let ring = hold.ring().expect("a ring");
    for _ in 0..3 {
        put(&ring, 1, &[0; 9_000], &[]).expect("it is empty"); // and in a region of its own
        assert_eq!(put(&ring, 2, b"", &[]), Err(PutError::Full));
        assert_eq!(get(&ring).expect("it is in").payload.len(), 9_000);
        assert_eq!(ring.bytes(), 0);
    }
}

#[test]
fn what_has_passed_is_counted() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    assert_eq!(ring.stats(), Stats::default());
    let block = block_with(&ring, &[7; 5_000]);
    put(&ring, 1, b"", &[block]).expect("room");
    put(&ring, 1, &[0; 100], &[]).expect("room");
    let bytes = bytes_of(0, 5_000) + bytes_of(100, 0);
    assert_eq!((ring.stats().put, ring.stats().put_bytes), (2, bytes));
    assert_eq!((ring.stats().got, ring.stats().high_water), (0, 2));
    read_block(&ring, get(&ring).expect("two are in").blocks[0]);
    get(&ring).expect("one is in");
    let stats = ring.stats();
    assert_eq!((stats.got, stats.got_bytes), (2, bytes));
    assert_eq!(stats.high_water, 2);
}

#[test]
fn the_next_ring_in_an_object_counts_from_zero() {
    let family = family();
    for _ in 0..2 {
        let hold = family.make_ring(of_bytes(10_000)).expect("room");
        let ring = hold.ring().expect("a ring");
        assert_eq!(ring.stats(), Stats::default());
        assert_eq!((ring.bytes(), ring.len()), (0, 0));
        let block = block_with(&ring, &[7; 5_000]);
        put(&ring, 1, b"left", &[block]).expect("room");
        put(&ring, 2, &[0; 9_000], &[]).expect_err("over the limit");
        drop(hold);
        family.free_buried().expect("sound");
    }
}

#[test]
fn a_ring_of_which_more_was_taken_than_put_is_refused_by_bytes_too() {
    let hold = family().make_ring(of_bytes(100)).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, &[0; 80], &[]).expect("it is empty");
    ring.body.get.count[0].store(7, Relaxed);
    assert!(matches!(
        put(&ring, 2, &[0; 80], &[]),
        Err(PutError::Alloc(_))
    ));
}
