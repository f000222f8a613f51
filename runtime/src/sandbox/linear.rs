//! Linear memory that is used again. It holds a component's initial memory when an instance begins; what
//! the instance wrote is found with PAGEMAP_SCAN afterwards and written back, without a page fault and
//! without a change of mappings. Wasmtime's own pool does the same for the first 32 runs of pages and faults the
//! others in again each time, which is three quarters of what a JavaScript request costs.

use std::cell::RefCell;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::pagemap::{Run, dirty};
use crate::core_number::CoreNumber;

/// Runs of dirty pages that one scan tells of. StarlingMonkey leaves about 60.
const RUNS: usize = 512;

/// Address space of each memory: all that 32 bits can address, so that compiled code needs no checks.
pub const CAPACITY: usize = 4 << 30;

/// Never accessible, on both sides of each memory: an access may have a constant offset of so much.
pub const GUARD: usize = 32 << 20;

/// Compiled code may also reach below the memory.
const RESERVED: usize = CAPACITY + 2 * GUARD;

/// Memories that are kept for the next instances of a component.
const KEPT: usize = 32;

/// How long one of them is kept: each holds what has ever been written to it.
const EXPIRY: Duration = Duration::from_secs(10);

/// What is worth copying back, bytes; beyond it dropping the pages is cheaper.
const WORTH_COPYING: usize = 4 << 20;

thread_local! {
    /// The memory for the instance that is being made on this thread.
    static NEXT: RefCell<Option<Arc<Linear>>> = const { RefCell::new(None) };
}

/// The memory of one instance.
struct Linear {
    reservation: NonNull<c_void>,
    base: *mut u8,
    /// Accessible bytes.
    size: AtomicUsize,
}

// SAFETY: the pointers are to a mapping of its own; the guest that uses it and whoever resets it never
// run at the same time, because both need the store.
unsafe impl Send for Linear {}
// SAFETY: as above.
unsafe impl Sync for Linear {}

impl Linear {
    /// Reserves a memory that begins with an image.
    fn new(image: &Image) -> io::Result<Self> {
        let linear = Self::reserve()?;
        linear.grow(image.size)?;
        // SAFETY: it replaces pages of this memory, to which nobody has a reference yet.
        unsafe {
            mmap(
                linear.base.cast(),
                image.size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
                &image.file,
                image.offset,
            )?;
        }
        Ok(linear)
    }

    fn reserve() -> io::Result<Self> {
        // SAFETY: a new mapping where the kernel finds room.
        let reservation = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                RESERVED,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let reservation = NonNull::new(reservation).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the guard lies within the reservation.
        let base = unsafe { reservation.as_ptr().cast::<u8>().add(GUARD) };
        Ok(Self { reservation, base, size: AtomicUsize::new(0) })
    }

