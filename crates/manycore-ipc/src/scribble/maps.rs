//! What the process does with maps.

use super::input::Input;
use super::step::{ABSURD, Process, patiently};
use crate::family::Hold;
use crate::map::{Cursor, Map, When};
use crate::object::Handle;
use crate::ring::Outgoing;

impl Process<'_> {
    fn map(&self, input: &mut Input<'_>) -> Option<Map> {
        let maps: Vec<_> = self.holds.iter().filter_map(|it| it.map().ok()).collect();
        input.one_of(&maps)
    }

    pub(super) fn use_map(&mut self, input: &mut Input<'_>) {
        let Some(map) = self.map(input) else { return };
        match input.below(8) {
            0..=2 => self.set(input, &map),
            3 => self.look_up(input, &map, false),
            4 => self.look_up(input, &map, true),
            5 => walk(input, &map),
            6 => drop(patiently(input, |patience| map.len(patience))),
            _ => drop((
                map.settle(),
                patiently(input, |patience| map.clear(patience)),
            )),
        }
    }

    fn set(&mut self, input: &mut Input<'_>, map: &Map) {
        let name = [input.byte() % 40];
        let Ok(key) = map.key(&name) else { return };
        let len = usize::from(input.short()) % 3_000;
        let block = match input.byte() % 3 {
            0 => self.taken.pop(),
            _ => None,
        };
        let handles: Vec<Handle> = match input.byte() % 3 {
            0 => self.chosen(input).map(Hold::handle).into_iter().collect(),
            _ => Vec::new(),
        };
        if self.family.send(&handles).is_err() {
            return;
        }
        let blocks: Vec<_> = block.iter().map(|taken| taken.block).collect();
        let value = Outgoing {
            kind: 1,
            blocks: &blocks,
            handles: &handles,
            payload: &vec![7; len],
            ..Outgoing::default()
        };
        let when = match input.below(4) {
            0 => When::Absent,
            1 => When::Unchanged(u64::from(input.byte())),
            _ => When::Always,
        };
        let set = patiently(input, |patience| map.set(&key, &value, when, patience));
        if set != Ok(true) {
            self.family.unsend(&handles);
            self.taken.extend(block);
        }
    }

    fn look_up(&mut self, input: &mut Input<'_>, map: &Map, removes: bool) {
        let name = [input.byte() % 40];
        let Ok(key) = map.key(&name) else { return };
        self.forget_message();
        let message = &mut self.message;
        let _ = patiently(input, |patience| {
            if removes {
                map.remove(&key, When::Always, patience).is_ok()
            } else {
                map.get(&key, message, patience).is_ok()
            }
        });
        assert!(self.message.payload.capacity() <= ABSURD);
    }

    /// Looks at all entries of all maps.
    pub(super) fn finish_maps(&self) {
        let mut rest = Input::new(&[]);
        for map in self.holds.iter().filter_map(|hold| hold.map().ok()) {
            walk(&mut rest, &map);
        }
    }
}

fn walk(input: &mut Input<'_>, map: &Map) {
    let (mut cursor, mut entries, mut turns) = (Cursor::default(), Vec::new(), 0);
    while patiently(input, |it| map.scan(&mut cursor, true, &mut entries, it)) == Ok(true) {
        entries.clear();
        turns += 1;
        assert!(turns <= ABSURD / 8, "a walk without an end");
    }
}
