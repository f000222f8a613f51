//! Domains: claims of names, and who proved a name last.

use super::sql::{self, Connection};
use super::{Store, StoreError, taken};

/// What a domain leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// By `fn_…`.
    Function,
    /// By `site_…`.
    Site,
}

/// A project's claim of a name.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DomainRow {
    /// `dom_…`
    pub id: String,
    /// `prj_…`
    pub project_id: String,
    /// Exact or wildcard, in its one form; unique in the project.
    pub hostname: String,
    /// `function` or `site`.
    pub owner_kind: String,
    /// `fn_…` or `site_…`
    pub owner_id: String,
    /// The owner's slug.
    pub owner_slug: Option<String>,
    /// `TXT`, `CNAME` or `A`.
    pub method: String,
    /// What the TXT record has to say.
    pub token: String,
    /// `PENDING`, `VERIFIED` or `FAILED`.
    pub status: String,
    /// What the last check found amiss.
    pub reason: Option<String>,
    /// Checks in a row that found the proof gone.
    pub misses: i64,
    /// Milliseconds.
    pub verified_at: Option<i64>,
    /// Milliseconds.
    pub checked_at: Option<i64>,
    /// Milliseconds.
    pub next_check_at: Option<i64>,
    /// Milliseconds; of the owner's own certificate, where there is one.
    pub certificate_not_after: Option<i64>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// A certificate as it is kept.
#[derive(Debug)]
pub(crate) struct StoredCertificate {
    pub chain: String,
    pub sealed_key: Vec<u8>,
    pub not_after: i64,
}

/// What others have to do with a name that a project is about to prove.
#[derive(Debug)]
pub(crate) struct Rivals {
    /// The claim that is verified.
    pub verified: Option<DomainRow>,
    /// Whether another project proved the name last, or the wildcard that covers it.
    pub held: bool,
    /// Whether another project claims it.
    pub claimed: bool,
}

const SELECT: &str =
    "select d.id, d.project_id, d.hostname, d.owner_kind, d.owner_id, coalesce(f.slug, s.slug) as owner_slug,
    d.method, d.token, d.status, d.reason, d.misses, d.verified_at, d.checked_at, d.next_check_at,
    d.certificate_not_after, d.created_at, d.updated_at
    from domains d left join functions f on f.id = d.owner_id left join sites s on s.id = d.owner_id";

impl OwnerKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Site => "site",
        }
    }
}

