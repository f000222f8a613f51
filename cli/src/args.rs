//! The command line: every command and option, with the spellings that older clients had.

pub mod admin;
pub mod audit;
#[cfg(feature = "bitswap")]
pub mod bitswap;
pub mod content;
pub mod domains;
pub mod edges;
pub mod gateway;
pub mod login;
pub mod logs;
pub mod master_key;
pub mod members;
pub mod plans;
pub mod projects;
pub mod rollouts;
pub mod secrets;
pub mod server;
pub mod sessions;
pub mod sites;
pub mod storage;
pub mod tls;
pub mod tokens;
pub mod usage;
pub mod values;

use std::path::PathBuf;

use af_contract::{ContentId, HostPattern, StoreName, Trigger, limits};
use clap::{Args as Options, Parser, Subcommand};

use self::sites::Sites;
use self::storage::Storage;
use self::values::{count, whole};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 not signed in, \
4 server not reachable.\n\nEnvironment: AF_API_URL, AF_TOKEN and AF_PROJECT_ID override what `af login` stored.";

/// Serverless WebAssembly functions: the server and the client.
#[derive(Debug, Parser)]
#[command(name = "af", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Args {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// Makes this program a compile worker.
pub const COMPILE_WORKER: &str = "compile-worker";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole platform on this machine: control API, edge, database and content
    Up(Box<server::Up>),
    /// Run a cluster's control plane: control API, database and content, and the feed for edges
    Control(Box<server::Control>),
    /// Run an edge of a cluster: it answers requests, and takes what it serves from a control plane
    Edge(Box<server::Edge>),
    /// Sign in to a control API: with a browser, from a terminal that is signed in, or with a token
    Login(login::Login),
    /// Show who you are, and where
    Whoami,
    /// Compile one component for a server that started this
    #[command(name = COMPILE_WORKER, hide = true)]
    CompileWorker {
        /// What to compile for
        kind: String,
    },
    /// Create, deploy and manage functions
    #[command(subcommand, visible_alias = "function")]
    Functions(Functions),
    /// Create, deploy and manage sites: folders that are served as they are
    #[command(subcommand, visible_alias = "site")]
    Sites(Sites),
    /// Store files, and say where they are held
    #[command(subcommand)]
    Storage(Storage),
    /// Set what functions are told, in the open
    #[command(subcommand)]
    Env(secrets::Env),
    /// Set what functions are told and nobody else is
    #[command(subcommand, visible_alias = "secret")]
    Secrets(secrets::Secrets),
    /// Give functions domain names of your own
    #[command(subcommand, visible_alias = "domain")]
    Domains(domains::Domains),
    /// Make and manage your personal access tokens
    #[command(subcommand)]
    Pat(tokens::Pat),
    /// Make and manage the project's own keys
    #[command(subcommand, visible_alias = "key")]
    Keys(tokens::Keys),
    /// Make and manage projects, which have functions and sites
    #[command(subcommand, visible_alias = "project")]
    Projects(projects::Projects),
    /// Make and manage organizations, which own projects
    #[command(subcommand, visible_alias = "org")]
    Orgs(members::Orgs),
    /// Say who belongs to the project or to an organization
    #[command(subcommand, visible_alias = "member")]
    Members(members::Members),
    /// Say which servers are edges of this platform; for its operator
    #[command(subcommand)]
    Edges(edges::Edges),
    /// Show what functions and sites used: requests, CPU time and bytes
    Usage(usage::Usage),
    /// Show who did what in the project or an organization
    Audit(audit::Audit),
    /// What operators do: back a server up, make another one of it, and say what organizations may have
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Become a member by the code of an invitation
    Join(members::Join),
    /// Fetch content by its CID from sources that need not be trusted, and show who gave what
    Fetch(content::Fetch),
    /// Check a file, a CAR, or what others have under a CID
    Verify(content::Verify),
}

