//! `/v1/organizations/{organization}/members`, `/v1/projects/{project}/members`, and invitations to both

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::invitations::{self, Joined};
use crate::domain::members::{self, Of};
use crate::domain::{Actor, Call, versions};
use crate::store::{InvitationRow, MemberRow};

/// A member of an organization or a project.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    /// `usr_…`
    user_id: String,
    name: String,
    /// Null: not known.
    email: Option<String>,
    /// `owner`, `admin`, `developer`, `billing` or `viewer`.
    role: String,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// For `If-Match`, where the member is changed or removed.
    etag: String,
}

/// A member's new role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleInput {
    /// `owner`, `admin`, `developer`, `billing` or `viewer`; not above your own.
    role: String,
}

/// Who is to be invited.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationInput {
    /// `owner`, `admin`, `developer`, `billing` or `viewer`; not above your own.
    role: String,
    /// Who is meant. Nothing is sent.
    email: Option<String>,
}

/// An open invitation, without its code.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Invitation {
    /// `inv_…`
    id: String,
    /// `org_…`; null: it is to a project.
    organization_id: Option<String>,
    /// `prj_…`; null: it is to an organization.
    project_id: Option<String>,
    role: String,
    email: Option<String>,
    /// `usr_…`
    inviter_id: String,
    /// Milliseconds since 1970 UTC.
    expires_at: i64,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
}

/// A new invitation. Its code is shown here and never again: whoever has it can join.
#[derive(Serialize, ToSchema)]
pub(super) struct NewInvitation {
    #[serde(flatten)]
    invitation: Invitation,
    /// For `POST /v1/invitations/accept`.
    code: String,
}

/// A code, and who uses it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acceptance {
    /// From the invitation.
    code: String,
    /// Of a new user, where the request has no token; 1 to 60 characters.
    name: Option<String>,
}

/// What became of whoever accepted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    /// `usr_…`
    user_id: String,
    /// `org_…`
    organization_id: Option<String>,
    /// `prj_…`
    project_id: Option<String>,
    role: String,
    /// Of a new user: their token, shown here and never again.
    token: Option<String>,
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let etag = versions::tag(&row);
        let MemberRow { user_id, name, email, role, created_at } = row;
        Self { user_id, name, email, role, created_at, etag }
    }
}

impl From<InvitationRow> for Invitation {
    fn from(row: InvitationRow) -> Self {
        let InvitationRow {
            id,
            organization_id,
            project_id,
            role,
            email,
            inviter_id,
            expires_at,
            created_at,
        } = row;
        Self { id, organization_id, project_id, role, email, inviter_id, expires_at, created_at }
    }
}

impl From<Joined> for Accepted {
    fn from(joined: Joined) -> Self {
        let (organization_id, project_id) = match joined.of {
            Of::Organization(id) => (Some(id), None),
            Of::Project(id) => (None, Some(id)),
        };
        let role = joined.role.as_str().to_owned();
        Self { user_id: joined.user, organization_id, project_id, role, token: joined.token }
    }
}

/// Makes you a member; without a token, makes a new user with a token.
#[utoipa::path(post, path = "/v1/invitations/accept", operation_id = "invitation_accept",
    tag = "members", request_body = Acceptance,
    security((), ("token" = [])), responses((status = 200, body = Accepted), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument)))]
