//! `wasi:filesystem` 0.3. What would change something is refused in one place, at the end.

use futures::channel::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Lift, Lower, Resource, StreamReader};
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::files::{Descriptor, FileError, Kind};
use super::produce::{Entries, Reading};
use super::{Filesystem, FilesystemView, Opened};

use types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};

/// A handle, which is a number here.
type Handle = Resource<types::Descriptor>;

/// How a stream ends.
type Ended = FutureReader<Result<(), ErrorCode>>;

impl From<FileError> for FilesystemError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Stopped => Self::trap(error),
            error => code(error).into(),
        }
    }
}

pub(super) fn code(error: FileError) -> ErrorCode {
    match error {
        FileError::NoEntry => ErrorCode::NoEntry,
        FileError::NotDirectory => ErrorCode::NotDirectory,
        FileError::IsDirectory => ErrorCode::IsDirectory,
        FileError::NotPermitted => ErrorCode::NotPermitted,
        FileError::NameTooLong => ErrorCode::NameTooLong,
        FileError::Invalid => ErrorCode::Invalid,
        FileError::ReadOnly => ErrorCode::ReadOnly,
        FileError::Io | FileError::Stopped => ErrorCode::Io,
    }
}

pub(super) fn kind(descriptor: Descriptor) -> DescriptorType {
    match descriptor.kind {
        Kind::File(_) => DescriptorType::RegularFile,
        Kind::Directory => DescriptorType::Directory,
    }
}

fn stat(descriptor: Descriptor) -> DescriptorStat {
    DescriptorStat {
        type_: kind(descriptor),
        link_count: 1,
        size: descriptor.size(),
        data_access_timestamp: None,
        data_modification_timestamp: None,
        status_change_timestamp: None,
    }
}

fn hash(descriptor: Descriptor) -> MetadataHashValue {
    let (lower, upper) = descriptor.hash();
    MetadataHashValue { lower, upper }
}

fn descriptor<U>(store: &Accessor<U, Filesystem>, handle: &Handle) -> FilesystemResult<Descriptor> {
    Ok(store.with(|mut store| store.get().descriptor(handle.rep()))?)
}

fn opened<U>(store: &Accessor<U, Filesystem>, handle: &Handle) -> FilesystemResult<Opened> {
    Ok(store.with(|mut store| store.get().opened(handle.rep()))?)
}

/// A stream that is over before it began.
fn refused<U, T: Lower + Lift + Send + Sync + Unpin + 'static>(
    mut store: Access<'_, U, Filesystem>,
    error: FileError,
) -> wasmtime::Result<(StreamReader<T>, Ended)> {
    let stream = StreamReader::new(&mut store, Vec::<T>::new())?;
    Ok((stream, FutureReader::new(&mut store, async move { wasmtime::error::Ok(Err(code(error))) })?))
}

impl preopens::Host for FilesystemView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let directories = self.preopened()?;
        Ok(directories.into_iter().map(|(number, path)| (Resource::new_own(number), path)).collect())
    }
}

impl types::Host for FilesystemView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl types::HostDescriptor for FilesystemView<'_> {
    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        Ok(self.close(handle.rep())?)
    }
}

impl<U> types::HostDescriptorWithStore<U> for Filesystem {
    fn read_via_stream(
        mut store: Access<'_, U, Self>,
        handle: Handle,
        offset: u64,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let Opened { files, at: file } = store.get().opened(handle.rep())?;
        if file.kind == Kind::Directory {
            return refused(store, FileError::IsDirectory);
        }
        let (ended, end) = oneshot::channel();
        let stream = StreamReader::new(&mut store, Reading::new(files, file, offset, ended))?;
        Ok((stream, FutureReader::new(&mut store, end)?))
    }

    fn read_directory(
        mut store: Access<'_, U, Self>,
        handle: Handle,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ended)> {
        let Opened { files, at: directory } = store.get().opened(handle.rep())?;
        if directory.kind != Kind::Directory {
            return refused(store, FileError::NotDirectory);
        }
        let (ended, end) = oneshot::channel();
        let stream = StreamReader::new(&mut store, Entries::new(files, directory, ended))?;
        Ok((stream, FutureReader::new(&mut store, end)?))
    }

