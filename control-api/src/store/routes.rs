//! The route feed: a revision for each slug, counting up over the platform.

use af_contract::route::Target;
use af_contract::{ContentId, DeploymentRef, FunctionStatus, Route, Settings, Slug};
use sqlx::SqliteConnection;

use super::{Store, StoreError, parse, unsigned};

#[derive(sqlx::FromRow)]
struct RouteRow {
    slug: String,
    revision: i64,
    function_id: Option<String>,
    project_id: Option<String>,
    status: Option<String>,
    deployment_id: Option<String>,
    manifest_cid: Option<String>,
}

impl Store {
    pub(crate) async fn latest_revision(&self) -> Result<u64, StoreError> {
        let query = "select coalesce(max(revision), 0) from routes";
        unsigned("revision", sqlx::query_scalar(query).fetch_one(&self.reader).await?)
    }

    /// What changed after `known`, oldest first, at most 10,000 routes, without settings.
    pub(crate) async fn routes_since(&self, known: u64) -> Result<Vec<Route>, StoreError> {
        let query = "select r.slug, r.revision, f.id as function_id, f.project_id, f.status,
                d.id as deployment_id, d.manifest_cid
            from routes r
            left join functions f on f.id = r.function_id
            left join deployments d on d.id = f.current_deployment_id
            where r.revision > $1 order by r.revision limit 10000";
        let known = i64::try_from(known).unwrap_or(i64::MAX);
        let rows: Vec<RouteRow> = sqlx::query_as(query).bind(known).fetch_all(&self.reader).await?;
        rows.into_iter().map(Route::try_from).collect()
    }
}

/// Gives a slug a new revision and the function that it leads to, which may be none. Returns the revision.
pub(crate) async fn put(
    db: &mut SqliteConnection,
    slug: &str,
    function: Option<&str>,
) -> Result<u64, StoreError> {
    let query = "insert into routes (slug, function_id, revision)
        values ($1, $2, (select coalesce(max(revision), 0) + 1 from routes))
        on conflict (slug) do update set function_id = excluded.function_id, revision = excluded.revision
        returning revision";
    unsigned("revision", sqlx::query_scalar(query).bind(slug).bind(function).fetch_one(db).await?)
}

impl TryFrom<RouteRow> for Route {
    type Error = StoreError;

    fn try_from(row: RouteRow) -> Result<Self, StoreError> {
        let slug = Slug::parse(&row.slug)
            .map_err(|_| StoreError::Value { what: "slug", value: row.slug.clone() })?;
        let deployment = match (row.deployment_id, row.manifest_cid) {
            (Some(id), Some(cid)) => {
                let manifest = parse::<ContentId>("content id", &cid)?;
                Some(DeploymentRef { id, manifest, settings: Settings::new() })
            }
            _ => None,
        };
        let status = match row.status.as_deref() {
            Some("ACTIVE") => FunctionStatus::Active,
            _ => FunctionStatus::Inactive,
        };
        let function = row.function_id.zip(row.project_id);
        let target = function.map(|(function, project)| Target { function, project, status, deployment });
        Ok(Self { revision: unsigned("revision", row.revision)?, slug, target })
    }
}
