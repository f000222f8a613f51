//! Serves the files that it was deployed with, on WASI 0.3: a file's stream is the response's body, so that none
//! of it goes through the function's memory.
//!
//!   GET /FILE        the file
//!   GET /DIRECTORY   what is in it, one name a line

use wasip3::exports::http::handler::Guest;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode as FileError, OpenFlags, PathFlags,
};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

wasip3::http::service::export!(Files);

struct Files;

impl Guest for Files {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match answer(path.trim_matches('/')).await {
            Ok(response) => Ok(response),
            Err(FileError::NoEntry | FileError::NotDirectory) => Ok(text(404, "there is no such file\n")),
            Err(error) => Ok(text(403, &format!("{error:?}\n"))),
        }
    }
}

async fn answer(path: &str) -> Result<Response, FileError> {
    let mut directories = get_directories();
    let (root, _) = directories.pop().ok_or(FileError::NoEntry)?;
    let path = if path.is_empty() { "." } else { path };
    let file =
        root.open_at(PathFlags::empty(), path.into(), OpenFlags::empty(), DescriptorFlags::READ).await?;
    let stat = file.stat().await?;
    if matches!(stat.type_, DescriptorType::Directory) {
        return list(&file).await;
    }
    let (bytes, _end) = file.read_via_stream(0);
    Ok(respond(200, stat.size, bytes))
}

async fn list(directory: &Descriptor) -> Result<Response, FileError> {
    let (entries, end) = directory.read_directory();
    let names: Vec<String> = entries.collect().await.into_iter().map(|entry| entry.name + "\n").collect();
    end.await?;
    Ok(text(200, &names.concat()))
}

fn text(status: u16, text: &str) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let bytes = text.as_bytes().to_vec();
    let length = bytes.len() as u64;
    wasip3::spawn_local(async move {
        // Who asked may have gone.
        let _unsent = writer.write_all(bytes).await;
    });
    respond(status, length, reader)
}

fn respond(status: u16, length: u64, body: wasip3::wit_bindgen::StreamReader<u8>) -> Response {
    let headers = Fields::new();
    headers.append("content-length", length.to_string().as_bytes()).expect("the header is one");
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    response.set_status_code(status).expect("the status is one");
    response
}
