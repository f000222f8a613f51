//! `wasi:keyvalue`: stores of the function's project. Both drafts that guests are made with lead to the same
//! entries. A counter is decimal text, as in Wasmtime's own implementation.

mod store;

use std::sync::Arc;

use af_contract::{StoreName, limits};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime_wasi::WasiView;

pub use self::store::{Change, Changed, CopyError, KeyValue, Namespace, StoreError};
use crate::sandbox::State;

/// What one instance may open, and how much it may still do for its request.
pub struct Stores {
    keyvalue: KeyValue,
    project: Arc<str>,
    allowed: Arc<[StoreName]>,
    left: u32,
}

impl Stores {
    /// For one request. `allowed` are the stores besides the default one.
    pub fn new(keyvalue: KeyValue, project: Arc<str>, allowed: Arc<[StoreName]>) -> Self {
        Self { keyvalue, project, allowed, left: limits::STORE_OPERATIONS }
    }

    /// Another request of the same instance begins.
    pub fn renew(&mut self) {
        self.left = limits::STORE_OPERATIONS;
    }

    /// Another request joins those of the instance.
    pub fn admit(&mut self) {
        self.left = self.left.saturating_add(limits::STORE_OPERATIONS);
    }

    /// An empty name means the default store, as guests of other hosts write it.
    fn open(&self, name: &str) -> Result<Bucket, Error> {
        let name = if name.is_empty() { StoreName::DEFAULT } else { name };
        let parsed = StoreName::parse(name).map_err(|_| Error::NoSuchStore)?;
        if name != StoreName::DEFAULT && !self.allowed.contains(&parsed) {
            return Err(Error::AccessDenied);
        }
        Ok(Bucket { namespace: Namespace::new(&self.project, name), cursors: Vec::new() })
    }

    fn spend(&mut self) -> Result<KeyValue, Error> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                let most = limits::STORE_OPERATIONS;
                return Err(Error::Other(format!("a request may use key-value stores {most} times")));
            }
        }
        Ok(self.keyvalue.clone())
    }
}

/// `wasi:keyvalue/store.bucket`
pub struct Bucket {
    namespace: Namespace,
    /// Where listings of the first draft go on, whose cursors are numbers.
    cursors: Vec<String>,
}

/// `wasi:keyvalue/atomics.cas`: a value to be swapped.
pub struct Cas {
    namespace: Namespace,
    key: String,
    current: Option<Vec<u8>>,
}

/// `wasi:keyvalue/store.error`
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

/// `wasi:keyvalue/store.key-response`, with the cursor of a draft.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse<C> {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<C>,
}

/// `wasi:keyvalue/atomics.cas-error`
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    StoreError(Error),
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

type Context<'a> = StoreContextMut<'a, State>;

pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut draft = linker.instance("wasi:keyvalue/store@0.2.0-draft")?;
    add_store(&mut draft)?;
    draft.func_wrap_async("[method]bucket.list-keys", |mut store, (bucket, cursor)| {
        Box::new(async move { Ok((numbered(&mut store, &bucket, cursor).await?,)) })
    })?;
    let mut draft2 = linker.instance("wasi:keyvalue/store@0.2.0-draft2")?;
    add_store(&mut draft2)?;
    draft2.func_wrap_async(
        "[method]bucket.list-keys",
        |mut store: Context, (bucket, cursor): (Resource<Bucket>, Option<String>)| {
            Box::new(async move {
                let listed = list(&mut store, &bucket, cursor).await?;
                let response = |(keys, more): (Vec<String>, bool)| {
                    let cursor = keys.last().filter(|_| more).cloned();
                    KeyResponse { keys, cursor }
                };
                Ok((listed.map(response),))
            })
        },
    )?;

    add_counter::<u64>(&mut linker.instance("wasi:keyvalue/atomics@0.2.0-draft")?)?;
    let mut atomics = linker.instance("wasi:keyvalue/atomics@0.2.0-draft2")?;
    add_counter::<i64>(&mut atomics)?;
    add_cas(&mut atomics)?;

    let mut batch = linker.instance("wasi:keyvalue/batch@0.2.0-draft")?;
    add_batch(&mut batch)?;
    batch.func_wrap_async(
        "get-many",
        |mut store: Context, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move {
                let found = read(&mut store, &bucket, keys).await?;
                let there = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
                Ok((found.map(|found| found.into_iter().map(there).collect::<Vec<_>>()),))
            })
        },
    )?;
    let mut batch = linker.instance("wasi:keyvalue/batch@0.2.0-draft2")?;
    add_batch(&mut batch)?;
    batch.func_wrap_async(
        "get-many",
        |mut store: Context, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move { Ok((read(&mut store, &bucket, keys).await?,)) })
        },
    )
}

