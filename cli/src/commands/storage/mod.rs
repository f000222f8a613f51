//! `af storage …`

mod fetch;
mod origin;
mod send;

use af_content::private::{self, Cipher};
use af_contract::{ContentId, ContentKey};
use reqwest::Method;
use serde_json::{Value, json};

use self::fetch::get;
use self::origin::Origin;
use super::functions::utc;
use super::unpack::Form;
use crate::args::storage::{Cid, Gc, Ls, NewPin, Pin, Storage};
use crate::client::{Api, ApiError, text};
use crate::config::Environment;
use crate::output::{Output, counted};

/// Runs one of the subcommands.
pub async fn run(command: Storage, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    match command {
        Storage::Add(options) => {
            let key = if options.private { Some(private::new_key()?) } else { None };
            let origin = Origin::path(&options.path, options.profile, key.as_ref().map(Cipher::new))?;
            store(&api, origin, key, &options.pin, output).await
        }
        Storage::Import(options) => store(&api, Origin::car(&options.file), None, &options.pin, output).await,
        Storage::Get(options) => get(&api, &options, Form::Plain, output).await,
        Storage::Export(options) => get(&api, &options, Form::Car, output).await,
        Storage::Ls(Ls { left: true }) => list_left(&api, output).await,
        Storage::Ls(Ls { left: false }) => list(&api, output).await,
        Storage::Pin(options) => pin(&api, &options, output).await,
        Storage::Unpin(content) => unpin(&api, &content, output).await,
        Storage::Gc(options) => gc(&api, &options, output).await,
    }
}

/// Sends what the project lacks, and pins it.
async fn store(
    api: &Api,
    origin: Origin,
    key: Option<ContentKey>,
    new: &NewPin,
    output: &Output,
) -> anyhow::Result<()> {
    let path = format!("/v1/projects/{}/storage", api.project().await?);
    let sent = send::send(api, &path, &origin, output).await?;
    let mut pins = Vec::new();
    for root in &sent.roots {
        let name = match &new.name {
            Some(name) => Some(name.clone()),
            // What it was called before is not lost to a file that happens to be called something else.
            None if named_before(api, &path, root).await? => None,
            None => origin.name(),
        };
        let body = body(&root.to_string(), name.as_deref(), new);
        let mut pin = api.send_with_key(&format!("{path}/pins"), &body, key.as_ref()).await?;
        // As others who use this profile call it.
        let shown = origin.profile().cid(root).to_string();
        if let Some(fields) = pin.as_object_mut().filter(|_| shown != root.to_string()) {
            fields.insert("cidV0".into(), shown.into());
        }
        pins.push(pin);
    }
    let value = json!({
        "pins": pins,
        "sent": { "blocks": sent.blocks, "bytes": sent.bytes },
        "known": sent.known,
        "leftOut": sent.left_out,
    });
    let mut fields: Vec<(&str, String)> =
        pins.iter().map(|pin| ("CID", text(pin, "cid").to_owned())).collect();
    let v0 = pins.iter().filter_map(|pin| pin.get("cidV0").and_then(Value::as_str));
    fields.extend(v0.map(|cid| ("CIDv0", cid.to_owned())));
    if key.is_some() {
        fields.push(("private", "yes; the CID is of what is stored, which is encrypted".to_owned()));
    }
    let known = match sent.known {
        0 => String::new(),
        known => format!("; the server had {known}"),
    };
    fields.push((
        "sent",
        format!("{}, {}{known}", counted(sent.blocks as u64, "block"), counted(sent.bytes, "byte")),
    ));
    if sent.left_out > 0 {
        fields.push(("left out", format!("{} that begin with a dot", counted(sent.left_out as u64, "name"))));
    }
    fields.extend(pins.first().map(|pin| ("held", held(pin))));
    output.result(&value, &output.fields(&fields));
    Ok(())
}

