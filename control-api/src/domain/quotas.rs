//! How many things there may be, so that nobody's lists grow without end: what an organization's plan says, and else the server.

use super::access::{self, Noun};
use super::domains;
use super::plans::Limit;
use super::{Actor, Error, State};
use crate::store::{self, Connection, FunctionRow, OwnPlan, PlanLimits};
use crate::store::{deployments, functions, plans, projects, sites, storage};

/// How many there may be of what anybody can make, where no plan says so; the defaults are what no honest user has come to.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Functions of a project.
    pub functions: u32,
    /// Sites of a project.
    pub sites: u32,
    /// Deployments of a function.
    pub deployments: u32,
    /// Deployments of all functions of a project.
    pub project_deployments: u32,
    /// Projects of an organization.
    pub projects: u32,
    /// Organizations that a user owns.
    pub organizations: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            functions: 10_000,
            sites: 10_000,
            // A server prunes them once a day: this is one every nine seconds.
            deployments: 10_000,
            project_deployments: 100_000,
            projects: 1_000,
            organizations: 100,
        }
    }
}

/// What counts for an organization and what it has.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its plan.
    pub plan: Option<OwnPlan>,
    server: PlanLimits,
}

/// A limit, and what is used of it.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Which.
    pub limit: Limit,
    /// How many there may be; none: any.
    pub most: Option<i64>,
    /// Whether the plan says so, and not the server to all.
    pub by_plan: bool,
    /// How many there are; none: it counts for each of what this is not about.
    pub used: Option<i64>,
}

/// An organization's plan, and what counts for it.
///
/// # Errors
/// When the actor is no member.
pub async fn of_organization(state: &State, actor: &Actor, id: &str) -> Result<(Terms, Vec<Quota>), Error> {
    access::organization(state, actor, id, Noun::Usage.read()).await?;
    let mut db = state.store.read().await?;
    let terms = Terms::new(state, plans::of_organization(&mut db, id).await?);
    let mut all = Vec::new();
    for limit in Limit::ALL {
        let used = match limit {
            Limit::Projects => Some(projects::count(&mut db, id).await?),
            Limit::Members => Some(plans::count_members(&mut db, id, "").await?),
            _ => None,
        };
        all.push(terms.quota(limit, used));
    }
    Ok((terms, all))
}

/// The plan of a project's organization, and what counts for the project.
///
/// # Errors
/// When the actor is no member.
pub async fn of_project(state: &State, actor: &Actor, id: &str) -> Result<(Terms, Vec<Quota>), Error> {
    access::project(state, actor, id, Noun::Usage.read()).await?;
    let mut db = state.store.read().await?;
    let terms = Terms::of_project(state, &mut db, id).await?;
    let stored = storage::usage(&mut db, id).await?;
    let mut all = Vec::new();
    for limit in Limit::ALL {
        let used = match limit {
            Limit::Projects | Limit::Members | Limit::RequestsPerMinute => continue,
            Limit::FunctionDeployments => None,
            Limit::Functions => Some(functions::count(&mut db, id).await?),
            Limit::Sites => Some(sites::count(&mut db, id).await?),
            Limit::Domains => Some(store::domains::count(&mut db, id).await?),
            Limit::ProjectDeployments => Some(deployments::count_of_project(&mut db, id).await?),
            Limit::StorageBytes => Some(whole(stored.bytes)),
            Limit::Pins => Some(whole(stored.pins)),
        };
        all.push(terms.quota(limit, used));
    }
    Ok((terms, all))
}

impl Terms {
    fn new(state: &State, plan: Option<OwnPlan>) -> Self {
        let (quotas, storage) = (&state.api.quotas, &state.storage.config);
        let server = PlanLimits {
            projects: Some(quotas.projects.into()),
            members: None,
            requests_per_minute: None,
            functions: Some(quotas.functions.into()),
            sites: Some(quotas.sites.into()),
            domains: Some(domains::MOST),
            project_deployments: Some(quotas.project_deployments.into()),
            storage_bytes: Some(whole(storage.bytes_per_project)),
            pins: Some(whole(storage.pins_per_project)),
            function_deployments: Some(quotas.deployments.into()),
        };
        Self { plan, server }
    }