/// What both drafts of `store` have.
fn add_store(interface: &mut LinkerInstance<State>) -> wasmtime::Result<()> {
    interface.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        store.data_mut().ctx().table.delete(Resource::<Bucket>::new_own(rep))?;
        Ok(())
    })?;
    interface.func_wrap("open", |mut store: Context, (name,): (String,)| {
        let opened = match store.data().stores().open(&name) {
            Ok(bucket) => Ok(store.data_mut().ctx().table.push(bucket)?),
            Err(error) => Err(error),
        };
        Ok((opened,))
    })?;
    interface.func_wrap_async(
        "[method]bucket.get",
        |mut store: Context, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move { Ok((one(&mut store, &bucket, key).await?,)) })
        },
    )?;
    interface.func_wrap_async(
        "[method]bucket.exists",
        |mut store: Context, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let value = one(&mut store, &bucket, key).await?;
                Ok((value.map(|value| value.is_some()),))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]bucket.set",
        |mut store: Context, (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)| {
            Box::new(async move {
                let changed = write(&mut store, &bucket, Change::Set(vec![(key, value)])).await?;
                Ok((changed.map(drop),))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]bucket.delete",
        |mut store: Context, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let changed = write(&mut store, &bucket, Change::Delete(vec![key])).await?;
                Ok((changed.map(drop),))
            })
        },
    )
}

/// What both drafts of `batch` have.
fn add_batch(interface: &mut LinkerInstance<State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "set-many",
        |mut store: Context, (bucket, entries): (Resource<Bucket>, Vec<(String, Vec<u8>)>)| {
            Box::new(async move { Ok((write(&mut store, &bucket, Change::Set(entries)).await?.map(drop),)) })
        },
    )?;
    interface.func_wrap_async(
        "delete-many",
        |mut store: Context, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move { Ok((write(&mut store, &bucket, Change::Delete(keys)).await?.map(drop),)) })
        },
    )
}

/// `increment`, whose numbers have a sign in the second draft only.
fn add_counter<N>(interface: &mut LinkerInstance<State>) -> wasmtime::Result<()>
where
    N: ComponentType + Lift + Lower + Into<i128> + TryFrom<i128> + Send + Sync + 'static,
{
    interface.func_wrap_async(
        "increment",
        |mut store: Context, (bucket, key, delta): (Resource<Bucket>, String, N)| {
            Box::new(async move {
                let changed = write(&mut store, &bucket, Change::Increment(key, delta.into())).await?;
                let number = changed.and_then(|changed| match changed {
                    Changed::Number(number) => {
                        N::try_from(number).map_err(|_| Error::from(StoreError::Number))
                    }
                    Changed::Done | Changed::Conflict(_) => Err(StoreError::Number.into()),
                });
                Ok((number,))
            })
        },
    )
}

fn add_cas(interface: &mut LinkerInstance<State>) -> wasmtime::Result<()> {
    interface.resource("cas", ResourceType::host::<Cas>(), |mut store, rep| {
        store.data_mut().ctx().table.delete(Resource::<Cas>::new_own(rep))?;
        Ok(())
    })?;
    interface.func_wrap_async(
        "[static]cas.new",
        |mut store: Context, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let namespace = namespace(&mut store, &bucket)?;
                let cas = match one(&mut store, &bucket, key.clone()).await? {
                    Ok(current) => Ok(store.data_mut().ctx().table.push(Cas { namespace, key, current })?),
                    Err(error) => Err(error),
                };
                Ok((cas,))
            })
        },
    )?;
    interface.func_wrap("[method]cas.current", |mut store: Context, (cas,): (Resource<Cas>,)| {
        let current = store.data_mut().ctx().table.get(&cas)?.current.clone();
        Ok((Ok::<_, Error>(current),))
    })?;
    interface.func_wrap_async("swap", |mut store: Context, (cas, value): (Resource<Cas>, Vec<u8>)| {
        Box::new(async move {
            let Cas { namespace, key, current } = store.data_mut().ctx().table.delete(cas)?;
            let change = Change::Swap { key: key.clone(), expected: current, value };
            let swapped = match spend(&mut store) {
                Ok(keyvalue) => {
                    let written = keyvalue.write(namespace.clone(), change).await;
                    written.map_err(|error| told(&store, error))
                }
                Err(error) => Err(error),
            };
            let result = match swapped {
                Ok(Changed::Conflict(current)) => {
                    let cas = Cas { namespace, key, current };
                    Err(CasError::CasFailed(store.data_mut().ctx().table.push(cas)?))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(CasError::StoreError(error)),
            };
            Ok((result,))
        })
    })
}

