//! The published clients of Fleek, unmodified from npm, against this platform; and the audit of GraphQL over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};
use support::{Home, Server, guest, http, ok};

/// The clients, installed from npm.
fn clients() -> PathBuf {
    let dir = ok(&mut Command::new(sources().join("install")));
    PathBuf::from(dir.trim())
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fleek")
}

/// Node with one of our scripts, which finds packages beside it only.
fn node(script: &str, arguments: &[&str], server: &Server) -> Value {
    let dir = clients();
    let work = tempfile::tempdir_in(&dir).unwrap();
    let copy = work.path().join(script);
    std::fs::copy(sources().join(script), &copy).unwrap();
    let mut node = Command::new("node");
    urls(&mut node, server, work.path()).arg(&copy).args(arguments);
    let said = ok(&mut node);
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

fn urls<'c>(command: &'c mut Command, server: &Server, home: &Path) -> &'c mut Command {
    command.env("SDK__GRAPHQL_API_URL", format!("{}/graphql", server.api));
    command.env("SDK__UPLOAD_PROXY_API_URL", &server.api).env("SDK__IPFS__STORAGE_API_URL", &server.api);
    command.env("SDK__AUTH_APPS_URL", &server.api).env("UI__APP_URL", &server.api);
    command.env("HOME", home).env("XDG_CONFIG_HOME", home).env("TMPDIR", home).env("NO_UPDATE_NOTIFIER", "1");
    command.env_remove("RUST_BACKTRACE").current_dir(home)
}

async fn graphql(server: &Server, query: &str) -> Value {
    let request = http().post(format!("{}/graphql", server.api)).bearer_auth(server.token());
    let answer: Value = request.json(&json!({ "query": query })).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    answer["data"].clone()
}

async fn project(server: &Server) -> String {
    let projects = graphql(server, "{ projects { data { id } } }").await;
    projects["projects"]["data"][0]["id"].as_str().unwrap().to_owned()
}

/// `fleek` with a token and a project, which replace a login.
struct Fleek<'s> {
    server: &'s Server,
    dir: PathBuf,
    work: tempfile::TempDir,
    project: String,
}

