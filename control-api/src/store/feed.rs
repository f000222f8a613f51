//! The feed: a revision for each thing that answers requests, counting up over the platform.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::AssertSqlSafe;
use tracing::error;

use super::sql::{self, Connection};
use super::{Store, StoreError, parse, rollouts, unsigned};
use af_contract::{
    Change, ContentId, DeploymentRef, FunctionState, FunctionStatus, RolloutState, RouteTable, Settings,
    SiteState, Slug, Update, limits,
};

/// Ids that a statement asks for.
const IDS: usize = 1000;

/// What the feed has revisions of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// By `fn_…`.
    Function,
    /// By `site_…`.
    Site,
    /// By its name.
    Domain,
}

/// A domain that changed. Without an owner: it leads nowhere any more.
#[derive(sqlx::FromRow)]
pub(crate) struct DomainUpdate {
    pub hostname: String,
    revision: i64,
    pub id: Option<String>,
    pub owner_kind: Option<String>,
    pub owner_id: Option<String>,
    pub certificate_chain: Option<String>,
    pub certificate_key: Option<Vec<u8>>,
}

/// A function that changed, without its routes, settings and keys.
pub(crate) struct ChangedFunction {
    row: FunctionRow,
    /// The newest first.
    previews: Vec<PreviewRow>,
}

