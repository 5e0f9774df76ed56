//! The process's allocator: dlmalloc, with freed blocks kept by each thread for its next allocations of their size.
//!
//! A request allocates and frees some hundred small blocks, and dlmalloc has one lock, for which the threads of a service wait. What a thread
//! keeps here is taken and given without it, and is bounded: an idle service holds no more than its last requests had freed. musl's own
//! allocator maps memory page by page at each start, and gives pages back for which the next request asks again.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::NonNull;

use dlmalloc::GlobalDlmalloc;

/// Blocks up to this size, in bytes, have a class for each multiple of [`STEP`]…
const SMALL: usize = 1 << 10;
const STEP: usize = 16;
const SMALL_CLASSES: usize = SMALL / STEP;
/// …and larger ones up to this size for each power of two; what is larger still is dlmalloc's alone.
const LARGE: usize = 32 << 10;
const LARGE_CLASSES: usize = (LARGE / SMALL).ilog2() as usize;
/// Small ones that are to be aligned to as much as this (tokio's channels, of which each body has one) have a class for each multiple of it.
const ALIGNED: usize = 128;
const ALIGNED_FROM: usize = SMALL_CLASSES + LARGE_CLASSES;
const CLASSES: usize = ALIGNED_FROM + SMALL / ALIGNED;

/// What a thread keeps at most, of one class and of all, in bytes.
const KEPT_OF_CLASS: usize = 32 << 10;
const KEPT: usize = 256 << 10;

thread_local! {
    static BLOCKS: Blocks = const { Blocks::new() };
}

/// Gives what this thread has kept back to dlmalloc: the blocks of a start are not those of requests.
pub(crate) fn give_back() {
    // A thread that ends has given back what it had.
    let _ = BLOCKS.try_with(Blocks::give_back);
}

/// The allocator.
pub(crate) struct Heap;

/// The class of blocks that such an allocation is made from; `None` where dlmalloc makes it.
fn class(layout: &Layout) -> Option<usize> {
    // What is empty has the last byte of all.
    let last = layout.size().wrapping_sub(1);
    match layout.align() {
        ..=STEP if last < SMALL => Some(last / STEP),
        ..=STEP if last < LARGE => Some(SMALL_CLASSES + (last / SMALL).ilog2() as usize),
        ..=ALIGNED if last < SMALL => Some(ALIGNED_FROM + last / ALIGNED),
        _ => None,
    }
}

/// The size and alignment of each class's blocks, which are asked for too often to be computed.
static LAYOUTS: [Layout; CLASSES] = {
    let mut layouts = [Layout::new::<u8>(); CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let (size, align) = match class {
            ..SMALL_CLASSES => ((class + 1) * STEP, STEP),
            SMALL_CLASSES..ALIGNED_FROM => (SMALL << (class - SMALL_CLASSES + 1), STEP),
            _ => ((class - ALIGNED_FROM + 1) * ALIGNED, ALIGNED),
        };
        // SAFETY: both alignments are powers of two, and no class is nearly as large as the address space.
        layouts[class] = unsafe { Layout::from_size_align_unchecked(size, align) };
        class += 1;
    }
    layouts
};

fn block(class: usize) -> Layout {
    LAYOUTS[class]
}

// SAFETY: blocks come from dlmalloc with the size of their class, which is no less than what was asked for, and which is found
// again from the layout that they are freed with.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(&layout) {
            Some(class) => {
                let kept = BLOCKS.try_with(|blocks| blocks.take(class)).ok().flatten();
                // SAFETY: the layout of a class is not empty.
                kept.map_or_else(
                    || unsafe { GlobalDlmalloc.alloc(block(class)) },
                    |block| block.as_ptr().cast(),
                )
            }
            // SAFETY: the caller's promise.
            None => unsafe { GlobalDlmalloc.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class(&layout).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { GlobalDlmalloc.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; the block has as many bytes as the layout.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block_at: *mut u8, layout: Layout) {
        let Some(class) = class(&layout) else {
            // SAFETY: what has no class was made by dlmalloc with this layout.
            return unsafe { GlobalDlmalloc.dealloc(block_at, layout) };
        };
        let is_kept = NonNull::new(block_at.cast::<Free>()).is_some_and(|free| {
            // SAFETY: the block is the caller's no more, and it is large enough and aligned for a `Free`.
            BLOCKS.try_with(|blocks| unsafe { blocks.keep(class, free) }).unwrap_or(false)
        });
        if !is_kept {
            // SAFETY: what has a class was made by dlmalloc with the class's layout.
            unsafe { GlobalDlmalloc.dealloc(block_at, block(class)) }
        }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is valid for the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class(&layout), class(&new_layout)) {
            // SAFETY: the caller's promise, for blocks that are dlmalloc's before and after.
            (None, None) => unsafe { GlobalDlmalloc.realloc(old, layout, new_size) },
            (before, after) if before == after => old,
            // SAFETY: both blocks have as many bytes as are copied, and the old one is the caller's no more.
            _ => unsafe {
                let new = self.alloc(new_layout);
                if !new.is_null() {
                    new.copy_from_nonoverlapping(old, layout.size().min(new_size));
                    self.dealloc(old, layout);
                }
                new
            },
        }
    }
}

/// A block that is free; the list that it is in goes through its own bytes.
struct Free {
    next: Option<NonNull<Free>>,
}

