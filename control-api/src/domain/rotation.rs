//! Rotation of the master key: what is sealed with it is sealed with the next one, a few rows at a time, while servers go
//! on. Until all is done both keys are there, so that a crash at any point loses nothing, and the rotation goes on from there.

mod kinds;

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use self::kinds::Kind;
use super::audit::{self, Event};
use super::master_key::{Keyring, MasterKey};
use super::settings::recover;
use super::{Actor, project_keys};
use crate::store::backup::BackupError;
use crate::store::{self, Connection, Database, Store, StoreError};

/// By what it is judged whether a master key is the database's: what operators can do without, once the key is lost.
const TELLING: [Kind; 3] = [Kind::Project, Kind::SigningKey, Kind::FeedKey];

/// Passes over all rows. Each further one is for what servers sealed meanwhile, which happens once for a project.
const PASSES: usize = 100;

/// Why the master key is not rotated. What was sealed anew stays so, and both keys stay.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The key was given, and the one before was not.
    #[error(
        "say which master key comes after which: the new one, and as the previous one what everything is sealed with now"
    )]
    OneKey,
    /// Another one than what the database was sealed with.
    #[error(
        "this is not the master key that the database was sealed with, or its file is not there; say where it is, as `af up` is told"
    )]
    OtherKey,
    /// Another process is at it.
    #[error("the master key is being rotated by another process")]
    Running,
    /// Neither key opens it.
    #[error(
        "{what} {id} cannot be opened with the master key; restore the key that it was sealed with, or remove it"
    )]
    Sealed {
        /// What it is.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// Servers seal faster than this.
    #[error("servers went on sealing with the old master key; give all of them the new one, then try again")]
    Restless,
    /// The file of the key.
    #[error("the file of the master key cannot be read or written")]
    Key(#[from] io::Error),
    /// The database.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The audit log.
    #[error("the rotation cannot be written down in the audit log: {0}")]
    Audit(#[source] Box<super::Error>),
    /// What is from before.
    #[error("settings from before cannot be sealed anew: {0}")]
    Settings(#[source] Box<super::Error>),
}

/// A rotation that goes on until [`Rotation::finish`] has succeeded, over crashes.
#[derive(Debug)]
pub struct Rotation {
    store: Store,
    keys: Keyring,
    next: Option<(Kind, String)>,
    sealed: u64,
    _lock: Option<File>,
}

impl Rotation {
    /// Makes the next key, or goes on with a rotation that was cut off.
    ///
    /// # Errors
    /// When the key or the database cannot be used, or another process rotates the key.
    pub async fn begin(database: &Database, key: &MasterKey) -> Result<Self, RotationError> {
        if !Keyring::is_there(key) {
            return Err(RotationError::OtherKey);
        }
        let lock = lock(key)?;
        let store = Store::open(database).await?;
        let keys = Keyring::open(key)?;
        if !opens(&store, &keys).await? {
            return Err(RotationError::OtherKey);
        }
        note(&store, "master_key.rotate").await?;
        keys.begin()?;
        if !keys.is_rotating() {
            return Err(RotationError::OneKey);
        }
        // Sealed with the master key itself, before projects had keys for it.
        recover(&store, &keys).await.map_err(|error| RotationError::Settings(Box::new(error)))?;
        Ok(Self { store, keys, next: Some((Kind::FIRST, String::new())), sealed: 0, _lock: lock })
    }

    /// Seals a few keys anew. Returns whether there are more.
    ///
    /// # Errors
    /// When one cannot be opened, or the database fails.
    pub async fn step(&mut self) -> Result<bool, RotationError> {
        let Some((what, after)) = self.next.take() else { return Ok(false) };
        let (last, sealed) = step(&self.store, &self.keys, what, &after).await?;
        self.sealed += sealed;
        self.next = what.following(last);
        Ok(self.next.is_some())
    }

    /// Seals what is left, and makes the next key the only one. Returns how many keys were sealed anew by this process.
    ///
    /// # Errors
    /// As for [`Self::step`].
    pub async fn finish(mut self) -> Result<u64, RotationError> {
        while self.step().await? {}
        Ok(self.sealed + finish(&self.store, &self.keys).await?)
    }
}

/// Goes on with a rotation that was cut off, unless another process does. A key that was given is rotated by its owner. What keeps the
/// rotation from its end keeps no server from its start: both keys stay.
pub(crate) async fn resume(store: &Store, keys: &Keyring, key: &MasterKey) -> Result<(), RotationError> {
    if !keys.is_rotating() || matches!(key, MasterKey::Given { .. }) {
        return Ok(());
    }
    let lock = match lock(key) {
        Err(RotationError::Running) => return Ok(()),
        lock => lock?,
    };
    match finish(store, keys).await {
        Ok(sealed) => tracing::info!(sealed, "finished a rotation of the master key that was cut off"),
        Err(error @ (RotationError::Sealed { .. } | RotationError::Restless)) => {
            tracing::error!(%error, "a rotation of the master key is not finished; both keys stay in use");
        }
        Err(error) => return Err(error),
    }
    drop(lock);
    Ok(())
}

/// Whether the keys open what is sealed. Judged by the first few, so that one rotten row keeps no server from starting.
pub(crate) async fn opens(store: &Store, keys: &Keyring) -> Result<bool, StoreError> {
    let mut db = store.read().await?;
    for what in TELLING {
        let some = what.read(&mut db, "").await?;
        if !some.is_empty() {
            return Ok(some.iter().any(|(id, sealed)| keys.unseal_bytes(&what.place(id), sealed).is_ok()));
        }
    }
    Ok(true)
}

/// Whether anything is sealed with a master key.
pub(crate) async fn is_sealed(store: &Store) -> Result<bool, StoreError> {
    let mut db = store.read().await?;
    for what in TELLING {
        if !what.read(&mut db, "").await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a backup with these keys opens what is sealed in a database, which another version of this program may have made.
///
/// # Errors
/// When the database or the key cannot be read.
pub async fn fits(database: &Database, key: &MasterKey) -> Result<bool, BackupError> {
    let keys = Keyring::open(key)?;
    let some = store::backup::project_keys(database).await?;
    let opens =
        |(id, sealed): &(String, Vec<u8>)| keys.unseal_bytes(&project_keys::place(id), sealed).is_ok();
    Ok(some.is_empty() || some.iter().any(opens))
}

/// Seals everything with the current key, until nothing is left and nobody can add to it.
async fn finish(store: &Store, keys: &Keyring) -> Result<u64, RotationError> {
    let mut count = 0;
    for _ in 0..PASSES {
        // Nobody else writes before the file has changed, and whoever seals reads the file within such a transaction.
        let mut db = store.begin().await?;
        if is_done(&mut db, keys).await? {
            let (operator, event) = (operator(store).await?, rotated("master_key.finish"));
            audit::write(&mut db, &operator, event).await.map_err(unwritten)?;
            keys.finish()?;
            db.commit().await.map_err(StoreError::from)?;
            return Ok(count);
        }
        drop(db);
        let mut next = Some((Kind::FIRST, String::new()));
        while let Some((what, after)) = next {
            let (last, sealed) = step(store, keys, what, &after).await?;
            count += sealed;
            next = what.following(last);
        }
    }
    Err(RotationError::Restless)
}

/// Writes down what is about to be done.
async fn note(store: &Store, action: &'static str) -> Result<(), RotationError> {
    let operator = operator(store).await?;
    let db = store.begin().await?;
    audit::commit(db, &operator, rotated(action)).await.map_err(unwritten)
}

/// Who may read the key's file is the operator, whose log this is in.
async fn operator(store: &Store) -> Result<Actor, StoreError> {
    let operator = store.first_user().await?;
    Ok(Actor::without_token(operator.as_ref().map_or("platform", |operator| &operator.id)))
}

fn rotated(action: &'static str) -> Event<'static> {
    Event::maybe(action, "master_key", None)
}

fn unwritten(error: super::Error) -> RotationError {
    RotationError::Audit(Box::new(error))
}

async fn is_done(db: &mut Connection, keys: &Keyring) -> Result<bool, RotationError> {
    let mut next = Some((Kind::FIRST, String::new()));
    while let Some((what, after)) = next {
        let rows = what.read(db, &after).await?;
        if rows.iter().any(|(id, sealed)| !keys.is_current(&what.place(id), sealed)) {
            return Ok(false);
        }
        next = what.following(rows.last().map(|(id, _)| id.clone()));
    }
    Ok(true)
}

/// Returns the last id, and how many were sealed anew.
async fn step(
    store: &Store,
    keys: &Keyring,
    what: Kind,
    after: &str,
) -> Result<(Option<String>, u64), RotationError> {
    let mut db = store.begin().await?;
    let rows = what.read(&mut db, after).await?;
    let mut sealed_anew = 0;
    for (id, sealed) in &rows {
        let place = what.place(id);
        if keys.is_current(&place, sealed) {
            continue;
        }
        let failed = |_| RotationError::Sealed { what: what.name(), id: id.clone() };
        let key = keys.unseal_bytes(&place, sealed).map_err(failed)?;
        what.write(&mut db, id, &keys.seal_bytes(&place, &key)?).await?;
        sealed_anew += 1;
    }
    db.commit().await.map_err(StoreError::from)?;
    Ok((rows.last().map(|(id, _)| id.clone()), sealed_anew))
}

/// One process at a time. A key that was given changes nowhere, so that several may do the same work.
fn lock(key: &MasterKey) -> Result<Option<File>, RotationError> {
    let MasterKey::File(path) = key else { return Ok(None) };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::create(PathBuf::from(name))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(RotationError::Running),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