#[derive(sqlx::FromRow)]
struct FunctionRow {
    id: String,
    revision: i64,
    slug: Option<String>,
    project_id: Option<String>,
    status: Option<String>,
    route_bytes: Option<i64>,
    deployment_id: Option<String>,
    manifest_cid: Option<String>,
    rollout_id: Option<String>,
    candidate_id: Option<String>,
    candidate_cid: Option<String>,
    percent: Option<i64>,
    sticky: Option<String>,
    max_errors: Option<i64>,
    min_requests: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct SiteUpdate {
    id: String,
    revision: i64,
    slug: Option<String>,
    project_id: Option<String>,
    root_cid: Option<String>,
}

#[derive(sqlx::FromRow)]
struct PreviewRow {
    function_id: String,
    id: String,
    manifest_cid: String,
}

impl Store {
    pub(crate) async fn latest_revision(&self) -> Result<u64, StoreError> {
        let query = "select coalesce(max(revision), 0) from feed";
        unsigned("revision", sql::query_scalar(query).fetch_one(&self.reader).await?)
    }
}

/// The newest revision of a page of the feed: of at most `most` changes after `known`. `None`: there is no change.
pub(crate) async fn page_end(db: &mut Connection, known: u64, most: i64) -> Result<Option<u64>, StoreError> {
    let query = "select max(revision) from
        (select revision from feed where revision > $1 order by revision limit $2) page";
    let known = i64::try_from(known).unwrap_or(i64::MAX);
    let end: Option<i64> = sql::query_scalar(query).bind(known).bind(most).fetch_one(db).await?;
    end.map(|end| unsigned("revision", end)).transpose()
}

/// Functions that changed after `known` up to `until`, oldest first.
pub(crate) async fn changed_functions(
    db: &mut Connection,
    known: u64,
    until: u64,
) -> Result<Vec<ChangedFunction>, StoreError> {
    let query = "select e.id, e.revision, f.slug, f.project_id, f.status, cast(length(f.routes) as bigint) as route_bytes,
            d.id as deployment_id, d.manifest_cid, o.id as rollout_id, c.id as candidate_id,
            c.manifest_cid as candidate_cid, o.percent, o.sticky, o.max_errors,
            o.min_requests
        from feed e
        left join functions f on f.id = e.id
        left join deployments d on d.id = f.current_deployment_id
        left join rollouts o on o.function_id = f.id and o.status = 'RUNNING'
        left join deployments c on c.id = o.deployment_id
        where e.kind = 'function' and e.revision > $1 and e.revision <= $2 order by e.revision limit 1000";
    let (from, to) = range(known, until);
    let rows: Vec<FunctionRow> = sql::query_as(query).bind(from).bind(to).fetch_all(&mut *db).await?;
    let mut previews = previews(db, from, to).await?;
    let with_previews = |row: FunctionRow| {
        let previews = previews.remove(&row.id).unwrap_or_default();
        ChangedFunction { row, previews }
    };
    Ok(rows.into_iter().map(with_previews).collect())
}

/// The stored route tables of functions, by function.
pub(crate) async fn routes(
    db: &mut Connection,
    functions: &[&str],
) -> Result<HashMap<String, String>, StoreError> {
    let mut found = HashMap::new();
    for ids in functions.chunks(IDS) {
        let places = sql::places(1, ids.len());
        let query = format!("select id, routes from functions where id in ({places}) and routes is not null");
        let query = sql::query_as(AssertSqlSafe(query)).bind_each(ids);
        let rows: Vec<(String, String)> = query.fetch_all(&mut *db).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Sites that changed after `known` up to `until`.
pub(crate) async fn changed_sites(
    db: &mut Connection,
    known: u64,
    until: u64,
) -> Result<Vec<Update>, StoreError> {
    let query = "select e.id, e.revision, s.slug, s.project_id, d.root_cid
        from feed e
        left join sites s on s.id = e.id
        left join site_deployments d on d.id = s.current_deployment_id
        where e.kind = 'site' and e.revision > $1 and e.revision <= $2 limit 1000";
    let (from, to) = range(known, until);
    let rows: Vec<SiteUpdate> = sql::query_as(query).bind(from).bind(to).fetch_all(db).await?;
    Ok(rows.into_iter().filter_map(|row| readable(row.update())).collect())
}

/// Domains that changed after `known` up to `until`, with their certificates sealed.
pub(crate) async fn changed_domains(
    db: &mut Connection,
    known: u64,
    until: u64,
) -> Result<Vec<DomainUpdate>, StoreError> {
    let query = "select e.id as hostname, e.revision, d.id, d.owner_kind, d.owner_id,
            d.certificate_chain, d.certificate_key
        from feed e
        left join domains d on d.hostname = e.id and d.status = 'VERIFIED'
        where e.kind = 'domain' and e.revision > $1 and e.revision <= $2 limit 1000";
    let (from, to) = range(known, until);
    Ok(sql::query_as(query).bind(from).bind(to).fetch_all(db).await?)
}

/// The newest deployments of functions that changed, newest first.
async fn previews(
    db: &mut Connection,
    from: i64,
    to: i64,
) -> Result<HashMap<String, Vec<PreviewRow>>, StoreError> {
    let query = "select function_id, id, manifest_cid from
            (select d.function_id, d.id, d.manifest_cid, d.number,
                row_number() over (partition by d.function_id order by d.number desc) as place
            from feed e join deployments d on d.function_id = e.id
            where e.kind = 'function' and e.revision > $1 and e.revision <= $2
                and (d.widens is null or d.approver_id is not null)) numbered
         where place <= $3 order by function_id, place limit 100000";
    let most = i64::try_from(limits::PREVIEWS).unwrap_or(i64::MAX);
    let rows: Vec<PreviewRow> = sql::query_as(query).bind(from).bind(to).bind(most).fetch_all(db).await?;
    let mut previews: HashMap<String, Vec<PreviewRow>> = HashMap::new();
    for row in rows {
        previews.entry(row.function_id.clone()).or_default().push(row);
    }
    Ok(previews)
}

/// One thing that cannot be read keeps no other from edges.
pub(crate) fn readable(update: Result<Update, StoreError>) -> Option<Update> {
    match update {
        Ok(update) => Some(update),
        Err(error) => {
            error!(%error, "edges are not told of something that cannot be read");
            None
        }
    }
}

/// Gives a thing a new revision, which is returned.
pub(crate) async fn put(db: &mut Connection, kind: Kind, id: &str) -> Result<u64, StoreError> {
    let query = "insert into feed (kind, id, revision, changed_at)
        values ($1, $2, (select coalesce(max(revision), 0) + 1 from feed), $3)
        on conflict (kind, id) do update set revision = excluded.revision, changed_at = excluded.changed_at
        returning revision";
    let kind = match kind {
        Kind::Function => "function",
        Kind::Site => "site",
        Kind::Domain => "domain",
    };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    unsigned("revision", sql::query_scalar(query).bind(kind).bind(id).bind(at).fetch_one(db).await?)
}

/// The newest revision of what was forgotten. 0: nothing was, or nobody could have known of it.
pub(crate) async fn compacted(db: &mut Connection) -> Result<u64, StoreError> {
    let query = "select compacted from feed_keys where id = 'feed'";
    let compacted: Option<i64> = sql::query_scalar(query).fetch_optional(db).await?;
    unsigned("revision", compacted.unwrap_or_default())
}

/// Notes that something of this revision is forgotten.
pub(crate) async fn compact(db: &mut Connection, revision: i64) -> Result<(), StoreError> {
    let query = "update feed_keys set compacted = $1 where compacted < $1";
    sql::query(query).bind(revision).execute(db).await?;
    Ok(())
}

/// Forgets what changed after `known` up to `until`, is gone, and was so at the time `before` already, but for the newest change of
/// all. Returns the revisions.
pub(crate) async fn forget(
    db: &mut Connection,
    known: u64,
    until: u64,
    before: i64,
) -> Result<Vec<i64>, StoreError> {
    let query = "delete from feed where revision > $1 and revision <= $2 and changed_at < $3
            and revision < (select max(revision) from feed)
            and not exists (select 1 from functions f where f.id = feed.id)
            and not exists (select 1 from sites s where s.id = feed.id)
            and not exists (select 1 from domains d where d.hostname = feed.id and d.status = 'VERIFIED')
        returning revision";
    let (from, to) = range(known, until);
    Ok(sql::query_scalar(query).bind(from).bind(to).bind(before).fetch_all(db).await?)
}

impl DomainUpdate {
    pub(crate) fn revision(&self) -> Result<u64, StoreError> {
        unsigned("revision", self.revision)
    }
}

impl ChangedFunction {
    pub(crate) fn id(&self) -> &str {
        &self.row.id
    }

    pub(crate) fn revision(&self) -> Result<u64, StoreError> {
        unsigned("revision", self.row.revision)
    }

    /// Of its route table.
    pub(crate) fn route_bytes(&self) -> u64 {
        self.row.route_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
    }

    /// The ids of all deployments that edges are told of: what is active, a candidate, and the newest.
    pub(crate) fn deployments(&self) -> impl Iterator<Item = &str> {
        let others = self.row.deployment_id.iter().chain(&self.row.candidate_id).map(String::as_str);
        let others = others.filter(|id| self.previews.iter().all(|preview| preview.id != *id));
        self.previews.iter().map(|preview| preview.id.as_str()).chain(others)
    }

    /// What edges are told, with its stored route table and without settings and keys.
    pub(crate) fn update(self, routes: Option<&str>) -> Result<Update, StoreError> {
        let Self { mut row, previews } = self;
        let revision = unsigned("revision", row.revision)?;
        let rollout = row.rollout()?;
        let (Some(slug), Some(project)) = (row.slug, row.project_id) else {
            return Ok(Update { revision, change: Change::Function { id: row.id, state: None } });
        };
        let slug = self::slug(&slug)?;
        let status = match row.status.as_deref() {
            Some("ACTIVE") => FunctionStatus::Active,
            _ => FunctionStatus::Inactive,
        };
        let deployment = match (row.deployment_id, row.manifest_cid) {
            (Some(id), Some(cid)) => Some(reference(id, &cid)?),
            _ => None,
        };
        let routes = routes.map(table).transpose()?.flatten();
        let previews = previews.into_iter().map(|row| reference(row.id, &row.manifest_cid));
        let previews = previews.collect::<Result<_, _>>()?;
        let rollout = rollout.map(Box::new);
        let state = FunctionState { slug, project, status, routes, deployment, previews, rollout };
        Ok(Update { revision, change: Change::Function { id: row.id, state: Some(state) } })
    }
}

impl FunctionRow {
    fn rollout(&mut self) -> Result<Option<RolloutState>, StoreError> {
        let (Some(id), Some(candidate), Some(manifest), Some(percent), Some(sticky)) = (
            self.rollout_id.take(),
            self.candidate_id.take(),
            self.candidate_cid.take(),
            self.percent,
            self.sticky.take(),
        ) else {
            return Ok(None);
        };
        let candidate = reference(candidate, &manifest)?;
        let percent = rollouts::percent(percent)?;
        let guard = rollouts::guard(self.max_errors.unwrap_or(100), self.min_requests.unwrap_or(0))?;
        Ok(Some(RolloutState { id, candidate, percent, sticky: parse("key of clients", &sticky)?, guard }))
    }
}

impl SiteUpdate {
    fn update(self) -> Result<Update, StoreError> {
        let revision = unsigned("revision", self.revision)?;
        let state = match (self.slug, self.project_id) {
            (Some(slug), Some(project)) => {
                let root = self.root_cid.map(|root| parse("content id", &root)).transpose()?;
                Some(SiteState { slug: self::slug(&slug)?, project, root })
            }
            _ => None,
        };
        Ok(Update { revision, change: Change::Site { id: self.id, state } })
    }
}

fn slug(text: &str) -> Result<Slug, StoreError> {
    Slug::parse(text).map_err(|_| StoreError::Value { what: "slug", value: text.to_owned() })
}

/// A stored route table.
pub(crate) fn table(text: &str) -> Result<Option<RouteTable>, StoreError> {
    RouteTable::from_json(text)
        .map_err(|_| StoreError::Value { what: "route table", value: text.chars().take(200).collect() })
}

fn reference(id: String, manifest: &str) -> Result<DeploymentRef, StoreError> {
    let manifest = parse::<ContentId>("content id", manifest)?;
    Ok(DeploymentRef { id, manifest, settings: Settings::new(), content_key: None })
}

/// As SQLite has numbers.
fn range(known: u64, until: u64) -> (i64, i64) {
    (i64::try_from(known).unwrap_or(i64::MAX), i64::try_from(until).unwrap_or(i64::MAX))
}
