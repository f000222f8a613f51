//! Plans: what an organization may have and ask, where that is another thing than what the server says to all. The operator makes
//! them and gives them to organizations; what counts then is decided in [`super::quotas`] and [`rate`].

mod limit;
pub mod rate;

pub use self::limit::Limit;
use super::access;
use super::audit::{self, Event};
use super::{Actor, Error, Page, Start, State, id, now, versions};
use crate::store::plans;
use crate::store::{PlanLimits, PlanRow};

/// Plans of one installation.
const MOST: i64 = 1_000;

/// Bytes of a plan's name.
const NAME: usize = 64;

/// What is to change; what is left out stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// 1 to 64 letters, digits, dots, dashes and underscores; unique.
    pub name: Option<String>,
    /// Limits and their new values; none: what the server says to all.
    pub limits: Vec<(Limit, Option<u64>)>,
}

/// All plans, by name.
///
/// # Errors
/// When the actor is no operator.
pub async fn list(state: &State, actor: &Actor, start: Start<'_>) -> Result<Page<PlanRow>, Error> {
    access::operator(state, actor, "plans").await?;
    let (after, limit) = start.by_name()?;
    let rows = state.store.plans(after, limit).await?;
    Ok(Page::of(rows, limit, |row| row.name.clone()))
}

/// One plan.
///
/// # Errors
/// When the actor is no operator, or there is none.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<PlanRow, Error> {
    access::operator(state, actor, "plans").await?;
    state.store.plan(id).await?.ok_or_else(|| Error::not_found("plan", id))
}

/// Makes a plan, which no organization has yet.
///
/// # Errors
/// When the actor is no operator, the name is unusable or taken, a limit is out of its range, or there are too many.
pub async fn create(state: &State, actor: &Actor, change: Change) -> Result<PlanRow, Error> {
    access::operator(state, actor, "plans").await?;
    let now = now();
    let mut plan = PlanRow {
        id: id::new("plan"),
        name: String::new(),
        limits: PlanLimits::default(),
        organizations: 0,
        created_at: now,
        updated_at: now,
    };
    apply(Change { name: Some(change.name.unwrap_or_default()), ..change }, &mut plan)?;
    let mut db = state.store.begin().await?;
    free(plans::is_name_taken(&mut db, &plan.name, &plan.id).await?, &plan.name)?;
    if plans::count(&mut db).await? >= MOST {
        return Err(Error::conflict("too_many_plans", format!("there are {MOST} plans; remove one first")));
    }
    plans::insert(&mut db, &plan).await?;
    audit::commit(db, actor, Event::maybe("plan.create", &plan.id, None)).await?;
    Ok(plan)
}

/// Changes a plan, for all organizations that have it. What they have stays, also where it is more than they may have now.
///
/// # Errors
/// As for [`create`]; and when there is none.
pub async fn update(state: &State, actor: &Actor, id: &str, change: Change) -> Result<PlanRow, Error> {
    access::operator(state, actor, "plans").await?;
    let mut db = state.store.begin().await?;
    let mut plan = plans::read(&mut db, id).await?.ok_or_else(|| Error::not_found("plan", id))?;
    versions::check(actor, &plan)?;
    apply(change, &mut plan)?;
    free(plans::is_name_taken(&mut db, &plan.name, id).await?, &plan.name)?;
    plan.updated_at = now();
    plans::update(&mut db, &plan).await?;
    audit::commit(db, actor, Event::maybe("plan.update", id, None)).await?;
    state.plan_rates.forget();
    Ok(plan)
}

/// Removes a plan that no organization has.
///
/// # Errors
/// When the actor is no operator, there is none, or an organization has it.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    access::operator(state, actor, "plans").await?;
    let mut db = state.store.begin().await?;
    let plan = plans::read(&mut db, id).await?.ok_or_else(|| Error::not_found("plan", id))?;
    versions::check(actor, &plan)?;
    if plan.organizations > 0 {
        let detail = format!(
            "organizations have the plan {}, {} of them; give them another plan or none first",
            plan.name, plan.organizations
        );
        return Err(Error::conflict("plan_in_use", detail));
    }
    plans::delete(&mut db, id).await?;
    audit::commit(db, actor, Event::maybe("plan.delete", id, None)).await
}

/// Gives an organization a plan, or with `None` takes the one it has, so that what the server says to all counts. What the
/// organization has stays, also where it is more than it may have now.
///
/// # Errors
/// When the actor is no operator, or there is no such plan or organization.
pub async fn assign(
    state: &State,
    actor: &Actor,
    organization: &str,
    plan: Option<&str>,
) -> Result<(), Error> {
    access::operator(state, actor, "plans").await?;
    let mut db = state.store.begin().await?;
    if let Some(id) = plan {
        plans::read(&mut db, id).await?.ok_or_else(|| Error::not_found("plan", id))?;
    }
    if !plans::assign(&mut db, organization, plan).await? {
        return Err(Error::not_found("organization", organization));
    }
    let event = match plan {
        Some(id) => Event::organization("plan.assign", id, organization),
        None => Event::organization("plan.unassign", organization, organization),
    };
    audit::commit(db, actor, event).await?;
    state.plan_rates.forget();
    Ok(())
}

fn apply(change: Change, plan: &mut PlanRow) -> Result<(), Error> {
    if let Some(name) = change.name {
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > NAME || !name.bytes().all(usable) {
            let detail =
                format!("a plan's name has 1 to {NAME} letters, digits, dots, dashes and underscores");
            return Err(Error::invalid("invalid_plan_name", detail));
        }
        plan.name = name;
    }
    for (limit, value) in change.limits {
        let range = limit.range();
        if value.is_some_and(|value| !range.contains(&value)) {
            let (name, least, most) = (limit.name(), range.start(), range.end());
            let detail = format!("{name} is {least} to {most}, or null for what the server says to all");
            return Err(Error::invalid("invalid_limit", detail));
        }
        *limit.slot(&mut plan.limits) = value.and_then(|value| i64::try_from(value).ok());
    }
    Ok(())
}

fn free(taken: bool, name: &str) -> Result<(), Error> {
    if !taken {
        return Ok(());
    }
    let detail = format!("there is a plan {name}; change that one, or choose another name");
    Err(Error::conflict("plan_name_taken", detail))
}