#[derive(Debug, Subcommand)]
pub enum Functions {
    /// Make a function; it answers once it is deployed
    Create(Create),
    /// Send a component and make it what the function runs
    Deploy(Box<Deploy>),
    /// List the project's functions
    List,
    /// Show one function
    Get(Named),
    /// List a function's deployments, newest first
    #[command(alias = "list-deployments")]
    Deployments(Named),
    /// Go back to an older deployment. A function that is switched off stays so
    Rollback(Rollback),
    /// Roll a deployment out gradually: some clients get it, the others the active one
    Rollout(rollouts::Rollout),
    /// Make a deployment the active one: the candidate that is being rolled out, or any other
    Promote(rollouts::Promote),
    /// End a gradual rollout: all clients get the active deployment again
    Abort(rollouts::Abort),
    /// Allow a deployment what it may do beyond the one before; it then becomes active
    Approve(rollouts::Approve),
    /// Remove a function's old deployments; never the active one, the one before it, or a candidate
    Prune(rollouts::Prune),
    /// Show what a function has logged, and with --follow what it logs
    Logs(logs::Logs),
    /// Show when a function is called without a request, and how its newest runs went
    Triggers(Named),
    /// Run one of a function's triggers now
    Trigger(RunTrigger),
    /// Seal the keys of the project's private functions and stored content with a new one
    RotateKey,
    /// Change a function's name, slug, status or routes, or which deployments it keeps
    Update(Update),
    /// Delete a function and its deployments
    Delete(Named),
}

/// Which function.
#[derive(Debug, Options)]
pub struct Named {
    /// The function's name or id
    #[arg(short, long, visible_alias = "functionName", alias = "function-name", alias = "function-id")]
    pub name: String,
}

#[derive(Debug, Options)]
pub struct Create {
    /// 3 to 30 letters, digits and dashes
    #[arg(short, long)]
    pub name: String,
    /// The host name's first part [default: made of the name]
    #[arg(long)]
    pub slug: Option<String>,
    /// Not supported yet
    #[arg(long, alias = "site-id", value_name = "ID", hide = true)]
    pub site: Option<String>,
    /// Path patterns and where requests to them are forwarded, such as '{"/api/*": "https://api.example.com"}': JSON, or a file [default: those of af.config]
    #[arg(short, long, value_name = "JSON|FILE")]
    pub routes: Option<String>,
}

#[derive(Debug, Options)]
pub struct Deploy {
    /// The component: a .wasm file [default: the one that af.config names]
    #[arg(short, long, alias = "code", value_name = "FILE")]
    pub path: Option<PathBuf>,
    /// Instead of a file, the CID of a component that the server fetches from its sources of content, such as IPFS
    #[arg(long, value_name = "CID", conflicts_with = "path", value_parser = values::cid)]
    pub cid: Option<ContentId>,
    /// The function's name or id [default: the only function of af.config]
    #[arg(short, long, alias = "function-id")]
    pub name: Option<String>,
    /// Make the function if there is none with this name
    #[arg(long)]
    pub create: bool,
    /// Requests that one instance may answer, one after another [default: 1 for WASI 0.2, 128 for 0.3]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=limits::REUSE.into()))]
    pub reuse: Option<u32>,
    /// Requests that one instance may work for at the same time, while it waits for something; WASI 0.3 only
    /// [default: 16]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=limits::CONCURRENCY.into()))]
    pub concurrency: Option<u32>,
    /// Why; shown in lists of deployments
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// What the component was built from, such as a commit; shown in lists of deployments
    #[arg(long, value_name = "HASH")]
    pub source_hash: Option<String>,
    /// Secrets of the function: its environment and wasi:config have them. Those of the deployment before stay, as do those
    /// of `af env` and `af secrets`, which keep values out of the shell's history
    #[arg(short, long, value_name = "NAME=VALUE", num_args = 1..)]
    pub env: Vec<String>,
    /// A file of secrets in dotenv format
    #[arg(long = "env-file", alias = "envFile", value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// A host that the function may send requests to, such as api.example.com or *.example.com; may be
    /// given several times [default: any of the public internet]
    #[arg(long, value_name = "HOST")]
    pub egress: Vec<HostPattern>,
    /// A key-value store of the project that the function may open besides "default"; may be given
    /// several times
    #[arg(long = "store", value_name = "NAME")]
    pub stores: Vec<StoreName>,
    #[command(flatten)]
    pub cors: Cors,
    /// Compress responses (br, zstd, gzip) for clients that accept it. Not for pages that mix secrets with what
    /// others can choose: the length then tells about the secret
    #[arg(long)]
    pub compress: bool,
    /// Requests to the function per second, with twice as many at once [default: as many as the server can answer]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=limits::REQUESTS_PER_SECOND.get().into()))]
    pub rate_limit: Option<u32>,
    /// When the function is called without a request, and where, such as "*/5 * * * *=/path" or "@daily=/path",
    /// in UTC; may be given several times [default: those of af.config, else never]
    #[arg(long = "cron", value_name = "CRON=PATH")]
    pub triggers: Vec<Trigger>,
    /// A folder of files that the function may read, at /. Names that begin with a dot are left out, except
    /// .well-known [default: none, also when the deployment before had one]
    #[arg(short, long, value_name = "DIR")]
    pub assets: Option<PathBuf>,
    /// Leave what the function runs as it is; the deployment answers at a preview host of its own
    #[arg(long)]
    pub preview: bool,
    #[command(flatten)]
    pub share: rollouts::Share,
    /// Allow what the deployment may do beyond the active one: other hosts (--egress), other stores (--store). Admins and owners may;
    /// without it, such a deployment is stored and waits for `af functions approve`
    #[arg(long)]
    pub allow: bool,
    /// A component is complete as it is, so both values mean the same
    #[arg(short, long, value_name = "BOOL", hide = true)]
    pub bundle: Option<bool>,
    /// As --bundle false
    #[arg(long = "noBundle", hide = true)]
    pub no_bundle: bool,
    /// Encrypt the component and its files before they are sent, so that only this platform's edges can read them,
    /// wherever their blocks lie [default: as af.config says, else no]
    #[arg(long)]
    pub private: bool,
    /// Not supported
    #[arg(long, hide = true)]
    pub sgx: bool,
}

