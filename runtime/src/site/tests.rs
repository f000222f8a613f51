//! Sites in a store on the disk, asked as the edge asks them.

use std::collections::BTreeMap;
use std::io;

use af_content::DiskStore;
use af_content::car::Block;
use af_content::unixfs::{self, Directory, Entry};
use af_contract::{Codec, ContentId};
use http::{HeaderName, Method, Request, Response};
use http_body_util::BodyExt;

use super::{Naming, Site, SiteError, Sites};
use crate::content::ContentStore;
use crate::http::ResponseBody;

/// Files by their paths, and a place for their blocks.
struct Served {
    dir: tempfile::TempDir,
    root: ContentId,
    files: BTreeMap<String, ContentId>,
}

impl Served {
    fn new<B: AsRef<[u8]>>(files: impl IntoIterator<Item = (&'static str, B)>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.as_ref().to_vec()));
        Self::of(files.collect())
    }

    fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let staging = DiskStore::open(dir.path()).unwrap().stage().unwrap();
        let mut put = |block: Block| staging.put(&block).map_err(io::Error::other);
        let mut ids = BTreeMap::new();
        let mut entries = Vec::new();
        for (path, bytes) in files {
            let mut size = 0;
            let counted = |block: Block| {
                size += block.bytes.len() as u64;
                put(block)
            };
            let id = unixfs::import(&bytes[..], counted).unwrap().root;
            ids.insert(path.clone(), id);
            entries.push((path, id, size));
        }
        let root = directory(&entries, &mut put).0;
        staging.commit().unwrap().finish().unwrap();
        Self { dir, root, files: ids }
    }

    fn site(&self, naming: Naming) -> Site {
        let store = ContentStore::new(DiskStore::open(self.dir.path()).unwrap());
        Sites::new(store).site(self.root, naming)
    }

    fn etag(&self, path: &str) -> String {
        format!("\"{}\"", self.files[path])
    }

    /// Where a block is.
    fn block(&self, id: &ContentId) -> std::path::PathBuf {
        let shards = std::fs::read_dir(self.dir.path()).unwrap();
        let path = shards.map(|shard| shard.unwrap().path().join(id.to_string())).find(|path| path.exists());
        path.unwrap()
    }

    /// Status and body of a GET, or the error.
    async fn get(&self, path: &str) -> String {
        shown(self.site(Naming::Name).respond(&request(path, &[])).await).await
    }
}

