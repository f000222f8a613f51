//! Which pages of a memory were written to, as the kernel tells (PAGEMAP_SCAN, since Linux 6.7).

use std::ffi::c_void;
use std::fs::File;
use std::ptr;
use std::sync::LazyLock;

use rustix::fd::AsFd;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Run {
    start: u64,
    end: u64,
    categories: u64,
}

impl Run {
    /// Its address.
    #[expect(clippy::cast_possible_truncation, reason = "an address of this process")]
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// Bytes.
    #[expect(clippy::cast_possible_truncation, reason = "a part of this process's address space")]
    pub fn size(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

// SAFETY: the kernel reads and writes one `Scan`, and writes as many `Run`s as it says there is room for.
unsafe impl Ioctl for &mut Scan {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Scan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(*self).cast()
    }

    unsafe fn output_from_ptr(found: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        usize::try_from(found).map_err(|_| rustix::io::Errno::INVAL)
    }
}

/// Pages that were written to: how many runs were found, and where the walk ended. `None` where the kernel
/// cannot tell (before Linux 6.7).
pub fn dirty(from: usize, end: usize, runs: &mut [Run]) -> Option<(usize, usize)> {
    static PAGEMAP: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/pagemap").ok());
    let pagemap = PAGEMAP.as_ref()?;
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        flags: 0,
        start: from as u64,
        end: end as u64,
        walk_end: 0,
        vec: runs.as_mut_ptr().addr() as u64,
        vec_len: runs.len() as u64,
        max_pages: 0,
        // Neither the image's page nor the zero page, in memory or swapped out.
        category_inverted: PAGE_IS_PFNZERO | PAGE_IS_FILE,
        category_mask: PAGE_IS_PFNZERO | PAGE_IS_FILE,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: 0,
    };
    // SAFETY: `Scan` and `Run` are laid out as the kernel has them, and both outlive the call.
    let found = unsafe { ioctl(pagemap.as_fd(), &mut scan) }.ok()?;
    Some((found, usize::try_from(scan.walk_end).ok()?))
}
