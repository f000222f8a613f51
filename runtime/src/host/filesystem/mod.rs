//! `wasi:filesystem`: the files of a deployment's assets, read-only. Only what a guest opens is read, and each
//! block is verified before a byte of it is passed on.
//!
//! The interfaces are linked over Wasmtime's own, whose files are those of the host. A handle is a number
//! to both; what it stands for is ours ([`Descriptor`]).

mod files;
mod path;
mod piped;
mod private;
mod produce;
mod stream;
mod v02;
mod v03;

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::{p2, p3};

pub use self::files::{Assets, Files};
use self::files::{Descriptor, FileError};
pub use self::piped::Piped;
use crate::sandbox::State;

/// The most that one call reads into a list of bytes, which is copied; as Wasmtime's own.
const READ_BYTES: usize = 64 << 10;

/// What an instance's calls of `wasi:filesystem` work on.
pub struct FilesystemView<'a> {
    /// None when its deployment has no assets; then there is no handle to call anything on, either.
    pub files: Option<&'a Arc<Files>>,
    /// All its handles.
    pub table: &'a mut ResourceTable,
}

impl FilesystemView<'_> {
    fn descriptor(&self, number: u32) -> Result<Descriptor, ResourceTableError> {
        self.table.get(&Resource::<Descriptor>::new_borrow(number)).copied()
    }

    fn files(&self) -> Result<&Arc<Files>, ResourceTableError> {
        self.files.ok_or(ResourceTableError::NotPresent)
    }

    fn opened(&self, number: u32) -> Result<Opened, ResourceTableError> {
        Ok(Opened { files: self.files()?.clone(), at: self.descriptor(number)? })
    }

    fn push(&mut self, descriptor: Descriptor) -> Result<u32, ResourceTableError> {
        Ok(self.table.push(descriptor)?.rep())
    }

    fn close(&mut self, number: u32) -> Result<(), ResourceTableError> {
        self.table.delete(Resource::<Descriptor>::new_own(number)).map(drop)
    }

    /// `preopens.get-directories`: one, if there are assets.
    fn preopened(&mut self) -> Result<Vec<(u32, String)>, ResourceTableError> {
        let Some(root) = self.files.map(|files| files.root()) else { return Ok(Vec::new()) };
        Ok(vec![(self.push(root)?, "/".to_owned())])
    }
}

/// What a call on a handle needs, and may keep while it waits.
struct Opened {
    files: Arc<Files>,
    at: Descriptor,
}

impl Opened {
    async fn find(self, path: &str) -> Result<Descriptor, FileError> {
        self.files.find(self.at, path).await
    }
}

/// Names [`FilesystemView`] to the linker.
struct Filesystem;

impl HasData for Filesystem {
    type Data<'a> = FilesystemView<'a>;
}

/// Links version 0.2 over what is linked already.
pub fn add_to_linker_02(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use p2::bindings::filesystem::{preopens, types};
    linker.allow_shadowing(true);
    types::add_to_linker::<State, Filesystem>(linker, State::filesystem)?;
    preopens::add_to_linker::<State, Filesystem>(linker, State::filesystem)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Links version 0.3 over what is linked already.
pub fn add_to_linker_03(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use p3::bindings::filesystem::{preopens, types};
    linker.allow_shadowing(true);
    types::add_to_linker::<State, Filesystem>(linker, State::filesystem)?;
    preopens::add_to_linker::<State, Filesystem>(linker, State::filesystem)?;
    linker.allow_shadowing(false);
    Ok(())
}
