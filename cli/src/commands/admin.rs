//! `af admin …`

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use af_control_api::domain::key_backup::SealedKey;
use af_control_api::domain::master_key::Presence;
use af_control_api::domain::rotation;
use af_control_api::store::backup::{BackupError, Form, Summary, dump, load};
use af_control_api::{Database, Key, MasterKey};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plans;
use super::server::lock;
use super::{entries, master_key};
use crate::args::admin::{Admin, Backup, Kept, Restore};
use crate::client::Finding;
use crate::config::Environment;
use crate::output::Output;

/// Bytes of the line that has the key.
const KEY_LINE: u64 = 4096;

/// Rows are text that repeats itself; a higher level takes longer than reading them.
const LEVEL: i32 = 6;

/// The first line of a backup; the rows follow.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    af_master_key: Option<SealedKey>,
}

/// Runs one of the subcommands.
pub async fn run(command: Admin, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    match command {
        Admin::Backup(options) => backup(&options, environment, output).await,
        Admin::Restore(options) => restore(&options, environment, output).await,
        Admin::RotateMasterKey(options) => master_key::rotate(options, environment, output).await,
        Admin::Plans(command) => plans::run(command, environment, output).await,
    }
}

async fn backup(options: &Backup, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    refuse_overwriting(&options.file, options.replace)?;
    let (data, database) = kept(&options.kept, environment)?;
    is_there(&database)?;
    let (master_key, keys) = match options.with_key {
        true => keys(options, environment, &data, &database).await?,
        false => (None, Vec::new()),
    };
    let sealed = match (&master_key, &environment.backup_passphrase) {
        (None, _) => None,
        (Some(_), None) => {
            bail!("set AF_BACKUP_PASSPHRASE to a passphrase of 12 or more characters for --with-key")
        }
        (Some(_), Some(passphrase)) => {
            Some(SealedKey::of(&keys, passphrase).context("cannot put the master key in")?)
        }
    };
    let (summary, kept) = write(&options.file, &data, &database, sealed).await.inspect_err(|_| {
        // What is not whole is nothing; that it could not be made is said already.
        let _left = fs::remove_file(partial(&options.file));
    })?;
    if let Some(key) = &master_key
        && key.keys()? != keys
    {
        fs::remove_file(&options.file)?;
        bail!("the master key was rotated while the backup was made; make it again");
    }
    let bytes = fs::metadata(&options.file)?.len();
    let mut message =
        format!("{} rows of {} tables are in {}", summary.rows, summary.tables, options.file.display());
    if !options.with_key {
        message.push_str(
            "\nwarning: the master key is not in it. Without it nobody can open settings, secrets and the keys of certificates \
             and private content: keep a copy elsewhere, or use --with-key",
        );
    }
    message.push_str(&format!(
        "\ncontent is not in it: copy {} now, whose files never change",
        data.join("blocks").display()
    ));
    match kept {
        Some(count) => message.push_str(&format!(
            "\n{count} entries that functions keep (wasi:keyvalue) are in it; those of edges of their own are not"
        )),
        None => message.push_str(
            "\nentries that functions keep (wasi:keyvalue) are not in it: edges of their own have them in their data directories",
        ),
    }
    let value = json!({ "file": options.file, "bytes": bytes, "withKey": options.with_key, "entries": kept, "schema": summary.schema,
        "tables": summary.tables, "rows": summary.rows });
    output.result(&value, &message);
    Ok(())
}

/// The rows, and behind them what functions keep, where this data directory has that. Returns how many entries there are.
async fn write(
    file: &Path,
    data: &Path,
    database: &Database,
    key: Option<SealedKey>,
) -> anyhow::Result<(Summary, Option<u64>)> {
    let partial = partial(file);
    let mut open = OpenOptions::new();
    let opened = open.write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let opened = opened.with_context(|| format!("cannot write {}", partial.display()))?;
    let mut out = zstd::Encoder::new(opened, LEVEL)?;
    out.include_checksum(true)?;
    serde_json::to_writer(&mut out, &First { af_master_key: key })?;
    out.write_all(b"\n")?;
    let has_entries = entries::file(data).exists();
    let form = if has_entries { Form::Followed } else { Form::Rows };
    let summary = dump(database, form, &mut out).await?;
    let count = has_entries.then(|| entries::put(data, &mut out)).transpose()?;
    out.finish()?.sync_all()?;
    fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok((summary, count))
}

