//! Times and pages, which all lists and objects share.

use std::future::Future;

use async_graphql::{
    InputObject, InputValueError, InputValueResult, OutputType, Scalar, ScalarType, SimpleObject, Value,
};
use chrono::{DateTime, SecondsFormat};

use super::domains::Domain;
use super::functions::{af, fleek};
use super::projects::Project;
use super::sites::Site;
use super::storage::{FilecoinDeal, Pin, PrivateGateway};
use super::tokens::PersonalAccessToken;
use super::zones::Zone;
use crate::domain::{Error, Page};

/// Items of a page, at most.
const TAKE: i32 = 100;

/// Items that a page number may leave out; beyond that there are cursors, which cost the same everywhere.
const SKIP: i32 = 1_000;

/// Milliseconds; written as RFC 3339, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date(pub(super) i64);

/// A moment, as RFC 3339: `2026-11-26T04:25:00.000Z`.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(InputValueError::expected_type(value)) };
        let parsed = DateTime::parse_from_rfc3339(text);
        Ok(Self(
            parsed
                .map_err(|_| InputValueError::custom("not a moment as 2026-11-26T04:25:00Z"))?
                .timestamp_millis(),
        ))
    }

    fn to_value(&self) -> Value {
        match DateTime::from_timestamp_millis(self.0) {
            Some(time) => Value::String(time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => Value::Null,
        }
    }
}

/// Which part of a list.
#[derive(InputObject, Default)]
pub(super) struct PaginationInput {
    /// Items, 100 at most.
    take: Option<i32>,
    /// Counts from 1.
    page: Option<i32>,
    /// `next` of the page before, instead of a number.
    after: Option<String>,
}

/// Part of a list.
#[derive(SimpleObject)]
#[graphql(concrete(name = "AFFunctionList", params(af::Function)))]
#[graphql(concrete(name = "AFFunctionDeploymentList", params(af::Deployment)))]
#[graphql(concrete(name = "FleekFunctionsWithAggregation", params(fleek::Function)))]
#[graphql(concrete(name = "FleekFunctionDeploymentsWithAggregation", params(fleek::Deployment)))]
#[graphql(concrete(name = "ProjectsWithAggregation", params(Project)))]
#[graphql(concrete(name = "SitesWithAggregation", params(Site)))]
#[graphql(concrete(name = "DomainsWithAggregation", params(Domain)))]
#[graphql(concrete(name = "ZonesWithAggregation", params(Zone)))]
#[graphql(concrete(name = "PinsWithAggregation", params(Pin)))]
#[graphql(concrete(name = "FilecoinDealsWithAggregation", params(FilecoinDeal)))]
#[graphql(concrete(name = "PrivateGatewaysWithAggregation", params(PrivateGateway)))]
#[graphql(concrete(name = "PersonalAccessTokensWithAggregation", params(PersonalAccessToken)))]
pub(super) struct Listing<T: OutputType> {
    data: Vec<T>,
    /// Give it as `after` to get the next page; null: this is the last.
    next: Option<String>,
    current_page: i32,
    previous_page: Option<i32>,
    next_page: Option<i32>,
    is_first_page: bool,
    is_last_page: bool,
}

impl<T: OutputType> Listing<T> {
    /// A list that is all there is.
    pub(super) fn whole(data: Vec<T>) -> Self {
        Self {
            data,
            next: None,
            current_page: 1,
            previous_page: None,
            next_page: None,
            is_first_page: true,
            is_last_page: true,
        }
    }

    /// Reads the part that is asked for, from pages by cursor.
    pub(super) async fn read<R, F>(
        filter: Option<PaginationInput>,
        read: impl Fn(String) -> F + Send,
        cursor: impl Fn(&R) -> String + Send,
        shape: impl Fn(R) -> T + Send,
    ) -> Result<Self, Error>
    where
        R: Send,
        F: Future<Output = Result<Page<R>, Error>> + Send,
    {
        let PaginationInput { take, page, after } = filter.unwrap_or_default();
        let (take, page) = (take.unwrap_or(TAKE), page.unwrap_or(1));
        if !(1..=TAKE).contains(&take) || page < 1 {
            let detail = format!("a page has 1 to {TAKE} items, and pages count from 1");
            return Err(Error::invalid("invalid_page", detail));
        }
        let skip = (page - 1).saturating_mul(take);
        if skip > SKIP {
            let detail =
                format!("page numbers lead to the first {SKIP} items; go on with `after` and `next`");
            return Err(Error::invalid("invalid_page", detail));
        }
        let count = |count: i32| usize::try_from(count).unwrap_or_default();
        let (skip, take) = (count(skip), count(take));
        let mut items = Vec::new();
        let mut after = after.unwrap_or_default();
        loop {
            let Page { items: read, next } = read(after).await?;
            items.extend(read);
            match next {
                Some(next) if items.len() <= skip + take => after = next,
                _ => break,
            }
        }
        let more = items.len() > skip + take;
        let shown: Vec<R> = items.into_iter().skip(skip).take(take).collect();
        Ok(Self {
            next: shown.last().filter(|_| more).map(cursor),
            data: shown.into_iter().map(shape).collect(),
            current_page: page,
            previous_page: (page > 1).then(|| page - 1),
            next_page: more.then(|| page + 1),
            is_first_page: page == 1,
            is_last_page: !more,
        })
    }
}
