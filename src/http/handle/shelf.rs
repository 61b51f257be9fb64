//! A bounded place for what is looked up with every request and may be lost at any time.
//!
//! A cache that keeps track of what is used costs more for each look-up than all else that an
//! answer from memory needs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

/// The most that a shelf may hold, in bytes.
const CAPACITY: usize = 16 << 20;

/// Parts with a lock of their own.
const BOARDS: usize = 16;

/// Values by the keyed hash of what they are for, and the sizes that were told of them.
pub(super) struct Shelf<T> {
    boards: [RwLock<Board<T>>; BOARDS],
}

struct Board<T> {
    values: HashMap<u64, (Arc<T>, usize), BuildHasherDefault<AsIs>>,
    size_bytes: usize,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        let board = || RwLock::new(Board { values: HashMap::default(), size_bytes: 0 });
        Self { boards: std::array::from_fn(|_| board()) }
    }
}

impl<T> Shelf<T> {
    /// The value under `key`, which is a keyed hash: whether it is the right one is to be seen by
    /// comparing what was hashed.
    pub(super) fn get(&self, key: u64) -> Option<Arc<T>> {
        let board = self.board(key).read().unwrap_or_else(PoisonError::into_inner);
        board.values.get(&key).map(|(value, _)| Arc::clone(value))
    }

    /// Puts a value in the place of the one under `key`; any others make room for it. One that is
    /// larger than its board is not kept.
    pub(super) fn put(&self, key: u64, value: Arc<T>, size_bytes: usize) {
        const ROOM: usize = CAPACITY / BOARDS;
        if size_bytes > ROOM {
            return;
        }
        let mut board = self.board(key).write().unwrap_or_else(PoisonError::into_inner);
        board.remove(key);
        while board.size_bytes + size_bytes > ROOM {
            // Which one is as good as chance: the keys are.
            let Some(other) = board.values.keys().next().copied() else { break };
            board.remove(other);
        }
        board.size_bytes += size_bytes;
        board.values.insert(key, (value, size_bytes));
    }

    fn board(&self, key: u64) -> &RwLock<Board<T>> {
        &self.boards[usize::from(key.to_be_bytes()[2]) % BOARDS]
    }
}

impl<T> Board<T> {
    fn remove(&mut self, key: u64) {
        if let Some((_, size_bytes)) = self.values.remove(&key) {
            self.size_bytes -= size_bytes;
        }
    }
}

/// A hasher for keys that are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(shelf: &Shelf<u64>) -> (usize, usize) {
        let boards = shelf.boards.iter().map(|board| board.read().unwrap());
        boards.fold((0, 0), |(count, size), board| {
            let told = board.values.values().map(|(_, size)| size).sum::<usize>();
            assert_eq!(told, board.size_bytes);
            (count + board.values.len(), size + told)
        })
    }

    /// As spread as the hashes that real keys are.
    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn what_was_put_last_is_found_and_what_was_put_before_it_is_not() {
        let shelf = Shelf::default();
        for number in [7, 8] {
            shelf.put(key(1), Arc::new(number), 100);
        }
        assert_eq!((shelf.get(key(1)), shelf.get(key(2))), (Some(Arc::new(8)), None));
        assert_eq!(held(&shelf), (1, 100));
    }

    #[test]
    fn a_shelf_never_holds_more_than_it_may_however_much_is_put() {
        let shelf = Shelf::default();
        for number in 0..20_000 {
            shelf.put(
                key(number),
                Arc::new(number),
                2000 + usize::try_from(number % 7000).unwrap(),
            );
            assert_eq!(shelf.get(key(number)), Some(Arc::new(number)));
        }
        let (count, size) = held(&shelf);
        assert!(count > 1000 && size > CAPACITY / 2 && size <= CAPACITY, "{count}, {size} bytes");
        shelf.put(key(20_000), Arc::new(1), CAPACITY / BOARDS + 1);
        assert_eq!(shelf.get(key(20_000)), None, "what is too large is not kept");
    }
}