/// Which web pages of other origins may call the function.
#[derive(Debug, Options)]
pub struct Cors {
    /// An origin whose pages may call the function, such as https://app.example.com, https://*.example.com or *;
    /// may be given several times. The edge then answers browsers' questions itself
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    pub origins: Vec<String>,
    /// A method that they may use [default: GET, HEAD, POST, PUT, PATCH, DELETE]
    #[arg(long = "cors-method", value_name = "METHOD", requires = "origins")]
    pub methods: Vec<String>,
    /// A header that they may send [default: those they ask for]
    #[arg(long = "cors-header", value_name = "NAME", requires = "origins")]
    pub headers: Vec<String>,
    /// A header of responses that they may read
    #[arg(long = "cors-expose", value_name = "NAME", requires = "origins")]
    pub exposed: Vec<String>,
    /// They may send cookies
    #[arg(long = "cors-credentials", requires = "origins")]
    pub credentials: bool,
    /// For how long browsers may remember this
    #[arg(long = "cors-max-age", value_name = "SECONDS", requires = "origins", value_parser = count())]
    pub max_age: Option<u32>,
}

#[derive(Debug, Options)]
pub struct Rollback {
    #[command(flatten)]
    pub function: Named,
    /// The deployment's number or id [default: the one that was active before]
    #[arg(long, value_name = "DEPLOYMENT", visible_alias = "deployment")]
    pub to: Option<String>,
}

#[derive(Debug, Options)]
pub struct RunTrigger {
    #[command(flatten)]
    pub function: Named,
    /// The trigger's path [default: the only one's]
    #[arg(long)]
    pub path: Option<String>,
}

#[derive(Debug, Options)]
pub struct Update {
    /// The function's name or id
    #[arg(value_name = "NAME", required_unless_present = "function", conflicts_with = "function")]
    pub named: Option<String>,
    /// The same
    #[arg(
        short = 'n',
        long = "functionName",
        visible_alias = "function-name",
        alias = "function-id",
        value_name = "NAME"
    )]
    pub function: Option<String>,
    /// A new name
    #[arg(long)]
    pub name: Option<String>,
    /// A new first part of the host name
    #[arg(long)]
    pub slug: Option<String>,
    /// ACTIVE or INACTIVE
    #[arg(long)]
    pub status: Option<String>,
    /// Another route table: JSON, or a file; null removes it [default: that of af.config, where nothing else is
    /// to change]
    #[arg(short, long, value_name = "JSON|FILE")]
    pub routes: Option<String>,
    #[command(flatten)]
    pub keep: projects::Keep,
}
