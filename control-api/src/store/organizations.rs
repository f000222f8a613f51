//! Organizations, who belongs to them and to projects, and invitations.

use std::str::FromStr;

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};
use crate::domain::access::Role;

/// An organization: who owns projects.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OrganizationRow {
    /// `org_…`
    pub id: String,
    /// Free text.
    pub name: String,
    /// The name of its plan; none: what the server says to all counts.
    pub plan: Option<String>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// A member of an organization or a project.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct MemberRow {
    /// `usr_…`
    pub user_id: String,
    /// The user's.
    pub name: String,
    /// The user's, where it is known.
    pub email: Option<String>,
    /// `owner`, `admin`, `developer`, `billing` or `viewer`.
    pub role: String,
    /// Milliseconds.
    pub created_at: i64,
}

/// How somebody may become a member.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct InvitationRow {
    /// `inv_…`
    pub id: String,
    /// `org_…`; or else a project is given.
    pub organization_id: Option<String>,
    /// `prj_…`; or else an organization is given.
    pub project_id: Option<String>,
    /// As a member has it.
    pub role: String,
    /// Who is meant, as the inviter wrote it.
    pub email: Option<String>,
    /// `usr_…`
    pub inviter_id: String,
    /// Milliseconds.
    pub expires_at: i64,
    /// Milliseconds.
    pub created_at: i64,
}

/// What has members.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Group<'a> {
    /// By `org_…`.
    Organization(&'a str),
    /// By `prj_…`.
    Project(&'a str),
}

const COLUMNS: &str = "o.id, o.name, p.name as plan, o.created_at, o.updated_at";
const INVITATION: &str = "id, organization_id, project_id, role, email, inviter_id, expires_at, created_at";

impl<'a> Group<'a> {
    fn id(self) -> &'a str {
        match self {
            Self::Organization(id) | Self::Project(id) => id,
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Organization(_) => "organization_members",
            Self::Project(_) => "project_members",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Organization(_) => "organization_id",
            Self::Project(_) => "project_id",
        }
    }
}

