//! What a stage has made, in the order in which it may go on.

use std::collections::VecDeque;

/// What takes up memory.
pub trait Weigh {
    /// How many bytes.
    fn bytes(&self) -> u64;
}

/// The outputs of a stage's tasks. With an order, they leave in that of the tasks, and within a task in
/// that in which it made them; without, as they come.
pub struct Outlet<T> {
    is_ordered: bool,
    /// The number of the first place; numbers grow by one with each task.
    first: u64,
    next: u64,
    /// With an order: the tasks whose outputs may not all go yet.
    places: VecDeque<Place<T>>,
    /// Without: how many tasks are at work.
    open: usize,
    ready: VecDeque<T>,
    ready_bytes: u64,
    held: usize,
    held_bytes: u64,
}

struct Place<T> {
    outputs: VecDeque<T>,
    is_finished: bool,
}

impl<T: Weigh> Outlet<T> {
    /// One without tasks.
    #[must_use]
    pub fn new(is_ordered: bool) -> Self {
        Self {
            is_ordered,
            first: 0,
            next: 0,
            places: VecDeque::new(),
            open: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            held: 0,
            held_bytes: 0,
        }
    }

    /// A new task's number.
    pub fn open(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open += 1;
        if self.is_ordered {
            self.places.push_back(Place {
                outputs: VecDeque::new(),
                is_finished: false,
            });
        }
        number
    }

    /// Takes an output of a task that is at work.
    pub fn put(&mut self, number: u64, output: T) {
        self.held += 1;
        self.held_bytes += output.bytes();
        match self.place(number) {
            Some(place) if number != self.first => {
                if let Some(place) = self.places.get_mut(place) {
                    place.outputs.push_back(output);
                }
            }
            _ => self.release(output),
        }
    }

    /// Takes what nobody has to work on, in its turn.
    pub fn pass(&mut self, output: T) {
        let number = self.open();
        self.put(number, output);
        self.finish(number);
    }

    /// Takes the end of a task.
    pub fn finish(&mut self, number: u64) {
        self.open = self.open.saturating_sub(1);
        let Some(place) = self.place(number) else {
            return;
        };
        if let Some(place) = self.places.get_mut(place) {
            place.is_finished = true;
        }
        while self.places.front().is_some_and(|place| place.is_finished) {
            self.places.pop_front();
            self.first += 1;
            let now_first = self.places.front_mut();
            for output in
                now_first.map_or_else(VecDeque::new, |place| std::mem::take(&mut place.outputs))
            {
                self.release(output);
            }
        }
    }

    /// The next output that may go on.
    pub fn pop(&mut self) -> Option<T> {
        let output = self.ready.pop_front()?;
        self.ready_bytes -= output.bytes();
        self.held -= 1;
        self.held_bytes -= output.bytes();
        Some(output)
    }

    /// Whether something may go on.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many outputs may go on, and their bytes.
    #[must_use]
    pub fn ready(&self) -> (usize, u64) {
        (self.ready.len(), self.ready_bytes)
    }

    /// How many outputs are here, and their bytes.
    #[must_use]
    pub fn held(&self) -> (usize, u64) {
        (self.held, self.held_bytes)
    }

    /// Whether the outputs of a task go on at once.
    #[must_use]
    pub fn is_first(&self, number: u64) -> bool {
        !self.is_ordered || number == self.first
    }

    /// How many tasks are at work or wait for their turn, and how many outputs may go on.
    #[must_use]
    pub fn load(&self) -> usize {
        self.places.len().max(self.open) + self.ready.len()
    }

    fn place(&self, number: u64) -> Option<usize> {
        if !self.is_ordered {
            return None;
        }
        usize::try_from(number.wrapping_sub(self.first)).ok()
    }

    fn release(&mut self, output: T) {
        self.ready_bytes += output.bytes();
        self.ready.push_back(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u64 {
        fn bytes(&self) -> u64 {
            *self
        }
    }

    fn all(outlet: &mut Outlet<u64>) -> Vec<u64> {
        std::iter::from_fn(|| outlet.pop()).collect()
    }

    #[test]
    fn outputs_leave_in_the_order_of_their_tasks() {
        let mut outlet = Outlet::new(true);
        let [a, b, c] = [(); 3].map(|()| outlet.open());
        outlet.put(c, 5);
        outlet.put(b, 3);
        outlet.finish(c);
        assert_eq!(all(&mut outlet), []);
        outlet.put(a, 1);
        assert_eq!(all(&mut outlet), [1]);
        outlet.put(a, 2);
        outlet.finish(a);
        outlet.put(b, 4);
        assert_eq!(all(&mut outlet), [2, 3, 4]);
        outlet.finish(b);
        assert_eq!(all(&mut outlet), [5]);
        assert_eq!((outlet.load(), outlet.held()), (0, (0, 0)));
    }

    #[test]
    fn without_an_order_they_leave_as_they_come() {
        let mut outlet = Outlet::new(false);
        let [a, b] = [(); 2].map(|()| outlet.open());
        outlet.put(b, 2);
        outlet.finish(b);
        outlet.put(a, 1);
        assert_eq!(all(&mut outlet), [2, 1]);
        assert_eq!(outlet.load(), 1);
        outlet.finish(a);
        assert_eq!(outlet.load(), 0);
    }

    #[test]
    fn what_passes_waits_for_its_turn() {
        let mut outlet = Outlet::new(true);
        let a = outlet.open();
        outlet.pass(2);
        assert_eq!(all(&mut outlet), []);
        outlet.finish(a);
        assert_eq!(all(&mut outlet), [2]);
        outlet.pass(3);
        assert_eq!(all(&mut outlet), [3]);
    }

    #[test]
    fn a_task_without_outputs_keeps_its_place_until_its_turn() {
        let mut outlet: Outlet<u64> = Outlet::new(true);
        let [a, b] = [(); 2].map(|()| outlet.open());
        outlet.finish(b);
        assert_eq!(
            outlet.load(),
            2,
            "else tasks behind a slow one were without number"
        );
        outlet.finish(a);
        assert_eq!(outlet.load(), 0);
    }

    #[test]
    fn what_waits_and_what_may_go_is_weighed() {
        let mut outlet = Outlet::new(true);
        let [a, b] = [(); 2].map(|()| outlet.open());
        outlet.put(a, 10);
        outlet.put(b, 20);
        assert_eq!((outlet.ready(), outlet.held()), ((1, 10), (2, 30)));
        assert!(outlet.is_first(a) && !outlet.is_first(b));
        outlet.finish(a);
        assert_eq!((outlet.ready(), outlet.held()), ((2, 30), (2, 30)));
    }
}
