//! Plans, and which organization has which.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// What a plan says; none: nothing, so that the server's own limit counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct PlanLimits {
    /// Projects of an organization.
    pub projects: Option<i64>,
    /// Members of an organization and its projects, each once.
    pub members: Option<i64>,
    /// Requests about an organization and what it has.
    pub requests_per_minute: Option<i64>,
    /// Functions of a project.
    pub functions: Option<i64>,
    /// Sites of a project.
    pub sites: Option<i64>,
    /// Domains of a project.
    pub domains: Option<i64>,
    /// Deployments of all functions of a project.
    pub project_deployments: Option<i64>,
    /// Bytes of all pins of a project, and of what its sites have deployed.
    pub storage_bytes: Option<i64>,
    /// Pins of a project.
    pub pins: Option<i64>,
    /// Deployments of a function.
    pub function_deployments: Option<i64>,
}

/// A plan, as its operator sees it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct PlanRow {
    /// `plan_…`
    pub id: String,
    /// Unique.
    pub name: String,
    /// What it says.
    #[sqlx(flatten)]
    pub limits: PlanLimits,
    /// How many organizations have it.
    pub organizations: i64,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// The plan that an organization has.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OwnPlan {
    /// `plan_…`
    pub id: String,
    /// Unique.
    pub name: String,
    /// What it says.
    #[sqlx(flatten)]
    pub limits: PlanLimits,
}

/// How often an organization may ask.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct PlanRateRow {
    /// `org_…`
    pub organization: String,
    /// The plan's name.
    pub plan: String,
    /// More than 0.
    pub requests_per_minute: i64,
}

const LIMITS: &str =
    "p.projects, p.members, p.requests_per_minute, p.functions, p.sites, p.domains, p.project_deployments,
    p.storage_bytes, p.pins, p.function_deployments";

/// A project's organization. Joined, SQLite would begin with all organizations that have a plan.
const OF_PROJECT: &str = "(select organization_id from projects where id = $1)";

const RATE: &str = "o.id as organization, p.name as plan, p.requests_per_minute";

fn columns() -> String {
    format!(
        "p.id, p.name, {LIMITS}, p.created_at, p.updated_at,
         (select count(*) from organizations o where o.plan_id = p.id) as organizations"
    )
}

impl Store {
    /// All plans, by their names.
    pub(crate) async fn plans(&self, after: &str, limit: i64) -> Result<Vec<PlanRow>, StoreError> {
        let query = format!("select {} from plans p where p.name > $1 order by p.name limit $2", columns());
        Ok(sql::query_as(AssertSqlSafe(query)).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    pub(crate) async fn plan(&self, id: &str) -> Result<Option<PlanRow>, StoreError> {
        let query = format!("select {} from plans p where p.id = $1", columns());
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// How often an organization may ask, if its plan says so.
    pub(crate) async fn organization_rate(&self, id: &str) -> Result<Option<PlanRateRow>, StoreError> {
        let query = format!(
            "select {RATE} from organizations o join plans p on p.id = o.plan_id
             where o.id = $1 and p.requests_per_minute is not null"
        );
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// As [`Self::organization_rate`], of a project's organization.
    pub(crate) async fn project_rate(&self, id: &str) -> Result<Option<PlanRateRow>, StoreError> {
        let query = format!(
            "select {RATE} from organizations o join plans p on p.id = o.plan_id
             where o.id = {OF_PROJECT} and p.requests_per_minute is not null"
        );
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }
}

pub(crate) async fn count(db: &mut Connection) -> Result<i64, StoreError> {
    Ok(sql::query_scalar("select count(*) from plans").fetch_one(db).await?)
}

/// Whether another plan than this one has the name.
pub(crate) async fn is_name_taken(db: &mut Connection, name: &str, id: &str) -> Result<bool, StoreError> {
    let query = "select count(*) from plans where name = $1 and id <> $2";
    let found: i64 = sql::query_scalar(query).bind(name).bind(id).fetch_one(db).await?;
    Ok(found > 0)
}

/// The plan as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<PlanRow>, StoreError> {
    let query = format!("select {} from plans p where p.id = $1", columns());
    Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// The plan of an organization.
pub(crate) async fn of_organization(db: &mut Connection, id: &str) -> Result<Option<OwnPlan>, StoreError> {
    let query = format!(
        "select p.id, p.name, {LIMITS} from organizations o join plans p on p.id = o.plan_id where o.id = $1"
    );
    Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// The plan of a project's organization.
pub(crate) async fn of_project(db: &mut Connection, id: &str) -> Result<Option<OwnPlan>, StoreError> {
    let query = format!(
        "select p.id, p.name, {LIMITS} from organizations o join plans p on p.id = o.plan_id where o.id = {OF_PROJECT}"
    );
    Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// Members of an organization and its projects, each once, without this one.
pub(crate) async fn count_members(
    db: &mut Connection,
    organization: &str,
    without: &str,
) -> Result<i64, StoreError> {
    let query = "select count(*) from (
            select user_id from organization_members where organization_id = $1
            union select m.user_id from projects j join project_members m on m.project_id = j.id
              where j.organization_id = $1) members
        where user_id <> $2";
    Ok(sql::query_scalar(query).bind(organization).bind(without).fetch_one(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, plan: &PlanRow) -> Result<(), StoreError> {
    let query = "insert into plans (id, name, created_at, updated_at) values ($1, $2, $3, $4)";
    let insert = sql::query(query).bind(&plan.id).bind(&plan.name).bind(plan.created_at);
    insert.bind(plan.updated_at).execute(&mut *db).await?;
    update(db, plan).await
}

/// Writes everything that can change.
pub(crate) async fn update(db: &mut Connection, plan: &PlanRow) -> Result<(), StoreError> {
    let query =
        "update plans set name = $2, updated_at = $3, projects = $4, members = $5, requests_per_minute = $6,
        functions = $7, sites = $8, domains = $9, project_deployments = $10, storage_bytes = $11, pins = $12,
        function_deployments = $13 where id = $1";
    let limits = &plan.limits;
    let update = sql::query(query).bind(&plan.id).bind(&plan.name).bind(plan.updated_at);
    let update = update.bind(limits.projects).bind(limits.members).bind(limits.requests_per_minute);
    let update = update.bind(limits.functions).bind(limits.sites).bind(limits.domains);
    let update = update.bind(limits.project_deployments).bind(limits.storage_bytes).bind(limits.pins);
    update.bind(limits.function_deployments).execute(db).await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    sql::query("delete from plans where id = $1").bind(id).execute(db).await?;
    Ok(())
}

/// Gives an organization a plan, or none. Returns whether there is such an organization.
pub(crate) async fn assign(
    db: &mut Connection,
    organization: &str,
    plan: Option<&str>,
) -> Result<bool, StoreError> {
    let query = "update organizations set plan_id = $2 where id = $1";
    Ok(sql::query(query).bind(organization).bind(plan).execute(db).await? == 1)
}