    async fn open_at(
        store: &Accessor<U, Self>,
        handle: Handle,
        _: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Handle> {
        let changes = how.intersects(OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE)
            || flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY);
        if changes {
            return Err(FileError::ReadOnly.into());
        }
        let found = opened(store, &handle)?.find(&path).await?;
        if how.contains(OpenFlags::DIRECTORY) && found.kind != Kind::Directory {
            return Err(FileError::NotDirectory.into());
        }
        Ok(Resource::new_own(store.with(|mut store| store.get().push(found))?))
    }

    async fn stat(store: &Accessor<U, Self>, handle: Handle) -> FilesystemResult<DescriptorStat> {
        Ok(stat(descriptor(store, &handle)?))
    }

    async fn stat_at(
        store: &Accessor<U, Self>,
        handle: Handle,
        _: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        Ok(stat(opened(store, &handle)?.find(&path).await?))
    }

    async fn get_flags(store: &Accessor<U, Self>, handle: Handle) -> FilesystemResult<DescriptorFlags> {
        descriptor(store, &handle)?;
        Ok(DescriptorFlags::READ)
    }

    async fn get_type(store: &Accessor<U, Self>, handle: Handle) -> FilesystemResult<DescriptorType> {
        Ok(kind(descriptor(store, &handle)?))
    }

    async fn is_same_object(store: &Accessor<U, Self>, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        let id = |handle: &Handle| store.with(|mut store| store.get().descriptor(handle.rep())).map(|d| d.id);
        Ok(id(&one)? == id(&other)?)
    }

    async fn metadata_hash(store: &Accessor<U, Self>, handle: Handle) -> FilesystemResult<MetadataHashValue> {
        Ok(hash(descriptor(store, &handle)?))
    }

    async fn metadata_hash_at(
        store: &Accessor<U, Self>,
        handle: Handle,
        _: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        Ok(hash(opened(store, &handle)?.find(&path).await?))
    }

    async fn readlink_at(
        store: &Accessor<U, Self>,
        handle: Handle,
        path: String,
    ) -> FilesystemResult<String> {
        opened(store, &handle)?.find(&path).await?;
        Err(FileError::Invalid.into())
    }

    async fn advise(
        store: &Accessor<U, Self>,
        handle: Handle,
        _: u64,
        _: u64,
        _: Advice,
    ) -> FilesystemResult<()> {
        descriptor(store, &handle).map(drop)
    }

    async fn sync(store: &Accessor<U, Self>, handle: Handle) -> FilesystemResult<()> {
        descriptor(store, &handle).map(drop)
    }

    async fn sync_data(store: &Accessor<U, Self>, handle: Handle) -> FilesystemResult<()> {
        descriptor(store, &handle).map(drop)
    }

    fn write_via_stream(
        mut store: Access<'_, U, Self>,
        _: Handle,
        mut data: StreamReader<u8>,
        _: u64,
    ) -> wasmtime::Result<Ended> {
        data.close(&mut store)?;
        FutureReader::new(&mut store, async { wasmtime::error::Ok(Err(ErrorCode::ReadOnly)) })
    }

    fn append_via_stream(
        mut store: Access<'_, U, Self>,
        _: Handle,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        data.close(&mut store)?;
        FutureReader::new(&mut store, async { wasmtime::error::Ok(Err(ErrorCode::ReadOnly)) })
    }

    async fn set_size(_: &Accessor<U, Self>, _: Handle, _: u64) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn set_times(
        _: &Accessor<U, Self>,
        _: Handle,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn set_times_at(
        _: &Accessor<U, Self>,
        _: Handle,
        _: PathFlags,
        _: String,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn create_directory_at(_: &Accessor<U, Self>, _: Handle, _: String) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn link_at(
        _: &Accessor<U, Self>,
        _: Handle,
        _: PathFlags,
        _: String,
        _: Handle,
        _: String,
    ) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn symlink_at(_: &Accessor<U, Self>, _: Handle, _: String, _: String) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn rename_at(
        _: &Accessor<U, Self>,
        _: Handle,
        _: String,
        _: Handle,
        _: String,
    ) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn unlink_file_at(_: &Accessor<U, Self>, _: Handle, _: String) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn remove_directory_at(_: &Accessor<U, Self>, _: Handle, _: String) -> FilesystemResult<()> {
        Err(FileError::ReadOnly.into())
    }
}
