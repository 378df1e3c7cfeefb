//! What a started process is told on its command line.
//!
//! One argument, the first after the program's name. No environment variable: that would be inherited
//! by whatever the process starts itself.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;

use manycore_ipc::Handle;

const MARKER: &str = "--manycore-child=";

/// The numbers in that argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The descriptor of the family's heap.
    pub(crate) heap: RawFd,
    /// The read end of the lifeline.
    pub(crate) lifeline: RawFd,
    /// The build id of the program that wrote this.
    pub(crate) build: u64,
    /// The ring in which the call waits and which takes the answer.
    pub(crate) ring: Handle,
}

impl Start {
    /// The argument.
    pub(crate) fn to_argument(self) -> OsString {
        let Self {
            heap,
            lifeline,
            build,
            ring,
        } = self;
        let Handle {
            family,
            index,
            generation,
        } = ring;
        format!("{MARKER}{heap}:{lifeline}:{build:x}:{family:x}:{index}:{generation}").into()
    }

    /// Whether an argument claims to be one of these. `Some(None)` when it claims so in vain.
    pub(crate) fn from_argument(argument: &OsStr) -> Option<Option<Self>> {
        argument.to_str()?.strip_prefix(MARKER).map(Self::parse)
    }

    fn parse(numbers: &str) -> Option<Self> {
        let mut fields = numbers.split(':');
        let start = Self {
            heap: fields.next()?.parse().ok()?,
            lifeline: fields.next()?.parse().ok()?,
            build: hexadecimal(fields.next()?)?,
            ring: Handle {
                family: hexadecimal(fields.next()?)?,
                index: fields.next()?.parse().ok()?,
                generation: fields.next()?.parse().ok()?,
            },
        };
        fields.next().is_none().then_some(start)
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let ring = Handle {
            family: u64::MAX,
            index: 7,
            generation: 9,
        };
        let start = Start {
            heap: 100,
            lifeline: 4,
            build: 0xabc,
            ring,
        };
        assert_eq!(
            Start::from_argument(&start.to_argument()),
            Some(Some(start))
        );
    }

    #[test]
    fn other_arguments_are_the_programs_own() {
        for other in ["", "--help", "--manycore-child", "x--manycore-child=1"] {
            assert_eq!(Start::from_argument(OsStr::new(other)), None);
        }
        for broken in ["", "1", "1:2:3:4:5", "1:2:3:4:5:6:7", "a:2:3:4:5:6"] {
            let argument = OsString::from(format!("{MARKER}{broken}"));
            assert_eq!(Start::from_argument(&argument), Some(None), "{broken}");
        }
    }
}
