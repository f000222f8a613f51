//! Signing in without a token, and letting others do so: one terminal shows a code and waits, and somebody who is signed in
//! approves it, in a browser or in another terminal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::login::Approve;
use crate::client::{Api, Asked, text};
use crate::config::{Environment, Session};
use crate::output::Output;

/// Where systems that have it tell their name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The longest that is waited for somebody, whatever the server says.
const LONGEST: Duration = Duration::from_secs(3600);

/// The longest pause, whatever the server says.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Asks to be signed in, shows what is to be approved, and waits for it. Returns the token.
pub async fn token(api_url: &str, output: &Output) -> anyhow::Result<String> {
    let api = Api::with(Session { api_url: api_url.to_owned(), server: None })?;
    let started = api.open_to_all(Method::POST, "/auth/cli/start", &json!({ "name": own_name() })).await?;
    let (session, code) = (text(&started, "verificationSessionId"), text(&started, "userCode"));
    if !is_plain(session) || !is_plain(code) {
        bail!("{api_url} does not know how to sign in a terminal; use af login --token TOKEN");
    }
    let seconds = |field: &str| Duration::from_secs(started.get(field).and_then(Value::as_u64).unwrap_or(1));
    let life = seconds("expiresIn").min(LONGEST);
    let url = format!("{api_url}/login/{session}");
    let message = format!(
        "open {url}\nand check that the page shows this code: {code}\n\
         or run `af login approve {code}` in a terminal that is signed in; waiting for {}",
        humantime::format_duration(life),
    );
    let value = json!({ "verificationUrl": url, "userCode": code, "expiresIn": life.as_secs() });
    output.notice(&value, &message);
    let body = json!({ "verificationSessionId": session, "pollSecret": text(&started, "pollSecret") });
    let until = Instant::now() + life;
    wait(&api, &body, seconds("interval").clamp(Duration::from_secs(1), LONGEST_PAUSE), until).await
}

/// Comes back again and again, also after the server was away.
async fn wait(api: &Api, body: &Value, interval: Duration, until: Instant) -> anyhow::Result<String> {
    let mut pause = interval;
    let mut away = None;
    while Instant::now() + pause < until {
        tokio::time::sleep(pause).await;
        pause = interval;
        match api.ask("/auth/cli/poll", body).await {
            Ok(Asked::Answer(answer)) => match text(&answer, "token") {
                "" => away = None,
                token => return Ok(token.to_owned()),
            },
            Ok(Asked::Later(wanted)) => pause = wanted.clamp(interval, LONGEST_PAUSE),
            Err(error) if error.may_pass() => away = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match away {
        Some(error) => Err(error.into()),
        None => {
            bail!("nobody has approved this terminal in time; run `af login` again, or use --token TOKEN")
        }
    }
}

/// Signs in the terminal that shows a code or an address.
pub async fn approve(options: &Approve, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let api = Api::open(environment)?;
    let shown = options.code.trim();
    let mut body = match shown.trim_end_matches('/').rsplit_once('/') {
        Some((_, session)) => json!({ "verificationSessionId": session }),
        None => json!({ "userCode": shown }),
    };
    let expires_at = match options.expires {
        Some(life) => {
            let end = SystemTime::now().duration_since(UNIX_EPOCH)?.checked_add(life.into());
            Some(i64::try_from(end.context("--expires is too far in the future")?.as_millis())?)
        }
        None => None,
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("name".into(), json!(options.name));
        fields.insert("expiresAt".into(), json!(expires_at));
    }
    let approved = api.send(Method::POST, "/auth/cli/approve", &body).await?;
    let address = approved.get("address").and_then(Value::as_str).unwrap_or("an unknown address");
    let message = format!(
        "approved {}: the terminal at {address} gets a token of yours, called {:?}\n\
         was that not you? `af pat list` shows the token, and `af pat delete` ends it",
        text(&approved, "userCode"),
        text(&approved, "name"),
    );
    output.result(&approved, &message);
    Ok(())
}

/// What the token is called: after this machine, where that tells its name.
fn own_name() -> String {
    let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(c);
    let host: String = host.chars().filter(plain).take(64).collect();
    if host.is_empty() { "af".to_owned() } else { format!("af on {host}") }
}

/// Nothing that a terminal would take for more than text.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