impl Store {
    pub(crate) async fn organization(&self, id: &str) -> Result<Option<OrganizationRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from organizations o left join plans p on p.id = o.plan_id where o.id = $1"
        );
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn organizations_of(
        &self,
        user: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<OrganizationRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from organization_members m join organizations o on o.id = m.organization_id
             left join plans p on p.id = o.plan_id
             where m.user_id = $1 and m.organization_id > $2 order by m.organization_id limit $3"
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind(user).bind(after).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }

    pub(crate) async fn member(&self, group: Group<'_>, user: &str) -> Result<Option<MemberRow>, StoreError> {
        Ok(one_member(group, user).fetch_optional(&self.reader).await?)
    }

    /// The oldest organization that the user is an owner of.
    pub(crate) async fn own_organization(&self, user: &str) -> Result<Option<String>, StoreError> {
        let query = "select organization_id from organization_members where user_id = $1 and role = 'owner'
            order by organization_id limit 1";
        Ok(sql::query_scalar(query).bind(user).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn organization_role(&self, user: &str, id: &str) -> Result<Option<Role>, StoreError> {
        let query = "select role from organization_members where user_id = $1 and organization_id = $2";
        let role: Option<String> =
            sql::query_scalar(query).bind(user).bind(id).fetch_optional(&self.reader).await?;
        role.as_deref().map(parse_role).transpose()
    }

    /// What a user is in a project: by themselves, and by its organization.
    pub(crate) async fn project_roles(&self, user: &str, project: &str) -> Result<Vec<Role>, StoreError> {
        let query = "select m.role, o.role as by_organization from projects p
            left join project_members m on m.project_id = p.id and m.user_id = $1
            left join organization_members o on o.organization_id = p.organization_id and o.user_id = $1
            where p.id = $2";
        let roles: Option<(Option<String>, Option<String>)> =
            sql::query_as(query).bind(user).bind(project).fetch_optional(&self.reader).await?;
        let (own, by_organization) = roles.unwrap_or_default();
        own.iter().chain(&by_organization).map(|role| parse_role(role)).collect()
    }

    pub(crate) async fn members(
        &self,
        group: Group<'_>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<MemberRow>, StoreError> {
        let query = format!(
            "select m.user_id, u.name, u.email, m.role, m.created_at from {} m join users u on u.id = m.user_id
             where m.{} = $1 and m.user_id > $2 order by m.user_id limit $3",
            group.table(),
            group.column()
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind(group.id()).bind(after).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }

    pub(crate) async fn invitations(
        &self,
        group: Group<'_>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<InvitationRow>, StoreError> {
        let query = format!(
            "select {INVITATION} from invitations where {} = $1 and id > $2 order by id limit $3",
            group.column()
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind(group.id()).bind(after).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }

    pub(crate) async fn invitation(&self, id: &str) -> Result<Option<InvitationRow>, StoreError> {
        let query = format!("select {INVITATION} from invitations where id = $1");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }
}

/// Organizations that a user owns, as the transaction sees it.
pub(crate) async fn count_owned(db: &mut Connection, user: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from organization_members where user_id = $1 and role = 'owner'";
    Ok(sql::query_scalar(query).bind(user).fetch_one(db).await?)
}

pub(crate) async fn insert(
    db: &mut Connection,
    organization: &OrganizationRow,
    owner: &str,
) -> Result<(), StoreError> {
    let query = "insert into organizations (id, name, created_at, updated_at) values ($1, $2, $3, $4)";
    let insert = sql::query(query).bind(&organization.id).bind(&organization.name);
    insert.bind(organization.created_at).bind(organization.updated_at).execute(&mut *db).await?;
    let group = Group::Organization(&organization.id);
    put_member(db, group, owner, Role::Owner, organization.created_at).await
}

pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<OrganizationRow>, StoreError> {
    let query = format!(
        "select {COLUMNS} from organizations o left join plans p on p.id = o.plan_id where o.id = $1"
    );
    Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

pub(crate) async fn rename(db: &mut Connection, id: &str, name: &str, now: i64) -> Result<(), StoreError> {
    let query = "update organizations set name = $2, updated_at = $3 where id = $1";
    sql::query(query).bind(id).bind(name).bind(now).execute(db).await?;
    Ok(())
}

/// Removes an organization that has no projects. Returns whether it was removed.
pub(crate) async fn delete_empty(db: &mut Connection, id: &str) -> Result<bool, StoreError> {
    let query = "delete from organizations
        where id = $1 and not exists (select 1 from projects where organization_id = $1)";
    Ok(sql::query(query).bind(id).execute(db).await? == 1)
}

/// Makes somebody a member, or gives them another role.
pub(crate) async fn put_member(
    db: &mut Connection,
    group: Group<'_>,
    user: &str,
    role: Role,
    now: i64,
) -> Result<(), StoreError> {
    let (table, column) = (group.table(), group.column());
    let query = format!(
        "insert into {table} ({column}, user_id, role, created_at) values ($1, $2, $3, $4)
         on conflict (user_id, {column}) do update set role = excluded.role"
    );
    let insert = sql::query(AssertSqlSafe(query)).bind(group.id()).bind(user).bind(role.as_str());
    insert.bind(now).execute(db).await?;
    Ok(())
}

pub(crate) async fn remove_member(
    db: &mut Connection,
    group: Group<'_>,
    user: &str,
) -> Result<(), StoreError> {
    let query = format!("delete from {} where {} = $1 and user_id = $2", group.table(), group.column());
    sql::query(AssertSqlSafe(query)).bind(group.id()).bind(user).execute(db).await?;
    Ok(())
}

/// A member as the transaction sees it.
pub(crate) async fn member(
    db: &mut Connection,
    group: Group<'_>,
    user: &str,
) -> Result<Option<MemberRow>, StoreError> {
    Ok(one_member(group, user).fetch_optional(db).await?)
}

fn one_member(group: Group<'_>, user: &str) -> sql::Query<MemberRow> {
    let query = format!(
        "select m.user_id, u.name, u.email, m.role, m.created_at from {} m join users u on u.id = m.user_id
         where m.{} = $1 and m.user_id = $2",
        group.table(),
        group.column()
    );
    sql::query_as(AssertSqlSafe(query)).bind(group.id()).bind(user)
}

/// A member's role as the transaction sees it.
pub(crate) async fn member_role(
    db: &mut Connection,
    group: Group<'_>,
    user: &str,
) -> Result<Option<Role>, StoreError> {
    member(db, group, user).await?.map(|member| parse_role(&member.role)).transpose()
}

/// How many owners an organization has.
pub(crate) async fn owners(db: &mut Connection, organization: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from organization_members where organization_id = $1 and role = 'owner'";
    Ok(sql::query_scalar(query).bind(organization).fetch_one(db).await?)
}

pub(crate) async fn insert_invitation(
    db: &mut Connection,
    invitation: &InvitationRow,
    hash: &[u8; 32],
) -> Result<(), StoreError> {
    let query =
        format!("insert into invitations ({INVITATION}, hash) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    let insert = sql::query(AssertSqlSafe(query)).bind(&invitation.id).bind(&invitation.organization_id);
    let insert = insert.bind(&invitation.project_id).bind(&invitation.role).bind(&invitation.email);
    let insert = insert.bind(&invitation.inviter_id).bind(invitation.expires_at).bind(invitation.created_at);
    insert.bind(hash.as_slice()).execute(db).await?;
    Ok(())
}

pub(crate) async fn count_invitations(db: &mut Connection, group: Group<'_>) -> Result<i64, StoreError> {
    let query = format!("select count(*) from invitations where {} = $1", group.column());
    Ok(sql::query_scalar(AssertSqlSafe(query)).bind(group.id()).fetch_one(db).await?)
}

/// The invitation with this code, as the transaction sees it.
pub(crate) async fn invitation_by_hash(
    db: &mut Connection,
    hash: &[u8; 32],
) -> Result<Option<InvitationRow>, StoreError> {
    let query = format!("select {INVITATION} from invitations where hash = $1");
    Ok(sql::query_as(AssertSqlSafe(query)).bind(hash.as_slice()).fetch_optional(db).await?)
}

pub(crate) async fn delete_invitation(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    sql::query("delete from invitations where id = $1").bind(id).execute(db).await?;
    Ok(())
}

pub(crate) fn parse_role(text: &str) -> Result<Role, StoreError> {
    Role::from_str(text).map_err(|_| StoreError::Value { what: "role", value: text.to_owned() })
}
