//! People and programs that can act.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A user.
#[derive(Debug, sqlx::FromRow)]
pub struct UserRow {
    /// `usr_…`
    pub id: String,
    /// Free text.
    pub name: String,
    /// Where they can be reached, where that is known.
    pub email: Option<String>,
}

impl Store {
    pub(crate) async fn user(&self, id: &str) -> Result<Option<UserRow>, StoreError> {
        let query = "select id, name, email from users where id = $1";
        Ok(sql::query_as(query).bind(id).fetch_optional(&self.reader).await?)
    }

    /// The one that the first start made.
    pub(crate) async fn first_user(&self) -> Result<Option<UserRow>, StoreError> {
        let query = "select id, name, email from users where operator = 1";
        Ok(sql::query_as(query).fetch_optional(&self.reader).await?)
    }
}

/// The user as the transaction sees them.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<UserRow>, StoreError> {
    let query = "select id, name, email from users where id = $1";
    Ok(sql::query_as(query).bind(id).fetch_optional(db).await?)
}

pub(crate) async fn insert(
    db: &mut Connection,
    id: &str,
    name: &str,
    email: Option<&str>,
    now: i64,
) -> Result<(), StoreError> {
    let query = "insert into users (id, name, email, created_at) values ($1, $2, $3, $4)";
    sql::query(query).bind(id).bind(name).bind(email).bind(now).execute(db).await?;
    Ok(())
}

/// Whether there is the user that the first start made.
pub(crate) async fn has_operator(db: &mut Connection) -> Result<bool, StoreError> {
    let query = "select count(*) from users where operator = 1";
    Ok(sql::query_scalar::<i64>(query).fetch_one(db).await? > 0)
}

/// Says that a user is the one that the first start made.
pub(crate) async fn make_operator(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    sql::query("update users set operator = 1 where id = $1").bind(id).execute(db).await?;
    Ok(())
}
