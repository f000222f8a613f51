//! `wasi:filesystem` 0.2. What would change something is refused in one place, at the end.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::files::{Descriptor, FileError, Kind};
use super::stream::FileStream;
use super::{FilesystemView, Opened, READ_BYTES};

use types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};

/// A handle, which is a number here.
type Handle = Resource<types::Descriptor>;

/// A directory that is being listed: which entry is next.
struct Listed {
    directory: Descriptor,
    next: usize,
}

impl From<FileError> for FsError {
    fn from(error: FileError) -> Self {
        match code(error) {
            Some(code) => code.into(),
            None => Self::trap(error),
        }
    }
}

/// None for what ends the call.
fn code(error: FileError) -> Option<ErrorCode> {
    Some(match error {
        FileError::NoEntry => ErrorCode::NoEntry,
        FileError::NotDirectory => ErrorCode::NotDirectory,
        FileError::IsDirectory => ErrorCode::IsDirectory,
        FileError::NotPermitted => ErrorCode::NotPermitted,
        FileError::NameTooLong => ErrorCode::NameTooLong,
        FileError::Invalid => ErrorCode::Invalid,
        FileError::ReadOnly => ErrorCode::ReadOnly,
        FileError::Io => ErrorCode::Io,
        FileError::Stopped => return None,
    })
}

fn kind(descriptor: Descriptor) -> DescriptorType {
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

impl preopens::Host for FilesystemView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let directories = self.preopened()?;
        Ok(directories.into_iter().map(|(number, path)| (Resource::new_own(number), path)).collect())
    }
}

impl types::Host for FilesystemView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<FileError>().copied().and_then(code))
    }
}

impl types::HostDirectoryEntryStream for FilesystemView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let files = self.files()?.clone();
        let listed = self.table.get_mut(&Resource::<Listed>::new_borrow(stream.rep()))?;
        let Some((name, entry)) = files.entry(listed.directory, listed.next).await? else { return Ok(None) };
        listed.next += 1;
        Ok(Some(DirectoryEntry { type_: kind(entry), name }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Listed>::new_own(stream.rep()))?;
        Ok(())
    }
}

impl types::HostDescriptor for FilesystemView<'_> {
    fn read_via_stream(&mut self, handle: Handle, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let Opened { files, at: file } = self.opened(handle.rep())?;
        if file.kind == Kind::Directory {
            return Err(FileError::IsDirectory.into());
        }
        let stream: DynInputStream = Box::new(FileStream::new(files, file, offset));
        Ok(self.table.push(stream)?)
    }

    async fn read(&mut self, handle: Handle, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        let Opened { files, at: file } = self.opened(handle.rep())?;
        let bytes = files.read(file, offset).await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(READ_BYTES).min(bytes.len());
        Ok((bytes.slice(..length).to_vec(), bytes.is_empty()))
    }

    async fn read_directory(&mut self, handle: Handle) -> FsResult<Resource<DirectoryEntryStream>> {
        let directory = self.descriptor(handle.rep())?;
        if directory.kind != Kind::Directory {
            return Err(FileError::NotDirectory.into());
        }
        let listed = self.table.push(Listed { directory, next: 0 })?;
        Ok(Resource::new_own(listed.rep()))
    }

    async fn open_at(
        &mut self,
        handle: Handle,
        _: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let changes = how.intersects(OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE)
            || flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY);
        if changes {
            return Err(FileError::ReadOnly.into());
        }
        let found = self.opened(handle.rep())?.find(&path).await?;
        if how.contains(OpenFlags::DIRECTORY) && found.kind != Kind::Directory {
            return Err(FileError::NotDirectory.into());
        }
        Ok(Resource::new_own(self.push(found)?))
    }

    async fn stat(&mut self, handle: Handle) -> FsResult<DescriptorStat> {
        Ok(stat(self.descriptor(handle.rep())?))
    }

    async fn stat_at(&mut self, handle: Handle, _: PathFlags, path: String) -> FsResult<DescriptorStat> {
        Ok(stat(self.opened(handle.rep())?.find(&path).await?))
    }

    async fn get_flags(&mut self, handle: Handle) -> FsResult<DescriptorFlags> {
        self.descriptor(handle.rep())?;
        Ok(DescriptorFlags::READ)
    }

    async fn get_type(&mut self, handle: Handle) -> FsResult<DescriptorType> {
        Ok(kind(self.descriptor(handle.rep())?))
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        Ok(self.descriptor(one.rep())?.id == self.descriptor(other.rep())?.id)
    }

    async fn metadata_hash(&mut self, handle: Handle) -> FsResult<MetadataHashValue> {
        Ok(hash(self.descriptor(handle.rep())?))
    }

    async fn metadata_hash_at(
        &mut self,
        handle: Handle,
        _: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash(self.opened(handle.rep())?.find(&path).await?))
    }

    async fn readlink_at(&mut self, handle: Handle, path: String) -> FsResult<String> {
        self.opened(handle.rep())?.find(&path).await?;
        Err(FileError::Invalid.into())
    }

    async fn advise(&mut self, handle: Handle, _: u64, _: u64, _: Advice) -> FsResult<()> {
        Ok(self.descriptor(handle.rep()).map(drop)?)
    }

    async fn sync(&mut self, handle: Handle) -> FsResult<()> {
        Ok(self.descriptor(handle.rep()).map(drop)?)
    }

    async fn sync_data(&mut self, handle: Handle) -> FsResult<()> {
        Ok(self.descriptor(handle.rep()).map(drop)?)
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        Ok(self.close(handle.rep())?)
    }

    fn write_via_stream(&mut self, _: Handle, _: u64) -> FsResult<Resource<DynOutputStream>> {
        Err(FileError::ReadOnly.into())
    }

    fn append_via_stream(&mut self, _: Handle) -> FsResult<Resource<DynOutputStream>> {
        Err(FileError::ReadOnly.into())
    }

    async fn write(&mut self, _: Handle, _: Vec<u8>, _: u64) -> FsResult<u64> {
        Err(FileError::ReadOnly.into())
    }

    async fn set_size(&mut self, _: Handle, _: u64) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn set_times(&mut self, _: Handle, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn set_times_at(
        &mut self,
        _: Handle,
        _: PathFlags,
        _: String,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn create_directory_at(&mut self, _: Handle, _: String) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn link_at(&mut self, _: Handle, _: PathFlags, _: String, _: Handle, _: String) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn symlink_at(&mut self, _: Handle, _: String, _: String) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn rename_at(&mut self, _: Handle, _: String, _: Handle, _: String) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn unlink_file_at(&mut self, _: Handle, _: String) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }

    async fn remove_directory_at(&mut self, _: Handle, _: String) -> FsResult<()> {
        Err(FileError::ReadOnly.into())
    }
}
