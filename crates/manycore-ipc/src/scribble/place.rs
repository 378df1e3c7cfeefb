//! Where a scribble hits.

use super::input::Input;
use super::world::World;
use crate::block::table::Entry;
use crate::heap::Header;
use crate::object::header::Object;
use crate::registry::Slot;
use crate::ring::RingBody;

/// Registry slots that are hit: all that anybody has, and a few more.
pub(super) const SLOTS_HIT: usize = 8;
/// Object slots that are hit, likewise.
pub(super) const OBJECTS_HIT: usize = 24;

/// Bytes of a body that mean something: those of a ring, which has the largest.
const BODY_USED: usize = size_of::<RingBody>();

/// An offset in the heap, a multiple of four.
pub(super) fn choose(input: &mut Input<'_>, world: &World) -> usize {
    let layout = world.family.heap().layout();
    let within = |input: &mut Input<'_>, bytes: usize| input.below(bytes / 4) * 4;
    match input.below(9) {
        0 => within(input, size_of::<Header>()),
        1 => {
            let slot = layout.registry + input.below(SLOTS_HIT) * size_of::<Slot>();
            slot + within(input, size_of::<Slot>())
        }
        2 => {
            let object = layout.objects + input.below(OBJECTS_HIT) * size_of::<Object>();
            object + within(input, size_of::<Object>())
        }
        // The words before the holders, which say what it is.
        3 => {
            let object = layout.objects + input.below(OBJECTS_HIT) * size_of::<Object>();
            object + within(input, 32)
        }
        4 | 5 => {
            let (object, _) = input.one_of(&world.objects).expect("there are some");
            let object = layout.objects + object.index as usize * size_of::<Object>();
            object + std::mem::offset_of!(Object, body) + within(input, BODY_USED)
        }
        6 => {
            let page = input.below(world.pages + 2);
            layout.table + page * size_of::<Entry>() + within(input, size_of::<Entry>())
        }
        7 => world.region(input) + within(input, 512),
        _ => layout.payload + within(input, world.pages * manycore_os::mapping::PAGE),
    }
}
