//! What the client knows: the environment, and the servers that it is signed in to. The only place
//! that reads either.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use af_content::sink::Token;
use af_control_api::providers::{Secret, Variables};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Where a server on this machine answers.
pub const DEFAULT_API_URL: &str = "http://127.0.0.1:4000";

/// The variables that matter.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub api_url: Option<String>,
    pub token: Option<String>,
    pub project: Option<String>,
    pub no_color: bool,
    pub log: Option<String>,
    /// Where other programs are.
    pub path: OsString,
    /// For gateways of this platform that want to know who asks.
    pub gateway_token: Option<String>,
    pub dns: DnsEnvironment,
    /// For the master key in backups.
    pub backup_passphrase: Option<Passphrase>,
    /// AF_MASTER_KEY and AF_MASTER_KEY_PREVIOUS.
    pub master_key: Variables,
    /// Of a machine identity at an Infisical server: its id and its secret.
    pub infisical: Option<(String, Secret)>,
    /// For places that hold content.
    pub pin_token: Option<Token>,
    config_home: Option<PathBuf>,
    data_home: Option<PathBuf>,
}

impl Environment {
    /// Reads the environment once. An empty variable counts as none.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = text("HOME").map(PathBuf::from);
        let under_home = |path: &str| home.as_ref().map(|home| home.join(path));
        Self {
            api_url: text("AF_API_URL"),
            token: text("AF_TOKEN"),
            project: text("AF_PROJECT_ID"),
            no_color: text("NO_COLOR").is_some(),
            log: text("AF_LOG"),
            path: std::env::var_os("PATH").unwrap_or_default(),
            gateway_token: text("AF_GATEWAY_TOKEN"),
            master_key: Variables(
                [MASTER_KEY, MASTER_KEY_PREVIOUS]
                    .iter()
                    .filter_map(|name| Some(((*name).to_owned(), text(name)?.into())))
                    .collect(),
            ),
            infisical: text(INFISICAL_CLIENT_ID).zip(text(INFISICAL_CLIENT_SECRET).map(Secret::from)),
            dns: DnsEnvironment(
                DNS_VARIABLES.iter().filter_map(|name| text(name).map(|value| (*name, value))).collect(),
            ),
            config_home: text("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| under_home(".config")),
            backup_passphrase: text("AF_BACKUP_PASSPHRASE").map(Passphrase),
            pin_token: text("AF_PIN_TOKEN").map(Token::new),
            data_home: text("XDG_DATA_HOME").map(PathBuf::from).or_else(|| under_home(".local/share")),
        }
    }

    /// Where a server keeps its data unless it is told.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let home = self.data_home.as_ref().context("HOME is not set; say where with --data-dir DIR")?;
        Ok(home.join("af"))
    }

    fn config_file(&self) -> anyhow::Result<PathBuf> {
        let home =
            self.config_home.as_ref().context("HOME is not set; set AF_API_URL and AF_TOKEN instead")?;
        Ok(home.join("af/config.json"))
    }
}

/// A passphrase, which is not shown.
#[derive(Clone)]
pub struct Passphrase(String);

impl std::ops::Deref for Passphrase {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
/// The master key of a server, unless it is in a file.
pub const MASTER_KEY: &str = "AF_MASTER_KEY";

/// The master key before, until everything is sealed with the new one.
const MASTER_KEY_PREVIOUS: &str = "AF_MASTER_KEY_PREVIOUS";

/// Of a machine identity, as Infisical's own client has them.
pub const INFISICAL_CLIENT_ID: &str = "INFISICAL_UNIVERSAL_AUTH_CLIENT_ID";
/// Its secret.
pub const INFISICAL_CLIENT_SECRET: &str = "INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET";

/// Credentials for the zone of a server's domain, under the names that other programs know.
const DNS_VARIABLES: [&str; 9] = [
    "CLOUDFLARE_API_TOKEN",
    "DESEC_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "RFC2136_SERVER",
    "RFC2136_ZONE",
    "RFC2136_TSIG_NAME",
    "RFC2136_TSIG_SECRET",
    "RFC2136_TSIG_ALGORITHM",
];

/// Their values.
#[derive(Clone, Default)]
pub struct DnsEnvironment(BTreeMap<&'static str, String>);

impl DnsEnvironment {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl std::fmt::Debug for DnsEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The configuration file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The control API to talk to.
    pub current: Option<String>,
    /// Every control API that a login succeeded at, by URL.
    #[serde(default)]
    pub servers: BTreeMap<String, Server>,
}

/// How to talk to one control API.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    pub token: String,
    pub project_id: Option<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("token", &"***").field("project_id", &self.project_id).finish()
    }
}

impl Config {
    /// Reads the file; none is an empty configuration.
    pub fn load(environment: &Environment) -> anyhow::Result<Self> {
        let Ok(path) = environment.config_file() else { return Ok(Self::default()) };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is not a configuration; remove it and sign in again", path.display())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Adds a server, makes it the current one, and writes the file, readable by its user only.
    pub fn sign_in(environment: &Environment, url: &str, server: Server) -> anyhow::Result<PathBuf> {
        let mut config = Self::load(environment)?;
        config.servers.insert(url.to_owned(), server);
        config.current = Some(url.to_owned());
        config.write(environment)
    }

    /// Finds out whether it can be written, before something depends on that.
    pub fn check_writable(environment: &Environment) -> anyhow::Result<()> {
        let is_new = !environment.config_file()?.exists();
        let path = Self::load(environment)?.write(environment)?;
        if is_new {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn write(&self, environment: &Environment) -> anyhow::Result<PathBuf> {
        let path = environment.config_file()?;
        write_private(&path, &serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Whom to talk to, and as whom.
#[derive(Clone, Debug)]
pub struct Session {
    pub api_url: String,
    pub server: Option<Server>,
}

impl Session {
    /// The environment first, then the configuration.
    pub fn open(environment: &Environment) -> anyhow::Result<Self> {
        let config = Config::load(environment)?;
        let api_url =
            environment.api_url.clone().or(config.current).unwrap_or_else(|| DEFAULT_API_URL.into());
        let api_url = clean_url(&api_url)?;
        let mut server = config.servers.get(&api_url).cloned();
        if let Some(token) = &environment.token {
            // A project that was stored with another token may be another user's.
            server = Some(Server { token: token.clone(), project_id: None });
        }
        if let (Some(server), Some(project)) = (&mut server, &environment.project) {
            server.project_id = Some(project.clone());
        }
        Ok(Self { api_url, server })
    }
}

/// Checks the URL of a control API and drops a trailing slash.
pub fn clean_url(text: &str) -> anyhow::Result<String> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => bail!("{text:?} is not the URL of a control API; one looks like {DEFAULT_API_URL}"),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
