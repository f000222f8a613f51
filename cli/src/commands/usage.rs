//! `af usage`: what functions and sites used.

use af_contract::Usage as Counts;
use anyhow::Context;
use indicatif::DecimalBytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::functions::utc;
use super::named::{FUNCTION, Kind, SITE, path};
use crate::args::usage::{Per, Usage};
use crate::client::{Api, ApiError, Finding, text};
use crate::config::Environment;
use crate::output::Output;

/// The columns of all tables; the first one's title is another in each.
const COUNTS: [(&str, &str); 5] =
    [("REQUESTS", "requests"), ("ERRORS", "errors"), ("CPU", "cpu"), ("WALL", "wall"), ("SENT", "sent")];

/// Runs `af usage`.
pub async fn usage(options: Usage, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?.of_project(options.project.clone());
    let query = query(&options)?;
    let one = match (&options.organization, &options.function, &options.site) {
        (Some(organization), ..) => format!("/v1/organizations/{organization}"),
        (_, Some(function), _) => used(&api, FUNCTION, function).await?,
        (_, _, Some(site)) => used(&api, SITE, site).await?,
        _ if options.per.is_some() => format!("/v1/projects/{}", api.project().await?),
        _ => return project(&api, &query, output).await,
    };
    times(&api, &format!("{one}/usage?{query}"), output).await
}

/// The path of a function or site, by its name or id. Who may see what is used and nothing else, as those may who pay, finds the name
/// where that is listed.
async fn used(api: &Api, kind: Kind, name: &str) -> anyhow::Result<String> {
    let refused = match path(api, kind, name).await {
        Err(error) if matches!(error.downcast_ref(), Some(ApiError::Problem(problem)) if problem.status == 403) => {
            error
        }
        found => return found,
    };
    let listed = api.list(&format!("/v1/projects/{}/usage/{}", api.project().await?, kind.plural)).await?;
    let found = listed.iter().find(|one| text(one, "name") == name).ok_or(refused)?;
    path(api, kind, text(found, "id")).await
}

/// As the API is asked.
fn query(options: &Usage) -> anyhow::Result<String> {
    let (from, to) = (options.from.as_ref(), options.to.as_ref());
    if let (Some(from), Some(to)) = (from, to)
        && from.begin >= to.end
    {
        return Err(Finding::new(
            "invalid_usage_period",
            "--to is before --from; give the later day as --to",
        )
        .into());
    }
    let from = from.map(|from| from.begin).or_else(|| to.map(|to| to.month));
    let per = options.per.map(|per| if per == Per::Hour { "hour" } else { "day" });
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, millis) in [("from", from), ("to", to.map(|to| to.end))] {
        if let Some(millis) = millis {
            query.append_pair(name, &millis.to_string());
        }
    }
    if let Some(per) = per {
        query.append_pair("per", per);
    }
    Ok(query.finish())
}

/// All that a project used, and each of its functions and sites that used something.
async fn project(api: &Api, query: &str, output: &Output) -> anyhow::Result<()> {
    let root = format!("/v1/projects/{}", api.project().await?);
    let whole = api.get(&format!("{root}/usage?{query}&limit=1")).await?;
    let (from, to) = (number(&whole, "from"), number(&whole, "to"));
    let used = async |plural: &str| -> anyhow::Result<Vec<(Counts, Value)>> {
        let all = api.list(&format!("{root}/usage/{plural}?from={from}&to={to}")).await?;
        let all = all.into_iter().map(|one| Ok((counts(&one)?, one))).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|(counts, _)| !counts.is_empty()).collect())
    };
    let (functions, sites) = (used("functions").await?, used("sites").await?);
    let total = counts(whole.get("total").unwrap_or(&Value::Null))?;
    let mut rows = Vec::new();
    for (kind, all) in [("function", &functions), ("site", &sites)] {
        let named =
            |(counts, one): &(Counts, Value)| row(counts, json!({ "kind": kind, "name": text(one, "name") }));
        rows.extend(all.iter().map(named));
    }
    let gone = gone(total, functions.iter().chain(&sites).map(|(counts, _)| counts));
    if !gone.is_empty() {
        rows.push(row(&gone, json!({ "kind": "deleted", "name": "-" })));
    }
    rows.push(row(&total, json!({ "kind": "total", "name": "" })));
    let columns: Vec<_> = [("KIND", "kind"), ("NAME", "name")].into_iter().chain(COUNTS).collect();
    let table = output.columns(&rows, &columns, "");
    let [functions, sites] =
        [functions, sites].map(|all| all.into_iter().map(|(_, one)| one).collect::<Vec<_>>());
    let result = json!({ "from": from, "to": to, "total": total, "functions": functions, "sites": sites });
    output.result(&result, &format!("{}\n{table}", period(from, to)));
    Ok(())
}