impl Fleek<'_> {
    /// All that it printed.
    fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.output(arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "fleek {arguments:?}: {text}");
        text
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut fleek = Command::new("node");
        urls(&mut fleek, self.server, self.work.path());
        fleek.env("FLEEK_TOKEN", self.server.token()).env("FLEEK_PROJECT_ID", &self.project);
        fleek.arg(self.dir.join("node_modules/@fleek-platform/cli/bin/index.js")).args(arguments);
        fleek.stdin(std::process::Stdio::null()).output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_of_graphql_over_http_finds_nothing() {
    let home = Home::new();
    let server = home.up(&[]);
    support::deploy(&home, "watched", "hello-rust", &[]);
    let found = graphql(
        &server,
        "{ me { id } afFunctionByName(where: { name: \"watched\" }) { currentDeploymentId } }",
    )
    .await;
    let deployment = found["afFunctionByName"]["currentDeploymentId"].as_str().unwrap();
    let token = server.token();
    let url = format!("{}/graphql", server.api);
    let said = tokio::task::block_in_place(|| node("audit.mjs", &[&url, &token, deployment], &server));
    assert_eq!(said["amiss"], json!([]), "the audit");
    assert!(said["audited"].as_u64().unwrap() > 50, "{said}");

    let status = json!({ "data": { "deploymentStatus": { "deploymentId": deployment, "status": "ACTIVE", "reason": null } } });
    let me = json!({ "data": { "me": found["me"] } });
    let told = &said["told"];
    assert_eq!((&told["ws"], &told["sse"]), (&status, &status), "{said}");
    assert_eq!((&told["wsQuery"], &told["sseQuery"]), (&me, &me), "{said}");
    assert!(told["wsNobody"].to_string().contains("UnauthenticatedError"), "{said}");
    assert!(told["wsStranger"].get("error").is_some(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_sdk_works_unmodified() {
    let home = Home::new();
    let server = home.up(&[]);
    let (token, project) = (server.token(), project(&server).await);
    let component = guest("files");
    let arguments = [token.as_str(), &project, component.to_str().unwrap()];
    let told = tokio::task::block_in_place(|| node("sdk.mjs", &arguments, &server));
    let named = |what: &str| told[what]["name"].as_str().unwrap_or_default().to_owned();

    assert_eq!(told["projects"], json!([project]));
    assert_eq!((&told["project"]["id"], &told["renamed"]), (&json!(project), &json!("renamed")));
    assert_eq!(named("noProject"), "ProjectNotFoundError", "{}", told["noProject"]);
    assert_eq!(
        (&told["created"]["slug"], &told["created"]["currentDeployment"]),
        (&json!("from-sdk"), &Value::Null)
    );
    assert_eq!(named("taken"), "FleekFunctionAlreadyExistsError", "{}", told["taken"]);
    assert!(told["bad"]["text"].as_str().unwrap().contains("invalid_function_name"), "{}", told["bad"]);

    let cid = &told["uploaded"]["pin"]["cid"];
    assert_eq!((&told["uploaded"]["duplicate"], &told["again"]["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!((&told["deployed"]["cid"], &told["again"]["pin"]["cid"]), (cid, cid));
    assert_eq!(told["deployed"]["fleekFunctionId"], told["created"]["id"]);
    assert_eq!(&told["function"]["currentDeployment"]["cid"], cid);
    assert_eq!((&told["functions"], &told["function"]["status"]), (&json!(["from-sdk"]), &json!("ACTIVE")));
    assert_eq!(told["deployments"], json!([told["deployed"]]));
    assert!(told["noContent"]["text"].is_string(), "{}", told["noContent"]);

    assert_eq!(told["pin"]["filename"], "private");
    assert_eq!(told["pins"], json!(["assets.null", "function.wasm", "large.bin", "private.js"]));
    assert_eq!(told["byName"], json!([told["large"]["pin"]["cid"]]));
    assert_eq!((&told["deleted"], named("noPin")), (&json!(200), "PinNotFoundError".into()));

    assert_eq!(
        (&told["siteDeployed"]["cid"], &told["siteDeployed"]["status"]),
        (&told["assets"]["pin"]["cid"], &json!("SUCCESS"))
    );
    assert_eq!(told["siteDeployment"]["id"], told["siteDeployed"]["id"]);
    assert!(told["noSiteContent"]["text"].is_string(), "{}", told["noSiteContent"]);
    assert_eq!(
        (&told["site"]["zones"][0]["id"], &told["zone"]["status"]),
        (&told["zone"]["id"], &json!("CREATED"))
    );
    assert_eq!((&told["byZone"], &told["byHostname"]), (&json!(1), &told["domain"]["id"]));
    assert_eq!(told["domains"][0]["dnsConfigs"][0]["type"], "CNAME");
    assert_eq!(named("noDomain"), "DomainNotFoundError", "{}", told["noDomain"]);

    assert!(told["tokens"][0]["maskedToken"].as_str().unwrap().starts_with("af_live_"), "{}", told["tokens"]);
    assert_eq!(named("noToken"), "PersonalAccessTokenNotFoundError", "{}", told["noToken"]);
    assert_eq!(
        (&told["updated"]["slug"], &told["updated"]["status"]),
        (&json!("sdk-slug"), &json!("INACTIVE"))
    );
    assert_eq!(
        (&told["gone"]["id"], named("noFunction")),
        (&told["created"]["id"], "FleekFunctionNotFoundError".into())
    );
    assert_eq!(named("nobody"), "UnauthorizedError", "{}", told["nobody"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_cli_works_unmodified() {
    let home = Home::new();
    let server = home.up(&[]);
    let project = project(&server).await;
    let fleek = Fleek {
        server: &server,
        dir: clients(),
        work: tempfile::tempdir().unwrap(),
        project: project.clone(),
    };
    let source = fleek.work.path().join("index.js");
    std::fs::write(&source, "export const main = (request) => `hello from ${request.path}`;\n").unwrap();

    assert!(fleek.run(&["projects", "list"]).contains(&project));
    assert!(fleek.run(&["pat", "list"]).contains("af_live_"));
    fleek.run(&["functions", "create", "--name", "from-cli"]);
    assert!(fleek.run(&["functions", "list"]).contains("from-cli"));
    let deployed = fleek.run(&[
        "functions",
        "deploy",
        "--private",
        "--name",
        "from-cli",
        "--path",
        source.to_str().unwrap(),
    ]);
    assert!(deployed.contains("from-cli.localhost"), "{deployed}");
    // This server has no JavaScript build, which the API says.
    let shown = graphql(&server, "{ fleekFunctionByName(where: { name: \"from-cli\" }) { status deployments { cid status statusReason } } }").await;
    let function = &shown["fleekFunctionByName"];
    assert_eq!(
        (&function["status"], &function["deployments"][0]["status"]),
        (&json!("FAILED"), &json!("FAILED"))
    );
    let reason = function["deployments"][0]["statusReason"].as_str().unwrap();
    assert!(reason.contains("no JavaScript build"), "{reason}");
    let cid = function["deployments"][0]["cid"].as_str().unwrap();
    assert!(fleek.run(&["functions", "deployments", "--name", "from-cli"]).contains(cid));
    fleek.run(&[
        "functions",
        "update",
        "--functionName",
        "from-cli",
        "--slug",
        "cli-slug",
        "--status",
        "INACTIVE",
    ]);
    assert!(fleek.run(&["functions", "list"]).contains("cli-slug"));

    let stored = fleek.run(&["storage", "add", source.to_str().unwrap()]);
    assert!(stored.contains("bafkrei"), "{stored}");
    assert!(fleek.run(&["storage", "list"]).contains("index"));
    graphql(&server, "mutation { createSite(data: { name: \"docs\" }) { id } }").await;
    let zone = graphql(&server, "{ zones { data { id } } }").await["zones"]["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let create = format!(
        "mutation {{ createDomain(where: {{ zoneId: \"{zone}\" }}, data: {{ hostname: \"cli.example.com\" }}) {{ id }} }}"
    );
    graphql(&server, &create).await;
    assert!(fleek.run(&["domains", "list"]).contains("cli.example.com"));
    assert!(fleek.run(&["domains", "detail", "--hostname", "cli.example.com"]).contains("CNAME"));
    fleek.run(&["functions", "delete", "--name", "from-cli"]);
    assert!(!fleek.run(&["functions", "list"]).contains("from-cli"));
}

/// The published CLI while it waits to be signed in.
struct SigningIn {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The page that it sends people to.
    page: String,
}

impl SigningIn {
    fn start(fleek: &mut Command, api: &str) -> Self {
        fleek.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = fleek.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let start = format!("{api}/login/");
        let mut line = String::new();
        let page = loop {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it shows no page");
            if let Some((_, rest)) = line.split_once(&start) {
                let session: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
                break format!("{start}{session}");
            }
        };
        Self { child, stdout, page }
    }

    /// Returns once its first question has come.
    async fn asked(&self) {
        support::eventually(async || {
            let status = http().get(&self.page).send().await.unwrap().status();
            status.is_success().then_some(())
        })
        .await;
    }

    fn said(mut self) -> String {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for SigningIn {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_cli_signs_in() {
    let home = Home::new();
    let server = home.up(&[]);
    let work = tempfile::tempdir().unwrap();
    let program = clients().join("node_modules/@fleek-platform/cli/bin/index.js");
    let fleek = |arguments: &[&str]| {
        let mut node = Command::new("node");
        urls(&mut node, &server, work.path()).env_remove("FLEEK_TOKEN").env_remove("FLEEK_PROJECT_ID");
        node.arg(&program).args(arguments);
        node
    };
    let waiting = SigningIn::start(&mut fleek(&["login"]), &server.api);
    waiting.asked().await;
    let form = format!("token={}", server.token());
    let request = http().post(&waiting.page).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(request.body(form).send().await.unwrap().status().as_u16(), 200);
    tokio::task::block_in_place(|| waiting.said());
    let listed = tokio::task::block_in_place(|| ok(&mut fleek(&["projects", "list"])));
    assert!(listed.contains(&project(&server).await), "{listed}");

    // Its way of making further tokens.
    let waiting = SigningIn::start(&mut fleek(&["pat", "create", "--name", "further"]), &server.api);
    waiting.asked().await;
    ok(home.af().args(["login", "approve", &waiting.page]));
    let said = tokio::task::block_in_place(|| waiting.said());
    assert!(said.contains("af_live_"), "{said}");
    assert!(ok(home.af().args(["pat", "list"])).contains("further"));
}

/// A copy of the JavaScript build, with the packages that `examples/build` has installed.
fn javascript_build() -> tempfile::TempDir {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("sdk-guest");
    let dir = tempfile::tempdir().unwrap();
    for file in ["build.mjs", "handler.js", "node.js"] {
        std::fs::copy(sdk.join("js").join(file), dir.path().join(file)).unwrap();
    }
    let sum = format!("cksum <{}", sdk.join("js/package-lock.json").display());
    let sum = ok(Command::new("sh").args(["-c", &sum]));
    let cache = std::env::var_os("AF_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")).join("af")
    });
    let tools = cache.join(format!("js-{}", sum.split_whitespace().next().unwrap()));
    assert!(tools.join("node_modules").exists(), "{} is missing; run examples/build first", tools.display());
    std::os::unix::fs::symlink(tools.join("node_modules"), dir.path().join("node_modules")).unwrap();
    std::os::unix::fs::symlink(sdk.join("wit"), dir.path().join("wit")).unwrap();
    dir
}

/// The function once its newest deployment is built, or is not: what a subscription tells is waited for.
async fn built(server: &Server, ask: &str) -> Value {
    let shown = graphql(server, ask).await["fleekFunctionByName"].clone();
    let deployment = shown["deployments"][0]["id"].as_str().unwrap();
    let query = format!("subscription {{ deploymentStatus(deploymentId: \"{deployment}\") {{ status }} }}");
    let request = http().post(format!("{}/graphql", server.api)).bearer_auth(server.token());
    let request = request.header("accept", "text/event-stream").json(&json!({ "query": query }));
    let mut events = request.send().await.unwrap();
    let mut told = String::new();
    while !["ACTIVE", "FAILED"].iter().any(|status| told.contains(status)) {
        let chunk = tokio::time::timeout(std::time::Duration::from_secs(300), events.chunk()).await;
        let chunk = chunk.expect("the build takes too long").unwrap().expect("the events ended");
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    graphql(server, ask).await["fleekFunctionByName"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_that_the_cli_sends_becomes_a_function() {
    let home = Home::new();
    let build = javascript_build();
    let server = home.up(&["--javascript-build", build.path().to_str().unwrap()]);
    let project = project(&server).await;
    let fleek = Fleek { server: &server, dir: clients(), work: tempfile::tempdir().unwrap(), project };
    let source = fleek.work.path().join("index.js");
    std::fs::write(&source, "export const main = (request) => `hello from ${request.path}`;\n").unwrap();
    fleek.run(&["functions", "create", "--name", "from-cli"]);
    fleek.run(&[
        "functions",
        "deploy",
        "--private",
        "--name",
        "from-cli",
        "--path",
        source.to_str().unwrap(),
    ]);
    let ask = "{ fleekFunctionByName(where: { name: \"from-cli\" }) { status currentDeployment { cid } deployments { id cid status statusReason } } }";
    let built = self::built(&server, ask).await;
    assert_eq!(built["status"], "ACTIVE", "{built}");
    assert_eq!(
        built["currentDeployment"]["cid"], built["deployments"][0]["cid"],
        "what was sent, not what was built"
    );
    let answer = server.get("from-cli", "/a/path").await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!((status.as_u16(), text.as_str()), (200, "hello from /a/path"));

    // What it refuses is told, and the function goes on with what it runs.
    std::fs::write(&source, "import secret from '/etc/hostname';\nexport const main = () => secret;\n")
        .unwrap();
    fleek.run(&[
        "functions",
        "deploy",
        "--private",
        "--bundle",
        "false",
        "--name",
        "from-cli",
        "--path",
        source.to_str().unwrap(),
    ]);
    let failed = self::built(&server, ask).await;
    assert_eq!(
        (&failed["status"], &failed["deployments"][0]["status"]),
        (&json!("ACTIVE"), &json!("FAILED"))
    );
    let reason = failed["deployments"][0]["statusReason"].as_str().unwrap();
    assert!(reason.contains("cannot be imported here"), "{reason}");
    assert_eq!(server.get("from-cli", "/").await.status(), 200);
}
