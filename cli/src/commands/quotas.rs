//! `af orgs quotas` and `af projects quotas`: what there may be, and what there is.

use serde_json::{Value, json};

use crate::client::{Api, text};
use crate::output::Output;

/// Shows what counts for `of`, which is the path of an organization or a project.
pub async fn show(api: &Api, of: &str, output: &Output) -> anyhow::Result<()> {
    let said = api.get(&format!("{of}/quotas")).await?;
    let plan = said.get("plan").filter(|plan| !plan.is_null()).map(|plan| text(plan, "name"));
    let row = |quota: &Value| {
        let by_plan = quota.get("byPlan") == Some(&Value::Bool(true));
        let limit = quota.get("limit").filter(|limit| !limit.is_null());
        json!({
            "name": words(text(quota, "name")),
            "per": text(quota, "per"),
            "used": quota.get("used"),
            "limit": limit.map_or_else(|| "any".to_owned(), Value::to_string),
            "by": if by_plan { "plan" } else { "server" },
        })
    };
    let quotas = said.get("quotas").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Value> = quotas.map(row).collect();
    let columns = [("QUOTA", "name"), ("PER", "per"), ("USED", "used"), ("LIMIT", "limit"), ("BY", "by")];
    let table = output.columns(&rows, &columns, "no quotas");
    let plan = plan.map_or_else(
        || "no plan: what the server says to all counts".to_owned(),
        |plan| format!("plan {plan}"),
    );
    output.result(&said, &format!("{plan}\n{table}"));
    Ok(())
}

/// A name of the API as people write it: `storageBytes` is "storage bytes".
pub fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