async fn restore(options: &Restore, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let (data, database) = kept(&options.kept, environment)?;
    let opened = File::open(&options.file);
    let opened = opened.with_context(|| format!("cannot read {}", options.file.display()))?;
    let (first, from) = first_line(opened).with_context(|| no_backup(&options.file))?;
    let _lock = lock(&data)?;
    let keys = match (&first.af_master_key, &environment.backup_passphrase) {
        (None, _) => Vec::new(),
        (Some(_), None) => bail!("the master key is in this backup; set AF_BACKUP_PASSPHRASE to open it"),
        (Some(sealed), Some(passphrase)) => sealed.open(passphrase)?,
    };
    let place = master_key::find(&options.master_key, environment, &data).await?;
    let found = place.presence(&keys)?;
    if found == Presence::Others {
        match place {
            MasterKey::File(path) => bail!(
                "{} is another master key than that of the backup; choose an empty --data-dir",
                path.display()
            ),
            MasterKey::Given { .. } => bail!(
                "the backup's master key is another than the one that was given; give that one, or none, and the backup's is \
                 written to a file"
            ),
        }
    }
    let (file, mut count) = (entries::file(&data), None);
    let partial = partial(&file);
    let behind = |from: &mut Lines| {
        if file.exists() {
            let there =
                format!("{} is there already; choose an empty --data-dir, or move it away", file.display());
            return Err(BackupError::Behind(there.into()));
        }
        count = Some(entries::restore(&partial, from)?);
        Ok(())
    };
    let summary = load(&database, from, behind).await.map_err(|error| {
        // What is not whole is nothing; mostly there is none.
        let _left = fs::remove_file(&partial);
        // Rows that the database does not take are none that it had.
        let is_damaged = match &error {
            BackupError::File(_) | BackupError::Damaged(_) => true,
            BackupError::Store(error) => error.is_refusal(),
            _ => false,
        };
        let error = anyhow::Error::new(error);
        if is_damaged { error.context(damaged(&options.file)) } else { error }
    })?;
    if count.is_some() {
        fs::rename(&partial, &file).with_context(|| {
            format!("all is restored, but {} must be renamed to {}", partial.display(), file.display())
        })?;
    }
    if found == Presence::Missing && !keys.is_empty() {
        place.restore(&keys).with_context(|| format!("cannot write the master key {place}"))?;
    }
    let restored =
        Restored { summary, entries: count, has_key: found == Presence::These || !keys.is_empty() };
    let value = json!({ "schema": summary.schema, "backupSchema": summary.made_at, "tables": summary.tables, "rows": summary.rows,
        "entries": count, "masterKey": restored.has_key });
    output.result(&value, &restored.told(&data));
    Ok(())
}

struct Restored {
    summary: Summary,
    /// Of functions; none are known where the backup has no such part.
    entries: Option<u64>,
    has_key: bool,
}

impl Restored {
    fn told(&self, data: &Path) -> String {
        let Self { summary, entries, has_key } = self;
        let mut message = format!("{} rows of {} tables are restored", summary.rows, summary.tables);
        if summary.made_at < summary.schema {
            message.push_str(&format!(
                "\nthe backup is of an older version: its schema {} was brought to {}",
                summary.made_at, summary.schema
            ));
        }
        match entries {
            Some(count) => message.push_str(&format!(
                "\n{count} entries that functions keep (wasi:keyvalue) are in {}",
                entries::file(data).display()
            )),
            None => message.push_str(
                "\nentries that functions keep (wasi:keyvalue) are not in the backup: where the first server or an edge has a file \
                 keyvalue.redb in its data directory, stop it and copy that",
            ),
        }
        if !has_key {
            message.push_str(
                "\nwarning: the backup has no master key. Give this server that of the first one before you start it; in a file, it \
                 is master.key in the data directory",
            );
        }
        message.push_str(
            "\nedges, tokens and members that were removed after the backup count again: look at `af edges list`, `af pat list` and \
             `af members list`",
        );
        message.push_str(&format!(
            "\nnext: copy the first server's folder blocks to {}, then start af up",
            data.display()
        ));
        message
    }
}

type Lines = BufReader<zstd::Decoder<'static, BufReader<File>>>;

/// The key, if it is there, and the rows.
fn first_line(file: File) -> anyhow::Result<(First, Lines)> {
    let mut from = BufReader::new(zstd::Decoder::new(file)?);
    let mut line = Vec::new();
    from.by_ref().take(KEY_LINE).read_until(b'\n', &mut line)?;
    Ok((serde_json::from_slice(&line)?, from))
}

fn no_backup(file: &Path) -> Finding {
    let detail = format!("{} is no backup that `af admin backup` has made, or it is damaged", file.display());
    Finding::new("no_backup", detail)
}

fn damaged(file: &Path) -> Finding {
    let detail = format!(
        "{} is damaged, and nothing of it was restored; use another backup, or another copy of this one",
        file.display()
    );
    Finding::new("backup_damaged", detail)
}

/// Nobody loses the backup of yesterday to a name that is given twice.
pub(super) fn refuse_overwriting(file: &Path, replace: bool) -> anyhow::Result<()> {
    if file.exists() && !replace {
        bail!("{} is there already; choose another name, or add --replace", file.display());
    }
    Ok(())
}

/// The keys that open what is in the database, and where they are.
async fn keys(
    options: &Backup,
    environment: &Environment,
    data: &Path,
    database: &Database,
) -> anyhow::Result<(Option<MasterKey>, Vec<Key>)> {
    let place = master_key::find(&options.master_key, environment, data).await?;
    let keys = place.keys().with_context(|| format!("cannot put the master key {place} in"))?;
    if !rotation::fits(database, &place).await? {
        bail!("the master key {place} is not the one that the database was sealed with; say where that is");
    }
    Ok((Some(place), keys))
}

/// Where a server keeps everything, and its database.
pub(super) fn kept(options: &Kept, environment: &Environment) -> anyhow::Result<(PathBuf, Database)> {
    let data = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => environment.data_dir()?,
    };
    let database = database(options.database.as_ref(), &data);
    Ok((data, database))
}

/// The one that was given, or the file in the data directory.
pub(super) fn database(given: Option<&Database>, data: &Path) -> Database {
    given.cloned().unwrap_or_else(|| Database::Sqlite(data.join("af.sqlite")))
}

/// Whoever mistypes a directory gets no new, empty database there.
pub(super) fn is_there(database: &Database) -> anyhow::Result<()> {
    match database {
        Database::Sqlite(path) if !path.exists() => {
            bail!("there is no database {}; say where it is with --data-dir or --database", path.display())
        }
        _ => Ok(()),
    }
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
