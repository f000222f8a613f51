//! `af admin …`

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use af_control_api::Database;
use af_control_api::domain::key_backup::SealedKey;
use af_control_api::store::backup::{Summary, dump, load};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::server::lock;
use crate::args::admin::{Admin, Backup, Kept, Restore};
use crate::config::Environment;
use crate::output::Output;

/// Bytes of the line that has the key.
const KEY_LINE: u64 = 4096;

/// Rows are text that repeats itself; a higher level takes longer than reading them.
const LEVEL: i32 = 6;

/// The first line of a backup; the rows follow.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    af_master_key: Option<SealedKey>,
}

/// Runs one of the subcommands.
pub async fn run(command: Admin, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    match command {
        Admin::Backup(options) => backup(&options, environment, output).await,
        Admin::Restore(options) => restore(&options, environment, output).await,
    }
}

async fn backup(options: &Backup, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let (data, database) = kept(&options.kept, environment)?;
    if let Database::Sqlite(path) = &database
        && !path.exists()
    {
        bail!("there is no database {}; say where it is with --data-dir or --database", path.display());
    }
    let key = match (options.with_key, &environment.backup_passphrase) {
        (false, _) => None,
        (true, None) => {
            bail!("set AF_BACKUP_PASSPHRASE to a passphrase of 12 or more characters for --with-key")
        }
        (true, Some(passphrase)) => {
            let path = data.join("master.key");
            let sealed = SealedKey::of(&path, passphrase);
            Some(sealed.with_context(|| format!("cannot put the master key {} in", path.display()))?)
        }
    };
    let summary = write(&options.file, &database, key).await.inspect_err(|_| {
        // What is not whole is nothing; that it could not be made is said already.
        let _left = fs::remove_file(partial(&options.file));
    })?;
    let bytes = fs::metadata(&options.file)?.len();
    let mut message =
        format!("{} rows of {} tables are in {}", summary.rows, summary.tables, options.file.display());
    if !options.with_key {
        message.push_str(&format!(
            "\nwarning: the master key is not in it. Without {} nobody can open settings, the keys of certificates and private \
             functions: keep a copy elsewhere, or use --with-key",
            data.join("master.key").display()
        ));
    }
    message.push_str(&format!(
        "\ncontent is not in it: copy {} now, whose files never change",
        data.join("blocks").display()
    ));
    let value = json!({ "file": options.file, "bytes": bytes, "withKey": options.with_key, "schema": summary.schema,
        "tables": summary.tables, "rows": summary.rows });
    output.result(&value, &message);
    Ok(())
}

async fn write(file: &Path, database: &Database, key: Option<SealedKey>) -> anyhow::Result<Summary> {
    let partial = partial(file);
    let mut open = OpenOptions::new();
    let opened = open.write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let opened = opened.with_context(|| format!("cannot write {}", partial.display()))?;
    let mut out = zstd::Encoder::new(opened, LEVEL)?;
    out.include_checksum(true)?;
    serde_json::to_writer(&mut out, &Key { af_master_key: key })?;
    out.write_all(b"\n")?;
    let summary = dump(database, &mut out).await?;
    out.finish()?.sync_all()?;
    fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(summary)
}

async fn restore(options: &Restore, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let (data, database) = kept(&options.kept, environment)?;
    let opened = File::open(&options.file);
    let opened = opened.with_context(|| format!("cannot read {}", options.file.display()))?;
    let mut from = BufReader::new(zstd::Decoder::new(opened)?);
    let mut line = Vec::new();
    from.by_ref().take(KEY_LINE).read_until(b'\n', &mut line)?;
    let key: Key = serde_json::from_slice(&line)
        .with_context(|| format!("{} is no backup of `af admin backup`", options.file.display()))?;
    let _lock = lock(&data)?;
    let path = data.join("master.key");
    let key = match (&key.af_master_key, &environment.backup_passphrase) {
        (None, _) => None,
        (Some(_), None) => bail!("the master key is in this backup; set AF_BACKUP_PASSPHRASE to open it"),
        (Some(sealed), Some(passphrase)) => Some(sealed.open(passphrase)?),
    };
    if let Some(key) = &key
        && fs::read(&path).is_ok_and(|there| there != **key)
    {
        bail!("{} is another master key than that of the backup; choose an empty --data-dir", path.display());
    }
    let summary = load(&database, from).await?;
    if let Some(key) = &key
        && !path.exists()
    {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(key)?;
        file.sync_all()?;
    }
    let mut message = format!("{} rows of {} tables are restored", summary.rows, summary.tables);
    if !path.exists() {
        message.push_str(&format!(
            "\nwarning: the backup has no master key. Copy that of the first server to {} before you start this one",
            path.display()
        ));
    }
    message.push_str(&format!(
        "\nnext: copy the first server's folder blocks to {}, and start af up",
        data.display()
    ));
    let value = json!({ "schema": summary.schema, "tables": summary.tables, "rows": summary.rows,
        "masterKey": path.exists() });
    output.result(&value, &message);
    Ok(())
}

fn kept(options: &Kept, environment: &Environment) -> anyhow::Result<(PathBuf, Database)> {
    let data = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => environment.data_dir()?,
    };
    let database = options.database.clone().unwrap_or_else(|| Database::Sqlite(data.join("af.sqlite")));
    Ok((data, database))
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