/// What functions and sites used that are there no more.
fn gone<'a>(total: Counts, all: impl Iterator<Item = &'a Counts>) -> Counts {
    let mut left = total;
    for one in all {
        left.requests = left.requests.saturating_sub(one.requests);
        left.errors = left.errors.saturating_sub(one.errors);
        left.cpu_us = left.cpu_us.saturating_sub(one.cpu_us);
        left.wall_us = left.wall_us.saturating_sub(one.wall_us);
        left.sent_bytes = left.sent_bytes.saturating_sub(one.sent_bytes);
    }
    left
}

/// What one used, by days or hours.
async fn times(api: &Api, path: &str, output: &Output) -> anyhow::Result<()> {
    let mut whole = api.get(path).await?;
    let (from, to) = (number(&whole, "from"), number(&whole, "to"));
    let per = text(&whole, "per").to_owned();
    // The time that has counted, on all pages.
    let rest = path.split_once('?').map_or(path, |(path, _)| path);
    let data = api.list(&format!("{rest}?from={from}&to={to}&per={per}")).await?;
    let time = |one: &Value| {
        let at = utc(number(one, "from"));
        let shown = if per == "hour" { at.replacen('T', " ", 1) } else { at };
        Ok(row(&counts(one)?, json!({ "time": shown.get(..if per == "hour" { 16 } else { 10 }) })))
    };
    let mut rows = data.iter().map(time).collect::<anyhow::Result<Vec<Value>>>()?;
    rows.push(row(&counts(whole.get("total").unwrap_or(&Value::Null))?, json!({ "time": "total" })));
    let title = if per == "hour" { "HOUR" } else { "DAY" };
    let columns: Vec<_> = [(title, "time")].into_iter().chain(COUNTS).collect();
    let table = output.columns(&rows, &columns, "");
    if let Some(fields) = whole.as_object_mut() {
        fields.insert("data".into(), data.into());
        fields.remove("next");
    }
    output.result(&whole, &format!("{}\n{table}", period(from, to)));
    Ok(())
}

/// Days of UTC, the last one included.
fn period(from: i64, to: i64) -> String {
    let day = |millis: i64| utc(millis).get(..10).unwrap_or_default().to_owned();
    let (first, last) = (day(from), day(to - 1));
    if first == last { format!("{first} (UTC)") } else { format!("{first} to {last} (UTC)") }
}

/// A row of a table: `head`, and what was used as people read it.
fn row(counts: &Counts, mut head: Value) -> Value {
    if let Some(fields) = head.as_object_mut() {
        fields.insert("requests".into(), counts.requests.into());
        fields.insert("errors".into(), counts.errors.into());
        fields.insert("cpu".into(), time(counts.cpu_us).into());
        fields.insert("wall".into(), time(counts.wall_us).into());
        fields.insert("sent".into(), DecimalBytes(counts.sent_bytes).to_string().into());
    }
    head
}

fn counts(one: &Value) -> anyhow::Result<Counts> {
    Counts::deserialize(one)
        .context("the control API says something else than what was used; is it of another version?")
}

/// Microseconds in milliseconds, or from a second on in seconds.
fn time(micros: u64) -> String {
    let in_units = |unit: u64, digits: u64| {
        let parts = micros / (unit / digits);
        (parts / digits, parts % digits)
    };
    if micros < 1_000_000 {
        let (whole, tenth) = in_units(1_000, 10);
        return format!("{whole}.{tenth} ms");
    }
    let (whole, hundredths) = in_units(1_000_000, 100);
    format!("{whole}.{hundredths:02} s")
}

fn number(one: &Value, field: &str) -> i64 {
    one.get(field).and_then(Value::as_i64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_periods_are_readable() {
        let shown: Vec<String> = [0, 999, 12_345, 999_999, 1_000_000, 61_239_999].map(time).to_vec();
        assert_eq!(shown, ["0.0 ms", "0.9 ms", "12.3 ms", "999.9 ms", "1.00 s", "61.23 s"]);
        let day = 24 * 3_600_000;
        assert_eq!(period(0, day), "1970-01-01 (UTC)");
        assert_eq!(period(0, 31 * day), "1970-01-01 to 1970-01-31 (UTC)");
    }
}