impl Store {
    pub(crate) async fn domain(&self, id: &str) -> Result<Option<DomainRow>, StoreError> {
        let query = format!("{SELECT} where d.id = $1");
        Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// A project's domains, all or the one with a name.
    pub(crate) async fn domains_of(
        &self,
        project: &str,
        hostname: Option<&str>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<DomainRow>, StoreError> {
        let query = format!(
            "{SELECT} where d.project_id = $1 and ($2 is null or d.hostname = $2) and d.id > $3
             order by d.id limit $4"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(project).bind(hostname).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    /// A project's domains that lead to these, of which there are 100 at most.
    pub(crate) async fn domains_of_owners(
        &self,
        project: &str,
        owners: &[String],
    ) -> Result<Vec<DomainRow>, StoreError> {
        let places = sql::places(2, owners.len());
        let query =
            format!("{SELECT} where d.project_id = $1 and d.owner_id in ({places}) order by d.id limit 1000");
        let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(project);
        let query = owners.iter().fold(query, |query, owner| query.bind(owner));
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Verified domains that are to be checked again by `now`, the longest due first.
    pub(crate) async fn due_domains(&self, now: i64, limit: i64) -> Result<Vec<DomainRow>, StoreError> {
        let query = format!("{SELECT} where d.next_check_at <= $1 order by d.next_check_at limit $2");
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(now).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// Whether a project has an owner for domains.
pub(crate) async fn owner_exists(
    db: &mut Connection,
    project: &str,
    kind: OwnerKind,
    id: &str,
) -> Result<bool, StoreError> {
    let query = match kind {
        OwnerKind::Function => "select count(*) from functions where project_id = $1 and id = $2",
        OwnerKind::Site => "select count(*) from sites where project_id = $1 and id = $2",
    };
    let count: i64 = sql::query_scalar(query).bind(project).bind(id).fetch_one(db).await?;
    Ok(count == 1)
}

/// The domain as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<DomainRow>, StoreError> {
    let query = format!("{SELECT} where d.id = $1");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// An owner's domains.
pub(crate) async fn owned(db: &mut Connection, owner: &str) -> Result<Vec<DomainRow>, StoreError> {
    // A project has at most 100.
    let query = format!("{SELECT} where d.owner_id = $1 order by d.id limit 1000");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(owner).fetch_all(db).await?)
}

pub(crate) async fn count(db: &mut Connection, project: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from domains where project_id = $1";
    Ok(sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

/// What others have to do with the name of a claim.
pub(crate) async fn rivals(db: &mut Connection, claim: &DomainRow) -> Result<Rivals, StoreError> {
    let query = format!("{SELECT} where d.hostname = $1 and d.status = 'VERIFIED' and d.id <> $2");
    let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(&claim.hostname).bind(&claim.id);
    let verified = query.fetch_optional(&mut *db).await?;
    let wildcard = claim.hostname.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let query = "select count(*) from domain_holders where hostname in ($1, $2) and project_id <> $3";
    let query = sql::query_scalar(query).bind(&claim.hostname).bind(wildcard).bind(&claim.project_id);
    let held: i64 = query.fetch_one(&mut *db).await?;
    let query = "select count(*) from domains where hostname = $1 and project_id <> $2";
    let query = sql::query_scalar(query).bind(&claim.hostname).bind(&claim.project_id);
    let claimed: i64 = query.fetch_one(db).await?;
    Ok(Rivals { verified, held: held > 0, claimed: claimed > 0 })
}

pub(crate) async fn insert(db: &mut Connection, domain: &DomainRow) -> Result<(), StoreError> {
    let query = "insert into domains (id, project_id, hostname, owner_kind, owner_id, method, token, status,
            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let insert = sql::query(query).bind(&domain.id).bind(&domain.project_id).bind(&domain.hostname);
    let insert = insert.bind(&domain.owner_kind).bind(&domain.owner_id).bind(&domain.method);
    let insert = insert.bind(&domain.token).bind(&domain.status);
    insert.bind(domain.created_at).bind(domain.updated_at).execute(db).await.map_err(taken)?;
    Ok(())
}

/// Writes everything that can change but the certificate.
pub(crate) async fn update(db: &mut Connection, domain: &DomainRow) -> Result<(), StoreError> {
    let query = "update domains set owner_kind = $2, owner_id = $3, method = $4, status = $5, reason = $6,
            misses = $7, verified_at = $8, checked_at = $9, next_check_at = $10, updated_at = $11
        where id = $1";
    let update = sql::query(query).bind(&domain.id).bind(&domain.owner_kind).bind(&domain.owner_id);
    let update = update.bind(&domain.method).bind(&domain.status).bind(&domain.reason).bind(domain.misses);
    let update = update.bind(domain.verified_at).bind(domain.checked_at).bind(domain.next_check_at);
    update.bind(domain.updated_at).execute(db).await?;
    Ok(())
}

/// Gives a domain a certificate of its own, or takes it away.
pub(crate) async fn put_certificate(
    db: &mut Connection,
    id: &str,
    certificate: Option<&StoredCertificate>,
    now: i64,
) -> Result<(), StoreError> {
    let query = "update domains set certificate_chain = $2, certificate_key = $3, certificate_not_after = $4,
        updated_at = $5 where id = $1";
    let update = sql::query(query).bind(id).bind(certificate.map(|stored| &stored.chain));
    let update = update.bind(certificate.map(|stored| &stored.sealed_key));
    update.bind(certificate.map(|stored| stored.not_after)).bind(now).execute(db).await?;
    Ok(())
}

/// Sealed keys of domains' certificates, in the order of the domains' ids.
pub(crate) async fn certificate_keys(
    db: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query = "select id, certificate_key from domains where certificate_key is not null and id > $1
        order by id limit $2";
    Ok(sql::query_as(query).bind(after).bind(limit).fetch_all(db).await?)
}

/// The same key, sealed otherwise.
pub(crate) async fn replace_certificate_key(
    db: &mut Connection,
    id: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let query = "update domains set certificate_key = $2 where id = $1";
    sql::query(query).bind(id).bind(sealed).execute(db).await?;
    Ok(())
}

/// Remembers who proved a name.
pub(crate) async fn hold(db: &mut Connection, domain: &DomainRow, now: i64) -> Result<(), StoreError> {
    let query = "insert into domain_holders (hostname, project_id, verified_at) values ($1, $2, $3)
        on conflict (hostname) do update
            set project_id = excluded.project_id, verified_at = excluded.verified_at";
    sql::query(query).bind(&domain.hostname).bind(&domain.project_id).bind(now).execute(db).await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    sql::query("delete from domains where id = $1").bind(id).execute(db).await?;
    Ok(())
}
