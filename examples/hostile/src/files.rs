//! What a bad guest does with the files that it was given.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
use wasip2::io::poll::poll;

/// Opens a path as it is, without a standard library that makes it tidy first.
pub fn open(path: &str) -> String {
    let opened = get_directories().pop().map(|(root, _)| read(&root, path));
    format!("{opened:?}\n")
}

fn read(root: &Descriptor, path: &str) -> Result<u64, ErrorCode> {
    let file = root.open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let (bytes, _) = file.read(1 << 20, 0)?;
    Ok(bytes.len() as u64)
}

/// Everything that would change something: one line each.
pub fn change() -> String {
    let Some((root, _)) = get_directories().pop() else { return "there is nothing to change\n".into() };
    let none = PathFlags::empty();
    let open = |how, flags| root.open_at(none, "new", how, flags).map(drop);
    let file =
        root.open_at(none, "small.txt", OpenFlags::empty(), DescriptorFlags::READ).expect("it is there");
    let tried = [
        ("create", open(OpenFlags::CREATE, DescriptorFlags::READ)),
        ("exclusive", open(OpenFlags::EXCLUSIVE, DescriptorFlags::READ)),
        ("truncate", open(OpenFlags::TRUNCATE, DescriptorFlags::READ)),
        ("open to write", open(OpenFlags::empty(), DescriptorFlags::WRITE)),
        ("open to change", open(OpenFlags::DIRECTORY, DescriptorFlags::MUTATE_DIRECTORY)),
        ("write", file.write(b"x", 0).map(drop)),
        ("write a stream", file.write_via_stream(0).map(drop)),
        ("append", file.append_via_stream().map(drop)),
        ("resize", file.set_size(0)),
        ("touch", file.set_times(NewTimestamp::Now, NewTimestamp::Now)),
        ("touch by path", root.set_times_at(none, "small.txt", NewTimestamp::Now, NewTimestamp::Now)),
        ("make a directory", root.create_directory_at("new")),
        ("link", root.link_at(none, "small.txt", &root, "new")),
        ("make a symbolic link", root.symlink_at("small.txt", "new")),
        ("rename", root.rename_at("small.txt", &root, "new")),
        ("remove", root.unlink_file_at("small.txt")),
        ("remove a directory", root.remove_directory_at("nested")),
    ];
    let done = tried.into_iter().filter(|(_, result)| !matches!(result, Err(ErrorCode::ReadOnly)));
    let done: Vec<String> = done.map(|(what, result)| format!("{what}: {result:?}")).collect();
    let link = root.readlink_at("small.txt");
    format!("{done:?} {link:?}\n")
}

/// Reads a file for ever.
pub fn reread(path: &str) {
    let root = get_directories().pop().expect("there are files").0;
    while read(&root, path).is_ok() {}
}

/// Asks for everything and waits for nothing; then holds more streams than anyone should.
pub fn impatient() -> String {
    let root = get_directories().pop().expect("there are files").0;
    let mut streams = Vec::new();
    let mut read = 0;
    for round in 0..2000 {
        let offset = round % 3 << 20;
        let flags = DescriptorFlags::READ;
        let file =
            root.open_at(PathFlags::empty(), "large.bin", OpenFlags::empty(), flags).expect("it is there");
        let stream = file.read_via_stream(offset).expect("it is a file");
        let ready = stream.subscribe();
        poll(&[&ready, &subscribe_duration(0)]);
        drop(ready);
        read += stream.read(1).map_or(0, |bytes| bytes.len());
        streams.push((file, stream));
    }
    format!("{} {}\n", streams.len(), read > 0)
}