fn directory(
    files: &[(String, ContentId, u64)],
    put: &mut dyn FnMut(Block) -> io::Result<()>,
) -> (ContentId, u64) {
    let mut inner = BTreeMap::<String, Vec<(String, ContentId, u64)>>::new();
    let mut entries = Vec::new();
    for (path, id, size) in files {
        match path.split_once('/') {
            Some((name, rest)) => inner.entry(name.into()).or_default().push((rest.into(), *id, *size)),
            None if path.is_empty() => {}
            None => entries.push(Entry { name: path.clone(), id: *id, size: *size }),
        }
    }
    for (name, files) in inner {
        let (id, size) = directory(&files, put);
        entries.push(Entry { name, id, size });
    }
    Directory::write(&entries, put).unwrap()
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn body(response: Response<ResponseBody>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn shown(result: Result<Response<ResponseBody>, SiteError>) -> String {
    let response = match result {
        Ok(response) => response,
        Err(error) => return error.to_string(),
    };
    let status = response.status().as_u16();
    match response.headers().get("location") {
        Some(location) => format!("{status} -> {}", location.to_str().unwrap()),
        None => format!("{status} {}", String::from_utf8(body(response).await).unwrap()),
    }
}

fn header(response: &Response<ResponseBody>, name: &str) -> String {
    let name = HeaderName::try_from(name).unwrap();
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn paths_lead_to_files() {
    let served = Served::new([
        ("index.html", "home"),
        ("about.html", "about"),
        ("both.html", "page"),
        ("both/index.html", "index"),
        ("docs/index.html", "docs"),
        ("docs/a b.txt", "a b"),
        ("docs/.hidden", "dot"),
        ("empty/x", "x"),
        (".well-known/security.txt", "security"),
        ("ä/ö.txt", "umlauts"),
        ("file", "plain"),
    ]);
    for (path, expected) in [
        ("/", "200 home"),
        ("//", "200 home"),
        ("/index.html", "200 home"),
        ("/index", "200 home"),
        ("/about", "200 about"),
        ("/about.html", "200 about"),
        ("/about/", "301 -> ../about"),
        ("/about/?x=1", "301 -> ../about?x=1"),
        ("/both", "200 page"),
        ("/both/", "200 index"),
        ("/docs", "301 -> ./docs/"),
        ("/docs?a=b", "301 -> ./docs/?a=b"),
        ("//docs", "301 -> ./docs/"),
        ("/docs/", "200 docs"),
        ("/docs/a%20b.txt", "200 a b"),
        ("/docs//a%20b.txt", "200 a b"),
        ("/docs/.hidden", "200 dot"),
        ("/.well-known/security.txt", "200 security"),
        ("/%C3%A4/%C3%B6.txt", "200 umlauts"),
        ("/file", "200 plain"),
        ("/file/", "the site has no such page"),
        ("/file/x", "the site has no such page"),
        ("/empty", "the site has no such page"),
        ("/empty/", "the site has no such page"),
        ("/missing", "the site has no such page"),
        ("/About", "the site has no such page"),
        ("/docs/%2e%2e/file", "the path has a part that is . or .."),
        ("/docs%2Findex.html", "the path has an escaped slash or NUL"),
    ] {
        assert_eq!(served.get(path).await, expected, "{path}");
    }
    let deep = "/empty".repeat(2000);
    assert_eq!(served.get(&deep).await, "the site has no such page");
}

#[tokio::test]
async fn only_files_are_read() {
    let served = Served::new([("index.html", "home")]);
    let site = served.site(Naming::Name);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let request = Request::builder().method(&method).uri("/").body(()).unwrap();
        assert!(matches!(site.respond(&request).await, Err(SiteError::Method)), "{method}");
    }
    let request = Request::head("/").body(()).unwrap();
    let response = site.respond(&request).await.unwrap();
    assert_eq!(
        (header(&response, "content-length"), header(&response, "etag")),
        ("4".into(), served.etag("index.html"))
    );
    assert!(body(response).await.is_empty());
}

#[tokio::test]
async fn an_answer_says_what_it_is_and_how_to_check_it() {
    let served = Served::new([("a/b c.html", "text")]);
    let (root, file) = (served.root, served.files["a/b c.html"]);
    let response = served.site(Naming::Name).respond(&request("/a/b%20c", &[])).await.unwrap();
    let roots = header(&response, "x-ipfs-roots");
    let roots: Vec<&str> = roots.split(',').collect();
    assert_eq!((roots.len(), roots[0], roots[2]), (3, &*root.to_string(), &*file.to_string()));
    for (name, expected) in [
        ("af-site", root.to_string()),
        ("x-ipfs-path", format!("/ipfs/{root}/a/b%20c.html")),
        ("etag", format!("\"{file}\"")),
        ("content-type", "text/html; charset=utf-8".into()),
        ("content-length", "4".into()),
        ("accept-ranges", "bytes".into()),
        ("x-content-type-options", "nosniff".into()),
        ("vary", "accept-encoding".into()),
        ("cache-control", "public, max-age=0, must-revalidate".into()),
    ] {
        assert_eq!(header(&response, name), expected, "{name}");
    }
    let response = served.site(Naming::Cid).respond(&request("/a/b%20c", &[])).await.unwrap();
    assert_eq!(header(&response, "cache-control"), "public, max-age=31536000, immutable");
}

#[tokio::test]
async fn who_has_a_file_is_not_sent_it_again() {
    let served =
        Served::new([("a.txt", "0123456789"), ("404.html", "gone"), ("_redirects", "/r /a.txt 200")]);
    let site = served.site(Naming::Name);
    let etag = served.etag("a.txt");
    for path in ["/a.txt", "/r"] {
        let response = site.respond(&request(path, &[("if-none-match", &etag)])).await.unwrap();
        assert_eq!(response.status(), 304);
        assert_eq!(header(&response, "etag"), etag);
        assert_eq!(header(&response, "cache-control"), "public, max-age=0, must-revalidate");
        assert_eq!(header(&response, "content-length"), "");
        assert!(body(response).await.is_empty());
    }
    let request_if = request("/a.txt", &[("if-match", "\"other\"")]);
    assert!(matches!(site.respond(&request_if).await, Err(SiteError::Precondition)));
    // A page that stands for what is not there is no version of it.
    let missing =
        request("/missing", &[("if-none-match", "*"), ("range", "bytes=0-0"), ("if-match", "\"x\"")]);
    let response = site.respond(&missing).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "etag")), (404, String::new()));
    assert_eq!(body(response).await, b"gone");
}