    /// Those of a project, as the transaction sees them.
    pub(super) async fn of_project(state: &State, db: &mut Connection, id: &str) -> Result<Self, Error> {
        Ok(Self::new(state, plans::of_project(db, id).await?))
    }

    /// Those of an organization, as the transaction sees them.
    pub(super) async fn of_organization(state: &State, db: &mut Connection, id: &str) -> Result<Self, Error> {
        Ok(Self::new(state, plans::of_organization(db, id).await?))
    }

    /// How many there may be; none: any.
    pub(super) fn most(&self, limit: Limit) -> Option<i64> {
        self.planned(limit).or(limit.of(&self.server))
    }

    /// As [`Self::most`], of bytes and pins, for which the server always says something.
    pub(super) fn most_stored(&self, limit: Limit) -> u64 {
        self.most(limit).and_then(|most| u64::try_from(most).ok()).unwrap_or(u64::MAX)
    }

    /// By which plan a limit counts; none: the server says so to all.
    pub(super) fn plan_of(&self, limit: Limit) -> Option<&str> {
        self.planned(limit).and(self.plan.as_ref()).map(|plan| plan.name.as_str())
    }

    /// Refuses one more, where there are `used`. `remedy` says how to make room.
    ///
    /// # Errors
    /// When there are as many as there may be: which limit, of which plan, what is used and what to do.
    pub(super) fn check(&self, limit: Limit, used: i64, remedy: &str) -> Result<(), Error> {
        let most = match self.most(limit) {
            Some(most) if used >= most => most,
            _ => return Ok(()),
        };
        let (whose, what) = (limit.per(), limit.words());
        let article = if whose == "organization" { "an" } else { "a" };
        let by = by(self.plan_of(limit));
        let more = if by.is_empty() { "more" } else { "another plan" };
        let detail = format!(
            "{article} {whose} has at most {most} {what}{by}, and this one has {used}; {remedy}, or ask the operator for {more}"
        );
        Err(Error::conflict(limit.code(), detail))
    }

    fn planned(&self, limit: Limit) -> Option<i64> {
        self.plan.as_ref().and_then(|plan| limit.of(&plan.limits))
    }

    fn quota(&self, limit: Limit, used: Option<i64>) -> Quota {
        Quota { limit, most: self.most(limit), by_plan: self.planned(limit).is_some(), used }
    }
}

/// As a sentence says by which plan something is limited.
pub(super) fn by(plan: Option<&str>) -> String {
    plan.map(|plan| format!(" by the plan {plan}")).unwrap_or_default()
}

/// Refuses one more organization of a user's own, which are of no plan.
///
/// # Errors
/// When there are as many as there may be.
pub(super) fn organizations(state: &State, count: i64) -> Result<(), Error> {
    let most = state.api.quotas.organizations;
    if count < i64::from(most) {
        return Ok(());
    }
    let detail = format!(
        "a user has at most {most} organizations of their own; delete one that is not used, or ask the operator for more"
    );
    Err(Error::conflict("quota_exceeded", detail))
}

/// Whether the deployment that room is asked for is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not yet.
    ToCome,
    /// It counts already.
    Entered,
}

/// What is said where one more deployment of a function is one too many, by its own limit or its project's. A function that runs something
/// can have a second one whatever its project has: nothing could be deployed to it any more otherwise.
pub(super) async fn deployments(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
    standing: Standing,
) -> Result<Option<Error>, Error> {
    let (id, project) = (&function.id, &function.project_id);
    let prune = format!(
        "remove old ones with `af functions prune {id} --keep N` (POST /v1/functions/{id}/prune), which leaves what runs, what ran before it \
         and what is being rolled out, or have it keep fewer (`af functions update --keep N`)"
    );
    let terms = Terms::of_project(state, db, project).await?;
    let entered = i64::from(standing == Standing::Entered);
    let used = deployments::count(db, id).await? - entered;
    if let Err(full) = terms.check(Limit::FunctionDeployments, used, &prune) {
        return Ok(Some(full));
    }
    if used == 1 && function.current_deployment_id.is_some() {
        return Ok(None);
    }
    let used = deployments::count_of_project(db, project).await? - entered;
    let prune = format!("{prune}, or remove those of its other functions");
    Ok(terms.check(Limit::ProjectDeployments, used, &prune).err())
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
