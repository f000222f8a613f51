//! What the items of a list need besides, asked for all of them at once.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use async_graphql::Context;
use async_graphql::dataloader::{DataLoader, Loader};

use super::failure::{Failure, Result};
use crate::app::State;
use crate::domain::{Actor, Error, builds, domains, site_deployments};
use crate::store::{DeployedRow, DomainRow, SiteDeploymentRow};

/// Asks for one actor.
pub(super) struct Loads {
    state: Arc<State>,
    actor: Actor,
}

/// A deployment of a project's function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Current {
    pub(super) project: String,
    pub(super) deployment: String,
}

/// A function's newest deployments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Newest {
    pub(super) project: String,
    pub(super) function: String,
}

/// Domains of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owned {
    pub(super) project: String,
    pub(super) site: String,
}

/// A site's newest deployments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NewestOfSite {
    pub(super) project: String,
    pub(super) site: String,
}

/// Keys of one project.
type Group<'k, K> = (&'k str, Vec<String>, BTreeMap<String, K>);

fn grouped<'k, K: Clone>(keys: &'k [K], parts: impl Fn(&'k K) -> (&'k str, &'k str)) -> Vec<Group<'k, K>> {
    let mut groups: BTreeMap<&str, BTreeMap<String, K>> = BTreeMap::new();
    for key in keys {
        let (project, id) = parts(key);
        groups.entry(project).or_default().insert(id.to_owned(), key.clone());
    }
    groups.into_iter().map(|(project, keys)| (project, keys.keys().cloned().collect(), keys)).collect()
}

macro_rules! load {
    ($key:ty, $value:ty, |$wanted:ident| $parts:expr, |$loads:ident, $project:ident, $ids:ident| $ask:expr) => {
        impl Loader<$key> for Loads {
            type Value = $value;
            type Error = Arc<Error>;

            async fn load(&self, keys: &[$key]) -> std::result::Result<HashMap<$key, $value>, Arc<Error>> {
                let $loads = self;
                let mut found = HashMap::new();
                for ($project, $ids, mut keys) in grouped(keys, |$wanted| $parts) {
                    let values: Vec<(String, $value)> = $ask.await.map_err(Arc::new)?;
                    found.extend(
                        values.into_iter().filter_map(|(id, value)| Some((keys.remove(&id)?, value))),
                    );
                }
                Ok(found)
            }
        }
    };
}

load!(Current, DeployedRow, |key| (&key.project, &key.deployment), |loads, project, ids| async {
    let rows = builds::several(&loads.state, &loads.actor, project, &ids).await?;
    Ok::<_, Error>(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
});

load!(Newest, Vec<DeployedRow>, |key| (&key.project, &key.function), |loads, project, ids| async {
    let rows = builds::newest_deployed(&loads.state, &loads.actor, project, &ids).await?;
    Ok::<_, Error>(together(rows, |row| &row.function_id))
});

load!(Owned, Vec<DomainRow>, |key| (&key.project, &key.site), |loads, project, ids| async {
    let rows = domains::of_sites(&loads.state, &loads.actor, project, &ids).await?;
    Ok::<_, Error>(together(rows, |row| &row.owner_id))
});

load!(NewestOfSite, Vec<SiteDeploymentRow>, |key| (&key.project, &key.site), |loads, project, ids| async {
    let rows = site_deployments::newest(&loads.state, &loads.actor, project, &ids).await?;
    Ok::<_, Error>(together(rows, |row| &row.site_id))
});

/// Rows by what they belong to.
fn together<R>(rows: Vec<R>, of: impl Fn(&R) -> &String) -> Vec<(String, Vec<R>)> {
    let mut groups: BTreeMap<String, Vec<R>> = BTreeMap::new();
    for row in rows {
        groups.entry(of(&row).clone()).or_default().push(row);
    }
    groups.into_iter().collect()
}

/// One for each request, so that nothing is remembered for longer, or for anybody else.
pub(super) fn loader(state: &Arc<State>, actor: &Actor) -> DataLoader<Loads> {
    DataLoader::new(Loads { state: state.clone(), actor: actor.clone() }, tokio::spawn)
}

/// What belongs to the key, once for all keys that are asked for at the same time.
pub(super) async fn one<K>(ctx: &Context<'_>, key: K) -> Result<Option<<Loads as Loader<K>>::Value>>
where
    K: Send + Sync + Hash + Eq + Clone + 'static,
    Loads: Loader<K, Error = Arc<Error>>,
{
    let loader = ctx.data::<DataLoader<Loads>>().map_err(|_| Failure::from(Error::Unauthenticated))?;
    Ok(loader.load_one(key).await?)
}