/// One operation of those that a request may do.
fn spend(store: &mut Context<'_>) -> Result<KeyValue, Error> {
    let spent = store.data_mut().stores_mut().spend();
    if let Err(Error::Other(text)) = &spent {
        store.data().log().limit("store_operation_limit_reached", text);
    }
    spent
}

/// What the guest is told, and the log if it is a limit.
fn told(store: &Context<'_>, error: StoreError) -> Error {
    let text = error.to_string();
    match error {
        StoreError::Full => store.data().log().limit("store_full", &text),
        StoreError::Rate => store.data().log().limit("store_write_limit_reached", &text),
        _ => {}
    }
    Error::Other(text)
}

fn namespace(store: &mut Context<'_>, bucket: &Resource<Bucket>) -> wasmtime::Result<Namespace> {
    Ok(store.data_mut().ctx().table.get(bucket)?.namespace.clone())
}

async fn read(
    store: &mut Context<'_>,
    bucket: &Resource<Bucket>,
    keys: Vec<String>,
) -> wasmtime::Result<Result<Vec<(String, Option<Vec<u8>>)>, Error>> {
    let namespace = namespace(store, bucket)?;
    Ok(match spend(store) {
        Ok(keyvalue) => keyvalue.read(namespace, keys).await.map_err(Error::from),
        Err(error) => Err(error),
    })
}

async fn one(
    store: &mut Context<'_>,
    bucket: &Resource<Bucket>,
    key: String,
) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
    let found = read(store, bucket, vec![key]).await?;
    Ok(found.map(|mut found| found.pop().and_then(|(_, value)| value)))
}

async fn write(
    store: &mut Context<'_>,
    bucket: &Resource<Bucket>,
    change: Change,
) -> wasmtime::Result<Result<Changed, Error>> {
    let namespace = namespace(store, bucket)?;
    Ok(match spend(store) {
        Ok(keyvalue) => keyvalue.write(namespace, change).await.map_err(|error| told(store, error)),
        Err(error) => Err(error),
    })
}

async fn list(
    store: &mut Context<'_>,
    bucket: &Resource<Bucket>,
    after: Option<String>,
) -> wasmtime::Result<Result<(Vec<String>, bool), Error>> {
    let namespace = namespace(store, bucket)?;
    Ok(match spend(store) {
        Ok(keyvalue) => keyvalue.keys(namespace, after).await.map_err(Error::from),
        Err(error) => Err(error),
    })
}

/// A listing of the first draft. Its cursors are numbers, so a bucket keeps where they stand.
async fn numbered(
    store: &mut Context<'_>,
    bucket: &Resource<Bucket>,
    cursor: Option<u64>,
) -> wasmtime::Result<Result<KeyResponse<u64>, Error>> {
    let cursors = &store.data_mut().ctx().table.get(bucket)?.cursors;
    let known = |cursor: u64| usize::try_from(cursor).ok().and_then(|cursor| cursors.get(cursor)).cloned();
    let after = match cursor {
        Some(cursor) => match known(cursor) {
            Some(after) => Some(after),
            None => {
                let reason = format!("{cursor} is no cursor of a listing of this bucket");
                return Ok(Err(Error::Other(reason)));
            }
        },
        None => None,
    };
    let (keys, more) = match list(store, bucket, after).await? {
        Ok(listed) => listed,
        Err(error) => return Ok(Err(error)),
    };
    let cursors = &mut store.data_mut().ctx().table.get_mut(bucket)?.cursors;
    let cursor = keys.last().filter(|_| more).map(|last| {
        cursors.push(last.clone());
        cursors.len() as u64 - 1
    });
    Ok(Ok(KeyResponse { keys, cursor }))
}