/// Whether the project has pinned it under a name already.
async fn named_before(api: &Api, path: &str, root: &ContentId) -> anyhow::Result<bool> {
    match api.get(&format!("{path}/{root}")).await {
        Ok(pin) => Ok(pin.get("name").is_some_and(|name| !name.is_null())),
        Err(ApiError::Problem(problem)) if problem.code == "not_found" => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn list(api: &Api, output: &Output) -> anyhow::Result<()> {
    let path = format!("/v1/projects/{}/storage", api.project().await?);
    let mut pins = api.list(&path).await?;
    for pin in &mut pins {
        let (held, created) = (held(pin), pin.get("createdAt").and_then(Value::as_i64).unwrap_or_default());
        // Under which others may know it; nobody remembers with which version it was made.
        let v0 = ContentId::parse(text(pin, "cid")).ok().and_then(|id| id.to_cid_v0());
        if let Some(fields) = pin.as_object_mut() {
            fields.insert("held".into(), held.into());
            fields.extend(v0.map(|cid| ("cidV0".to_owned(), cid.to_string().into())));
            fields.insert("created".into(), utc(created).into());
            let private = fields.get("private").and_then(Value::as_bool) == Some(true);
            fields.insert("who".into(), if private { "members" } else { "anyone" }.into());
        }
    }
    let columns = [
        ("CID", "cid"),
        ("NAME", "name"),
        ("BYTES", "bytes"),
        ("CREATED", "created"),
        ("READ BY", "who"),
        ("HELD", "held"),
    ];
    let table =
        output.columns(&pins, &columns, "nothing is stored yet; store something with `af storage add PATH`");
    let usage = api.get(&format!("{path}/usage")).await?;
    let number = |field: &str| usage.get(field).and_then(Value::as_u64).unwrap_or_default();
    let deployed = match (number("siteBytes"), number("functionBytes")) {
        (0, 0) => String::new(),
        (bytes, 0) => format!(" ({bytes} of them deployed to sites)"),
        (0, bytes) => format!(" ({bytes} of them deployed to functions)"),
        (sites, functions) => format!(" ({sites} of them deployed to sites, {functions} to functions)"),
    };
    let used = format!(
        "{} of {} bytes{deployed}, {} of {} pins",
        number("bytes"),
        number("mostBytes"),
        number("pins"),
        number("mostPins")
    );
    let left = match api.list(&format!("{path}/left")).await?.len() as u64 {
        0 => String::new(),
        left => format!("\n{} still at other places: af storage ls --left", are_unpinned(left)),
    };
    output.result(&Value::from(pins), &format!("{table}\n{used}{left}"));
    Ok(())
}

fn are_unpinned(left: u64) -> String {
    if left == 1 { "1 that was unpinned is".to_owned() } else { format!("{left} that were unpinned are") }
}

/// What was unpinned, and where it still is.
async fn list_left(api: &Api, output: &Output) -> anyhow::Result<()> {
    let mut left = api.list(&format!("/v1/projects/{}/storage/left", api.project().await?)).await?;
    for content in &mut left {
        let stays = stays(content);
        let unpinned = content.get("unpinnedAt").and_then(Value::as_i64).unwrap_or_default();
        if let Some(fields) = content.as_object_mut() {
            fields.insert("stays".into(), stays.into());
            fields.insert("unpinned".into(), utc(unpinned).into());
        }
    }
    let columns = [("CID", "cid"), ("NAME", "name"), ("UNPINNED", "unpinned"), ("STILL AT", "stays")];
    output.table(&left, &columns, "nothing that was unpinned is at other places");
    Ok(())
}

/// Where something still is that was unpinned, and for how long, as people read it.
fn stays(content: &Value) -> String {
    let said = |place: &Value, field: &str| place.get(field).and_then(Value::as_str).map(str::to_owned);
    let place = |place: &Value| {
        let (how, more) = match text(place, "state") {
            "LEFT" => ("for good", said(place, "detail")),
            _ => ("being removed", said(place, "error").map(|error| format!("tried again: {error}"))),
        };
        let more = more.map(|more| format!(", {more}")).unwrap_or_default();
        format!("{} ({how}{more})", text(place, "place"))
    };
    let places = content.get("places").and_then(Value::as_array).into_iter().flatten();
    places.map(place).collect::<Vec<_>>().join(", ")
}

async fn pin(api: &Api, options: &Pin, output: &Output) -> anyhow::Result<()> {
    let path = format!("/v1/projects/{}/storage/pins", api.project().await?);
    let body = body(&options.content.cid.to_string(), options.pin.name.as_deref(), &options.pin);
    let pin = api.send(Method::POST, &path, &body).await?;
    let fields = [("CID", text(&pin, "cid").to_owned()), ("held", held(&pin))];
    output.result(&pin, &output.fields(&fields));
    Ok(())
}

async fn unpin(api: &Api, Cid { cid }: &Cid, output: &Output) -> anyhow::Result<()> {
    let path = format!("/v1/projects/{}/storage/{cid}", api.project().await?);
    let pin = api.get(&path).await?;
    api.delete(&path).await?;
    let left: Vec<&Value> = permanent(&pin).collect();
    let mut said = format!("unpinned {cid}");
    if !left.is_empty() {
        let named = |place: &&Value| match place.get("detail").and_then(Value::as_str) {
            Some(detail) => format!("{} ({detail})", text(place, "place")),
            None => text(place, "place").to_owned(),
        };
        let places = left.iter().map(named).collect::<Vec<_>>().join(", ");
        said.push_str(&format!(
            "\nit stays at {places} for good: what is there cannot be removed by anybody\n`af storage ls --left` lists it"
        ));
    }
    let stays: Vec<&str> = left.iter().map(|place| text(place, "place")).collect();
    let details: Vec<Value> = left
        .iter()
        .map(|place| json!({ "place": text(place, "place"), "detail": place.get("detail") }))
        .collect();
    output.result(&json!({ "unpinned": cid, "staysAt": stays, "left": details }), &said);
    Ok(())
}

/// Places that what they hold cannot be removed from.
fn permanent(pin: &Value) -> impl Iterator<Item = &Value> {
    let places = pin.get("places").and_then(Value::as_array).into_iter().flatten();
    places.filter(|place| place.get("permanent") == Some(&true.into()))
}

async fn gc(api: &Api, options: &Gc, output: &Output) -> anyhow::Result<()> {
    let swept = api.send(Method::POST, "/v1/gc", &json!({ "dryRun": options.dry_run })).await?;
    let number = |field: &str| swept.get(field).and_then(Value::as_u64).unwrap_or_default();
    let name = if options.dry_run { "would go" } else { "removed" };
    let fields = [
        (name, format!("{}, {}", counted(number("blocks"), "block"), counted(number("bytes"), "byte"))),
        (
            "stay",
            format!("{}, {} of them until they are older", counted(number("kept"), "block"), number("young")),
        ),
    ];
    output.result(&swept, &output.fields(&fields));
    Ok(())
}

fn body(cid: &str, name: Option<&str>, new: &NewPin) -> Value {
    let places = match (new.only_here, new.places.as_slice()) {
        (true, _) => json!([]),
        (false, []) => Value::Null,
        (false, places) => json!(places),
    };
    json!({ "cid": cid, "name": name, "places": places })
}

/// Where something is held, as people read it.
pub fn held(item: &Value) -> String {
    let places = item.get("places").and_then(Value::as_array).into_iter().flatten();
    let places =
        places.map(|place| match (text(place, "state"), place.get("error").and_then(Value::as_str)) {
            ("PINNED", _) => match place.get("detail").and_then(Value::as_str) {
                Some(detail) => format!("{} ({detail})", text(place, "place")),
                None => text(place, "place").to_owned(),
            },
            (state, None) => format!("{} ({})", text(place, "place"), state.to_ascii_lowercase()),
            (state, Some(error)) => {
                format!("{} ({}: {error})", text(place, "place"), state.to_ascii_lowercase())
            }
        });
    std::iter::once("here".to_owned()).chain(places).collect::<Vec<_>>().join(", ")
}
