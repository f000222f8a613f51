//! Stacks that guests run on, kept for the next guest: to map one costs more than a small request.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use wasmtime::{StackCreator, StackMemory};

/// Below each stack, never accessible.
const GUARD: usize = 64 << 10;

/// Stacks that are kept. Each holds what the deepest guest before has touched.
const KEPT: usize = 64;

/// Makes stacks for one engine and takes them back.
#[derive(Default)]
pub struct Stacks {
    free: Arc<Mutex<Vec<Stack>>>,
}

struct Stack {
    mapping: NonNull<c_void>,
    size: usize,
}

// SAFETY: it owns its mapping, and nobody else knows the address while it is free.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

impl Stack {
    fn new(size: usize) -> io::Result<Self> {
        let size = size.next_multiple_of(GUARD) + GUARD;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping where the kernel finds room.
        let mapping = unsafe { mmap_anonymous(ptr::null_mut(), size, ProtFlags::empty(), flags) }?;
        let mapping = NonNull::new(mapping).ok_or(io::ErrorKind::OutOfMemory)?;
        let stack = Self { mapping, size };
        // SAFETY: all of the mapping above the guard.
        unsafe {
            let above = mapping.as_ptr().cast::<u8>().add(GUARD);
            mprotect(above.cast(), size - GUARD, MprotectFlags::READ | MprotectFlags::WRITE)?;
        }
        Ok(stack)
    }

    fn usable(&self) -> usize {
        self.size - GUARD
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: its own mapping; whoever ran on it has ended.
        let unmapped = unsafe { munmap(self.mapping.as_ptr(), self.size) };
        debug_assert!(unmapped.is_ok(), "a stack can be given back");
    }
}

// SAFETY: every stack is mapped, has a guard below it, and belongs to one guest at a time.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // Guests cannot read what is left on a stack: compiled code writes before it reads.
        let kept = if zeroed { None } else { free.pop().filter(|stack| stack.usable() >= size) };
        drop(free);
        let stack = kept.map_or_else(|| Stack::new(size), Ok)?;
        Ok(Box::new(Lent { stack: Some(stack), home: self.free.clone() }))
    }
}

/// A stack in use.
struct Lent {
    stack: Option<Stack>,
    home: Arc<Mutex<Vec<Stack>>>,
}

impl Lent {
    fn mapping(&self) -> (*mut u8, usize) {
        self.stack.as_ref().map_or((ptr::null_mut(), 0), |stack| (stack.mapping.as_ptr().cast(), stack.size))
    }
}

// SAFETY: the addresses are those of its own mapping.
unsafe impl StackMemory for Lent {
    fn top(&self) -> *mut u8 {
        let (bottom, size) = self.mapping();
        bottom.wrapping_add(size)
    }

    fn range(&self) -> Range<usize> {
        let (bottom, size) = self.mapping();
        bottom.addr() + GUARD..bottom.addr() + size
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let (bottom, _) = self.mapping();
        bottom..bottom.wrapping_add(GUARD)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.extend(self.stack.take());
        }
    }
}