    /// Accessible bytes.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    fn grow(&self, size: usize) -> io::Result<()> {
        let old = self.size();
        if size > CAPACITY {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if size > old {
            // SAFETY: within the reservation, and not accessible yet, so nobody has a reference to it.
            unsafe {
                mprotect(self.base.add(old).cast(), size - old, MprotectFlags::READ | MprotectFlags::WRITE)?;
            }
            self.size.store(size, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts the memory back into the state of the image, which it was made with.
    ///
    /// # Safety
    /// No guest may run in it meanwhile.
    pub unsafe fn reset(&self, image: &Image) -> io::Result<()> {
        self.shrink(image.size)?;
        let (start, end) = (self.base.addr(), self.base.addr() + image.size);
        let mut runs = [Run::default(); RUNS];
        let (mut from, mut left) = (start, WORTH_COPYING);
        while from < end {
            let Some((found, walked)) = dirty(from, end, &mut runs) else { break };
            for run in runs.get(..found).unwrap_or_default() {
                // The pages before the run are as they were.
                left = match left.checked_sub(run.size()) {
                    Some(left) => left,
                    None => return self.drop_pages(from, end),
                };
                // SAFETY: the kernel tells of pages between `from` and `end`, which are this memory's.
                unsafe { self.restore(run, image) };
            }
            if walked <= from {
                break;
            }
            from = walked;
        }
        // Where the kernel cannot tell what was written, everything is dropped.
        self.drop_pages(from, end)
    }

    /// What was grown is gone, and what it held.
    fn shrink(&self, size: usize) -> io::Result<()> {
        let old = self.size();
        if old > size {
            self.drop_pages(self.base.addr() + size, self.base.addr() + old)?;
            // SAFETY: within the reservation; no guest runs and nobody else has references to it.
            unsafe { mprotect(self.base.add(size).cast(), old - size, MprotectFlags::empty())? };
            self.size.store(size, Ordering::Relaxed);
        }
        Ok(())
    }

    /// # Safety
    /// The run has to lie within the accessible memory.
    unsafe fn restore(&self, run: &Run, image: &Image) {
        let at = run.start().saturating_sub(self.base.addr());
        let original = image.bytes().get(at..).unwrap_or_default();
        let original = original.get(..run.size()).unwrap_or(original);
        // SAFETY: within the memory, as the caller promised; the image is another mapping.
        unsafe {
            let target = self.base.add(at);
            ptr::copy_nonoverlapping(original.as_ptr(), target, original.len());
            ptr::write_bytes(target.add(original.len()), 0, run.size() - original.len());
        }
    }

    /// Private pages go back to the image's, anonymous ones to zero.
    fn drop_pages(&self, from: usize, end: usize) -> io::Result<()> {
        if from < end {
            // SAFETY: pages of this memory; no guest runs and nobody else has references to it.
            unsafe {
                let at = self.base.add(from - self.base.addr());
                madvise(at.cast(), end - from, Advice::LinuxDontNeed)?;
            }
        }
        Ok(())
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        // SAFETY: the whole reservation and nothing else; the instance that used it is gone.
        let unmapped = unsafe { munmap(self.reservation.as_ptr(), RESERVED) };
        debug_assert!(unmapped.is_ok(), "a reservation can be given back");
    }
}

/// A component's initial memory. Shared by all instances of an artifact.
pub struct Image {
    file: File,
    /// Where it begins in the file, bytes; whole pages.
    offset: u64,
    size: usize,
    view: Mmap,
    free: Mutex<Vec<Free>>,
    /// Whether a task looks after expiry.
    watched: AtomicBool,
}

/// A memory that waits for its next instance.
struct Free {
    linear: Arc<Linear>,
    /// The core that has it in its cache.
    core: CoreNumber,
    since: Instant,
}

impl Image {
    /// Keeps a component's initial memory, in memory.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let file = File::from(memfd_create("af-image", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, bytes.len() as u64)?;
        write_sparse(&file, bytes)?;
        Self::of(file, 0, bytes.len())
    }

    /// A component's initial memory as a file has it. Nobody may write to the file any more.
    ///
    /// # Errors
    /// When the file cannot be mapped, as when `offset` is within a page.
    pub fn of(file: File, offset: u64, size: usize) -> io::Result<Self> {
        // SAFETY: files of artifacts are replaced, never written to; a memory file has no name.
        let view = unsafe { MmapOptions::new().offset(offset).len(size).map(&file) }?;
        Ok(Self { file, offset, size, view, free: Mutex::default(), watched: AtomicBool::new(false) })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Free>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a memory for the next instance, for a while.
    fn keep(self: &Arc<Self>, linear: Arc<Linear>) {
        let mut free = self.free();
        if free.len() < KEPT {
            free.push(Free { linear, core: CoreNumber::here(), since: Instant::now() });
        }
        drop(free);
        if !self.watched.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !self.watched.swap(true, Ordering::Relaxed)
        {
            runtime.spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Gives back what has waited for too long. Whether anything is left.
    fn expire(&self, now: Instant) -> bool {
        let mut free = self.free();
        let (expired, kept): (Vec<_>, Vec<_>) =
            free.drain(..).partition(|free| now.saturating_duration_since(free.since) >= EXPIRY);
        *free = kept;
        let left = !free.is_empty();
        drop(free);
        drop(expired);
        if !left {
            self.watched.store(false, Ordering::Relaxed);
        }
        left
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    fn bytes(&self) -> &[u8] {
        &self.view
    }

    /// A memory for the next instance that is made on this thread.
    ///
    /// # Errors
    /// When the system has no address space for it.
    pub fn lend(self: &Arc<Self>) -> io::Result<Loan> {
        let here = CoreNumber::here();
        let mut free = self.free();
        let own = free.iter().rposition(|free| free.core == here).or(free.len().checked_sub(1));
        let kept = own.map(|at| free.swap_remove(at).linear);
        drop(free);
        let linear = match kept {
            Some(linear) => linear,
            None => Arc::new(Linear::new(self)?),
        };
        NEXT.set(Some(linear.clone()));
        Ok(Loan { linear: Some(linear), image: self.clone() })
    }
}

/// A memory that is an instance's. Must be dropped after the instance's store.
pub struct Loan {
    linear: Option<Arc<Linear>>,
    image: Arc<Image>,
}

impl Loan {
    /// Gives the memory back to the system when its instance ends, instead of keeping it for another.
    pub fn forget(&mut self) {
        self.linear = None;
    }

    /// Puts the memory back into the state of the image while its instance lives on.
    ///
    /// # Safety
    /// No guest may run in it, and the instance has to ask for its size before it does again.
    pub unsafe fn reset(&self) -> io::Result<()> {
        // SAFETY: as the caller promised.
        self.linear.as_ref().map_or(Ok(()), |linear| unsafe { linear.reset(&self.image) })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Whoever still has it might still run in it; then it is not used again.
        let Some(linear) = self.linear.take().filter(|linear| Arc::strong_count(linear) == 1) else { return };
        // SAFETY: the store is gone, so no guest can run in it.
        if unsafe { linear.reset(&self.image) }.is_ok() {
            self.image.keep(linear);
        }
    }
}

async fn watch(image: Weak<Image>) {
    loop {
        tokio::time::sleep(EXPIRY / 4).await;
        if !image.upgrade().is_some_and(|image| image.expire(Instant::now())) {
            return;
        }
    }
}

/// Leaves out what is zero, which most of a fresh memory is.
fn write_sparse(file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const PAGE: usize = 4096;
    for (number, page) in (0_u64..).zip(bytes.chunks(PAGE)) {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, number * PAGE as u64)?;
        }
    }
    Ok(())
}

/// Gives instances of one engine the memory that was lent for them.
pub struct LinearMemories;

// SAFETY: memories are reserved with all that is asked for and guards on both sides, hold at first what
// was taken out of their component, and are changed only by their guest and, once it is gone, by
// `Linear::reset`.
unsafe impl MemoryCreator for LinearMemories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let linear = NEXT.take().ok_or("no memory was lent for this instance")?;
        if linear.size() != minimum || reserved != Some(CAPACITY) || guard != GUARD {
            return Err("the memory that was lent is not what this instance needs".into());
        }
        Ok(Box::new(Owned(linear)))
    }
}

/// A memory as Wasmtime has it.
struct Owned(Arc<Linear>);

// SAFETY: as for `LinearMemories`; the base never moves.
unsafe impl LinearMemory for Owned {
    fn byte_size(&self) -> usize {
        self.0.size()
    }

    fn byte_capacity(&self) -> usize {
        CAPACITY
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        Ok(self.0.grow(size)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn write(memory: &Linear, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= memory.size());
        // SAFETY: within the accessible memory of a test that runs no guest.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.base.add(at), bytes.len()) };
    }

    fn bytes(memory: &Linear) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(memory.base, memory.size()) }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn the_next_instance_finds_nothing_of_what_was_written(
            seed: [u8; 32],
            rounds in proptest::collection::vec(
                proptest::collection::vec((0_usize..95 * PAGE, proptest::prelude::any::<[u8; 32]>()), 0..40), 1..4),
        ) {
            let mut first = vec![0; 64 * PAGE];
            first[5 * PAGE..][..32].copy_from_slice(&seed);
            let image = Arc::new(Image::new(&first).unwrap());
            for round in rounds {
                let loan = image.lend().unwrap();
                let memory = NEXT.take().unwrap();
                proptest::prop_assert!(bytes(&memory) == first);
                memory.grow(96 * PAGE).unwrap();
                proptest::prop_assert!(bytes(&memory)[64 * PAGE..].iter().all(|byte| *byte == 0));
                round.iter().for_each(|(at, bytes)| write(&memory, *at, bytes));
                drop(memory);
                drop(loan);
                proptest::prop_assert_eq!(image.free.lock().unwrap().len(), 1);
            }
        }
    }

    #[test]
    fn more_than_is_worth_copying_is_dropped() {
        let image = Arc::new(Image::new(&vec![1; 2 * WORTH_COPYING]).unwrap());
        drop(image.lend().unwrap());
        let memory = NEXT.take().unwrap();
        write(&memory, 0, &vec![7; 2 * WORTH_COPYING]);
        // SAFETY: no guest runs.
        unsafe { memory.reset(&image).unwrap() };
        assert!(bytes(&memory).iter().all(|byte| *byte == 1));
    }

    #[test]
    fn a_memory_that_nobody_wants_is_given_back() {
        let image = Arc::new(Image::new(&[0; PAGE]).unwrap());
        let now = Instant::now();
        let loan = image.lend().unwrap();
        drop(NEXT.take());
        drop(loan);
        assert!(image.expire(now));
        assert!(!image.expire(now + 2 * EXPIRY));
        assert!(image.free().is_empty());
    }

    #[test]
    fn a_memory_that_is_still_used_is_not_lent_again() {
        let image = Arc::new(Image::new(&[0; PAGE]).unwrap());
        let loan = image.lend().unwrap();
        let used = NEXT.take().unwrap();
        drop(loan);
        assert!(image.free.lock().unwrap().is_empty());
        drop(used);
    }
}