pub(super) async fn accept(
    Shared(state): Shared<Arc<State>>,
    actor: Option<Actor>,
    call: Call,
    Json(input): Json<Acceptance>,
) -> Result<axum::Json<Accepted>, Failure> {
    let joined =
        invitations::accept(&state, actor.as_ref(), &call, &input.code, input.name.as_deref()).await?;
    Ok(axum::Json(joined.into()))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/v1/invitations/{invitation}", operation_id = "invitation_delete", tag = "members",
    params(("invitation" = String, Path)), responses((status = 204), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn take_back(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    invitations::delete(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Members of an organization.
#[utoipa::path(get, path = "/v1/organizations/{organization}/members", operation_id = "organization_member_list",
    tag = "members", params(("organization" = String, Path), Cursor),
    responses((status = 200, body = List<Member>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn organization_list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Member>>, Failure> {
    let page = members::list(&state, &actor, &Of::Organization(id), cursor.start()).await?;
    Ok(List::of(page, Member::from))
}

/// One member of an organization.
#[utoipa::path(get, path = "/v1/organizations/{organization}/members/{user}", operation_id = "organization_member_get",
    tag = "members",
    params(("organization" = String, Path), ("user" = String, Path)), responses((status = 200, body = Member),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn organization_get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<Tagged<Member>, Failure> {
    Ok(Tagged::of(members::get(&state, &actor, &Of::Organization(id), &user).await?, Member::from))
}

/// Gives a member of an organization another role.
#[utoipa::path(put, path = "/v1/organizations/{organization}/members/{user}", operation_id = "organization_member_change",
    tag = "members", request_body = RoleInput,
    params(("organization" = String, Path), ("user" = String, Path)), responses((status = 204),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn organization_change(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((id, user)): Path<(String, String)>,
    Json(input): Json<RoleInput>,
) -> Result<StatusCode, Failure> {
    members::change(&state, &actor, &Of::Organization(id), &user, &input.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes somebody no member of an organization any more; you, if it is your own id.
#[utoipa::path(delete, path = "/v1/organizations/{organization}/members/{user}", operation_id = "organization_member_remove",
    tag = "members",
    params(("organization" = String, Path), ("user" = String, Path)), responses((status = 204),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn organization_remove(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    members::remove(&state, &actor, &Of::Organization(id), &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Open invitations to an organization.
#[utoipa::path(get, path = "/v1/organizations/{organization}/invitations", operation_id = "organization_invitation_list",
    tag = "members",
    params(("organization" = String, Path), Cursor), responses((status = 200, body = List<Invitation>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn organization_invitations(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Invitation>>, Failure> {
    let page = invitations::list(&state, &actor, &Of::Organization(id), cursor.start()).await?;
    Ok(List::of(page, Invitation::from))
}

/// Invites somebody to an organization. It works for a week, once.
#[utoipa::path(post, path = "/v1/organizations/{organization}/invitations", operation_id = "organization_invitation_create",
    tag = "members", request_body = InvitationInput,
    params(("organization" = String, Path)), responses((status = 201, body = NewInvitation),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn organization_invite(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<InvitationInput>,
) -> Result<(StatusCode, axum::Json<NewInvitation>), Failure> {
    let InvitationInput { role, email } = input;
    let made = invitations::create(&state, &actor, &Of::Organization(id), &role, email.as_deref()).await?;
    let (invitation, code) = made;
    Ok((StatusCode::CREATED, axum::Json(NewInvitation { invitation: invitation.into(), code })))
}

/// Members of a project.
#[utoipa::path(get, path = "/v1/projects/{project}/members", operation_id = "project_member_list",
    tag = "members", params(("project" = String, Path), Cursor),
    responses((status = 200, body = List<Member>), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn project_list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Member>>, Failure> {
    let page = members::list(&state, &actor, &Of::Project(id), cursor.start()).await?;
    Ok(List::of(page, Member::from))
}

/// One member of a project.
#[utoipa::path(get, path = "/v1/projects/{project}/members/{user}", operation_id = "project_member_get",
    tag = "members",
    params(("project" = String, Path), ("user" = String, Path)), responses((status = 200, body = Member),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn project_get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<Tagged<Member>, Failure> {
    Ok(Tagged::of(members::get(&state, &actor, &Of::Project(id), &user).await?, Member::from))
}

/// Gives a member of a project another role.
#[utoipa::path(put, path = "/v1/projects/{project}/members/{user}", operation_id = "project_member_change",
    tag = "members", request_body = RoleInput,
    params(("project" = String, Path), ("user" = String, Path)), responses((status = 204),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn project_change(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((id, user)): Path<(String, String)>,
    Json(input): Json<RoleInput>,
) -> Result<StatusCode, Failure> {
    members::change(&state, &actor, &Of::Project(id), &user, &input.role).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes somebody no member of a project any more; you, if it is your own id.
#[utoipa::path(delete, path = "/v1/projects/{project}/members/{user}", operation_id = "project_member_remove",
    tag = "members",
    params(("project" = String, Path), ("user" = String, Path)), responses((status = 204),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument)))]
pub(super) async fn project_remove(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    members::remove(&state, &actor, &Of::Project(id), &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Open invitations to a project.
#[utoipa::path(get, path = "/v1/projects/{project}/invitations", operation_id = "project_invitation_list",
    tag = "members",
    params(("project" = String, Path), Cursor), responses((status = 200, body = List<Invitation>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn project_invitations(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<Invitation>>, Failure> {
    let page = invitations::list(&state, &actor, &Of::Project(id), cursor.start()).await?;
    Ok(List::of(page, Invitation::from))
}

/// Invites somebody to a project. It works for a week, once.
#[utoipa::path(post, path = "/v1/projects/{project}/invitations", operation_id = "project_invitation_create",
    tag = "members", request_body = InvitationInput,
    params(("project" = String, Path)), responses((status = 201, body = NewInvitation),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument),
    (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn project_invite(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<InvitationInput>,
) -> Result<(StatusCode, axum::Json<NewInvitation>), Failure> {
    let InvitationInput { role, email } = input;
    let made = invitations::create(&state, &actor, &Of::Project(id), &role, email.as_deref()).await?;
    let (invitation, code) = made;
    Ok((StatusCode::CREATED, axum::Json(NewInvitation { invitation: invitation.into(), code })))
}
