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

    pub(crate) async fn first_user(&self) -> Result<Option<UserRow>, StoreError> {
        let query = "select id, name, email from users order by id limit 1";
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