#[tokio::test]
async fn a_part_of_a_file_is_sent() {
    let served = Served::new([("a.txt", "0123456789"), ("empty", "")]);
    let site = served.site(Naming::Name);
    let etag = served.etag("a.txt");
    for (headers, status, said, text) in [
        (vec![("range", "bytes=2-4")], 206, "bytes 2-4/10", "234"),
        (vec![("range", "bytes=-3")], 206, "bytes 7-9/10", "789"),
        (vec![("range", "bytes=8-99")], 206, "bytes 8-9/10", "89"),
        (vec![("range", "bytes=0-1,4-5")], 200, "", "0123456789"),
        (vec![("range", "bytes=4-2")], 200, "", "0123456789"),
        (vec![("range", "bytes=2-4"), ("if-range", etag.as_str())], 206, "bytes 2-4/10", "234"),
        (vec![("range", "bytes=2-4"), ("if-range", "\"other\"")], 200, "", "0123456789"),
    ] {
        let response = site.respond(&request("/a.txt", &headers)).await.unwrap();
        assert_eq!(response.status(), status, "{headers:?}");
        assert_eq!(header(&response, "content-range"), said, "{headers:?}");
        assert_eq!(header(&response, "content-length"), text.len().to_string());
        assert_eq!(body(response).await, text.as_bytes(), "{headers:?}");
    }
    let behind = site.respond(&request("/a.txt", &[("range", "bytes=10-")])).await;
    assert!(matches!(behind, Err(SiteError::Range { size: 10 })));
    assert_eq!(served.get("/empty").await, "200 ");
    let head = Request::head("/a.txt").header("range", "bytes=2-4").body(()).unwrap();
    let response = site.respond(&head).await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "10".into()));
}