/// The free blocks of one class.
struct Class {
    first: Cell<Option<NonNull<Free>>>,
    bytes: Cell<usize>,
}

/// What a thread keeps.
struct Blocks {
    classes: [Class; CLASSES],
    bytes: Cell<usize>,
}

impl Blocks {
    const fn new() -> Self {
        let classes = [const { Class { first: Cell::new(None), bytes: Cell::new(0) } }; CLASSES];
        Self { classes, bytes: Cell::new(0) }
    }

    /// A free block of this class.
    fn take(&self, class: usize) -> Option<NonNull<Free>> {
        let Class { first, bytes } = &self.classes[class];
        let free = first.get()?;
        // SAFETY: what is in the list was put there by `keep` and belongs to nobody else.
        first.set(unsafe { free.as_ref() }.next);
        let size = block(class).size();
        bytes.set(bytes.get() - size);
        self.bytes.set(self.bytes.get() - size);
        Some(free)
    }

    /// Keeps a block for the next one who wants such; `false` where there are enough.
    ///
    /// # Safety
    /// The block must be of this class and nobody's.
    unsafe fn keep(&self, class: usize, free: NonNull<Free>) -> bool {
        let Class { first, bytes } = &self.classes[class];
        let size = block(class).size();
        if bytes.get() + size > KEPT_OF_CLASS || self.bytes.get() + size > KEPT {
            return false;
        }
        // SAFETY: the caller's promise; each block has the size and alignment of a `Free` at least.
        unsafe { free.write(Free { next: first.get() }) };
        first.set(Some(free));
        bytes.set(bytes.get() + size);
        self.bytes.set(self.bytes.get() + size);
        true
    }

    fn give_back(&self) {
        for class in 0..CLASSES {
            while let Some(free) = self.take(class) {
                // SAFETY: what is kept of a class was made by dlmalloc with the class's layout.
                unsafe { GlobalDlmalloc.dealloc(free.as_ptr().cast(), block(class)) }
            }
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn a_class_has_blocks_that_are_large_enough_and_not_much_larger() {
        for size in 1..=LARGE {
            let block = block(class(&layout(size)).unwrap()).size();
            assert!(block >= size && block < 2 * size + STEP, "{size} bytes in a block of {block}");
        }
        assert_eq!(class(&layout(LARGE)), Some(ALIGNED_FROM - 1));
        assert_eq!(class(&layout(LARGE + 1)), None);
        assert_eq!(class(&layout(0)), None);
    }

    #[test]
    fn a_class_is_aligned_as_it_was_asked_for() {
        for (size, align) in [(1, 32), (128, 64), (129, 128), (SMALL, 128)] {
            let asked = Layout::from_size_align(size, align).unwrap();
            let block = block(class(&asked).unwrap());
            assert!(block.size() >= size && block.size() < size + ALIGNED && block.align() >= align);
        }
        let by_dlmalloc =
            [(SMALL + 1, 128), (1, 256)].map(|(size, align)| Layout::from_size_align(size, align));
        assert!(by_dlmalloc.iter().all(|asked| class(asked.as_ref().unwrap()).is_none()));
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        std::thread::spawn(|| {
            // SAFETY: what is allocated is freed once, with its layout.
            unsafe {
                let first = Heap.alloc(layout(5_000));
                Heap.dealloc(first, layout(5_000));
                let second = Heap.alloc(layout(6_000));
                assert_eq!(first, second);
                Heap.dealloc(second, layout(6_000));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_keeps_little_and_gives_it_back() {
        let blocks = Blocks::new();
        for class in 0..CLASSES {
            // SAFETY: the blocks are fresh ones of the class, and the one that is not kept is freed.
            unsafe {
                let mut fresh = GlobalDlmalloc.alloc(block(class));
                while blocks.keep(class, NonNull::new(fresh.cast()).unwrap()) {
                    fresh = GlobalDlmalloc.alloc(block(class));
                }
                GlobalDlmalloc.dealloc(fresh, block(class));
            }
            assert!(blocks.classes[class].bytes.get() <= KEPT_OF_CLASS);
        }
        assert!(blocks.bytes.get() <= KEPT && blocks.bytes.get() > KEPT - KEPT_OF_CLASS);
        blocks.give_back();
        assert_eq!(blocks.bytes.get(), 0);
        assert!((0..CLASSES).all(|class| blocks.take(class).is_none()));
    }

    #[test]
    fn zeroed_memory_is_zero_and_grown_memory_keeps_its_bytes() {
        // SAFETY: what is allocated is freed once, with its layout, and read within it.
        unsafe {
            let used = Heap.alloc(layout(100));
            used.write_bytes(7, 100);
            Heap.dealloc(used, layout(100));
            let zeroed = Heap.alloc_zeroed(layout(100));
            assert_eq!(std::slice::from_raw_parts(zeroed, 100), [0; 100]);
            zeroed.write_bytes(9, 100);
            let grown = Heap.realloc(zeroed, layout(100), 3_000);
            let grown = Heap.realloc(grown, layout(3_000), 100_000);
            let shrunk = Heap.realloc(grown, layout(100_000), 100);
            assert_eq!(std::slice::from_raw_parts(shrunk, 100), [9; 100]);
            Heap.dealloc(shrunk, layout(100));
        }
    }
}