#[tokio::test]
async fn rules_are_for_what_is_not_there() {
    let rules = "/moved/* https://example.com/:splat 302
/old/:name /new/:name
/gone/* /sorry.html 410
/docs /forced 302
/app/* /app/ 200
/nowhere /missing.html 200
/index.html /forced
";
    let served = Served::new([
        ("_redirects", rules),
        ("index.html", "home"),
        ("sorry.html", "sorry"),
        ("docs/index.html", "docs"),
        ("app/index.html", "app"),
        ("app/app.js", "script"),
    ]);
    for (path, expected) in [
        ("/moved/a/b?x=1", "302 -> https://example.com/a/b?x=1"),
        ("/old/one", "301 -> /new/one"),
        ("/gone/x", "410 sorry"),
        ("/docs", "301 -> ./docs/"),
        ("/index.html", "200 home"),
        ("/app/app.js", "200 script"),
        ("/app/some/where", "200 app"),
        ("/nowhere", "the site has no such page"),
        ("/elsewhere", "the site has no such page"),
        ("/_redirects", &format!("200 {rules}")),
    ] {
        assert_eq!(served.get(path).await, expected, "{path}");
    }
    let response = served.site(Naming::Name).respond(&request("/app/x", &[])).await.unwrap();
    assert_eq!(header(&response, "etag"), served.etag("app/index.html"));
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_told() {
    let served = Served::new([("_redirects", "/a /b\n/c"), ("x", "x")]);
    assert_eq!(served.get("/x").await, "200 x", "what is there is sent");
    assert_eq!(
        served.get("/a").await,
        "line 2 of the site's _redirects: it does not say where the path leads"
    );
    let served = Served::new([("_redirects", vec![b'#'; 65_537])]);
    assert!(served.get("/a").await.contains("more than 65536 bytes"));
    let served = Served::new([("_redirects/x", "not a file")]);
    assert_eq!(served.get("/a").await, "the site has no such page");
}

#[tokio::test]
async fn the_nearest_page_says_what_is_not_there() {
    let served =
        Served::new([("404.html", "root"), ("de/404.html", "german"), ("de/x/y", "y"), ("fr/x", "x")]);
    for (path, expected) in [
        ("/a", "404 root"),
        ("/a/b/c", "404 root"),
        ("/de/a", "404 german"),
        ("/de", "404 german"),
        ("/de/x/", "404 german"),
        ("/de/x/y/z", "404 german"),
        ("/fr/y", "404 root"),
        ("/404.html", "200 root"),
    ] {
        assert_eq!(served.get(path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_compressed_copy_is_sent_to_who_likes_it() {
    let served = Served::new([
        ("a.js", "plain"),
        ("a.js.br", "brotli"),
        ("a.js.gz", "gzip"),
        ("b.js", "only"),
        ("index.html", "home"),
        ("index.html.zst", "zstandard"),
    ]);
    let site = served.site(Naming::Name);
    for (path, accept, coding, file) in [
        ("/a.js", "gzip, br", "br", "a.js.br"),
        ("/a.js", "gzip, br;q=0.5", "gzip", "a.js.gz"),
        ("/a.js", "zstd", "", "a.js"),
        ("/a.js", "", "", "a.js"),
        ("/b.js", "br", "", "b.js"),
        ("/", "zstd", "zstd", "index.html.zst"),
        ("/a.js.gz", "gzip", "", "a.js.gz"),
    ] {
        let response = site.respond(&request(path, &[("accept-encoding", accept)])).await.unwrap();
        assert_eq!(header(&response, "content-encoding"), coding, "{path} {accept}");
        assert_eq!(header(&response, "etag"), served.etag(file), "{path} {accept}");
        assert!(header(&response, "x-ipfs-path").ends_with(file), "{path} {accept}");
        assert_eq!(header(&response, "vary"), "accept-encoding");
    }
    let response = site.respond(&request("/a.js", &[("accept-encoding", "br")])).await.unwrap();
    assert_eq!(header(&response, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(body(response).await, b"brotli");
}

/// Larger than what is in memory at once, and different everywhere.
fn large(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at / 7 + at / 65_521) % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_large_file_comes_in_pieces() {
    let file = large(3_500_000);
    let served = Served::new([("film.mp4", &file)]);
    let site = served.site(Naming::Name);
    let response = site.respond(&request("/film.mp4", &[])).await.unwrap();
    assert_eq!(header(&response, "content-length"), file.len().to_string());
    let mut sent = Vec::new();
    let mut stream = response.into_body();
    while let Some(frame) = stream.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= 64 << 10);
        sent.extend_from_slice(&data);
    }
    assert!(sent == file);
    for range in [1_000_000..1_100_000, 1_048_575..1_048_577, 0..3_500_000, 3_400_000..3_500_000] {
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        let response = site.respond(&request("/film.mp4", &[("range", &asked)])).await.unwrap();
        assert_eq!(response.status(), 206);
        assert!(body(response).await == file[range], "{asked}");
    }
}

#[tokio::test]
async fn a_rotten_block_is_a_status_or_breaks_the_body_off() {
    let file = large(3_500_000);
    let served = Served::new([("film.mp4", &file[..]), ("small", b"small")]);
    // Of the second megabyte.
    let leaf = af_content::identify(Codec::Raw, &file[1 << 20..2 << 20]);
    std::fs::write(served.block(&leaf), "rot").unwrap();
    let response = served.site(Naming::Name).respond(&request("/film.mp4", &[])).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut sent = Vec::new();
    let mut stream = response.into_body();
    let broken = loop {
        match stream.frame().await.unwrap() {
            Ok(frame) => sent.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => break error,
        }
    };
    assert!(broken.to_string().contains("cannot be read on"), "{broken}");
    assert!(sent == file[..1 << 20], "nothing but what is right");
    assert!(stream.frame().await.is_none());

    let within = request("/film.mp4", &[("range", "bytes=1048576-")]);
    let result = served.site(Naming::Name).respond(&within).await;
    assert!(matches!(result, Err(SiteError::Corrupt(_))), "{:?}", result.err());
    std::fs::remove_file(served.block(&leaf)).unwrap();
    let result = served.site(Naming::Name).respond(&within).await;
    assert!(matches!(result, Err(SiteError::Missing(_))), "{:?}", result.err());
    std::fs::write(served.block(&served.files["small"]), "SMALL").unwrap();
    assert_eq!(served.get("/small").await, "a part of the site is damaged on this server");
    std::fs::remove_file(served.block(&served.root)).unwrap();
    assert_eq!(served.get("/").await, "a part of the site is not on this server");
}

#[tokio::test]
async fn a_sharded_directory_is_a_directory() {
    let files = (0..6000).map(|n| (format!("pages/name-{n}.html"), n.to_string().into_bytes()));
    let served = Served::of(files.collect());
    assert_eq!(served.get("/pages/name-4321").await, "200 4321");
    assert_eq!(served.get("/pages/name-6000").await, "the site has no such page");
}

#[tokio::test]
async fn a_symbolic_link_leads_nowhere() {
    let served = Served::new([("real", "real")]);
    let staging = DiskStore::open(served.dir.path()).unwrap().stage().unwrap();
    // UnixFS type 4, with the target as its data.
    let bytes: &[u8] = b"\x0a\x08\x08\x04\x12\x04real";
    let link = af_content::identify(Codec::DagPb, bytes);
    staging.put(&Block { id: link, bytes: bytes::Bytes::from_static(bytes) }).unwrap();
    let mut put = |block: Block| staging.put(&block).map_err(io::Error::other);
    let entries = [
        Entry { name: "link".into(), id: link, size: 10 },
        Entry { name: "real".into(), id: served.files["real"], size: 4 },
    ];
    let root = Directory::write(&entries, &mut put).unwrap().0;
    staging.commit().unwrap().finish().unwrap();
    let served = Served { root, ..served };
    assert_eq!(served.get("/real").await, "200 real");
    assert_eq!(served.get("/link").await, "the site has no such page");
    assert_eq!(served.get("/link/x").await, "the site has no such page");
}

#[tokio::test]
async fn what_was_read_is_sent_without_waiting() {
    let served = Served::new([("a/b.txt", "text")]);
    let site = served.site(Naming::Name);
    let asked = request("/a/b.txt", &[]);
    site.respond(&asked).await.unwrap();
    let now = futures::FutureExt::now_or_never(site.respond(&asked));
    assert_eq!(now.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_no_directory_is_no_site() {
    let served = Served::new([("a", "text")]);
    let unknown = af_content::identify(Codec::DagPb, b"unknown");
    let document = af_content::identify(Codec::DagCbor, b"manifest");
    for root in [served.files["a"], document] {
        let error = Served { root, ..Served::new([("a", "text")]) }.get("/").await;
        assert!(error.starts_with("there is no site with the CID"), "{error}");
    }
    let served = Served { root: unknown, ..served };
    let result = served.site(Naming::Cid).respond(&request("/", &[])).await;
    assert!(matches!(result, Err(SiteError::Unknown(_))));
    let result = served.site(Naming::Name).respond(&request("/", &[])).await;
    assert!(matches!(result, Err(SiteError::Missing(_))), "somebody said that it is one");
}
