//! `/login/{session}`: the page at which people approve a terminal. It has no script and needs no cookie: whoever approves
//! shows a token in the form, which no other page has, so that none can approve in anybody's name (CSRF).

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use crate::app::State;
use crate::domain::logins::{self, Approval, Which};
use crate::domain::{Actor, Call, Error, Fault, tokens};
use crate::store::LoginRow;

/// Nothing but the style of `/docs`, and a form that is sent here.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Arc<State>> {
    Router::new().route("/login/{session}", get(show).post(approve))
}

async fn show(Shared(state): Shared<Arc<State>>, call: Call, Path(session): Path<String>) -> Response {
    match logins::look(&state, &session).await {
        Ok(row) => page(StatusCode::OK, &form(&row, call.address, None)),
        Err(error) => failed(&error),
    }
}

async fn approve(
    Shared(state): Shared<Arc<State>>,
    call: Call,
    Path(session): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // Browsers say whose form it is. Others than browsers have nobody to deceive.
    let from = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if from.is_some_and(|from| from != "same-origin") {
        let said = "<p>This form was sent by another site. Open the address that your terminal shows.</p>";
        return page(StatusCode::FORBIDDEN, said);
    }
    let row = match logins::look(&state, &session).await {
        Ok(row) => row,
        Err(error) => return failed(&error),
    };
    match Box::pin(approved(&state, &call, &session, &body)).await {
        Ok(row) => page(StatusCode::OK, &done(&row)),
        Err(error) if [Fault::Unauthenticated, Fault::Forbidden].contains(&error.fault()) => {
            let why = match error.fault() {
                Fault::Forbidden => "That token is for something else only. Use one that is for everything.",
                _ => "That is no token, or it has expired. Make another one with af pat create --name NAME.",
            };
            page(StatusCode::FORBIDDEN, &form(&row, call.address, Some(why)))
        }
        Err(error) => failed(&error),
    }
}

async fn approved(state: &State, call: &Call, session: &str, body: &[u8]) -> Result<LoginRow, Error> {
    let mut fields = url::form_urlencoded::parse(body);
    let token = fields.find(|(name, _)| name == "token").map(|(_, token)| token.trim().to_owned());
    let actor = match tokens::authenticate(state, &token.unwrap_or_default()).await {
        Err(Error::Unauthenticated) => {
            if let Some(address) = call.address {
                state.rates.failed(address).await?;
            }
            return Err(Error::Unauthenticated);
        }
        other => other?,
    };
    state.rates.count(&actor).await?;
    let actor = Actor { call: call.clone(), ..actor };
    logins::approve(state, &actor, Which::Session(session), &Approval::default()).await
}

fn form(row: &LoginRow, browser: Option<IpAddr>, why: Option<&str>) -> String {
    let (code, name) = (logins::shown(&row.code), escaped(&row.name));
    let why = why.map(|why| format!("<p role=\"alert\"><strong>{why}</strong></p>")).unwrap_or_default();
    format!(
        "{why}<p>A terminal asks to be signed in as you.</p>
<table>
<tr><th scope=\"row\">Code</th><td><strong><code>{code}</code></strong></td></tr>
<tr><th scope=\"row\">It calls itself</th><td>{name}</td></tr>
<tr><th scope=\"row\">It asks from</th><td>{}</td></tr>
</table>
<p><strong>Go on only if you have just started this yourself</strong>, and your terminal shows this code. Older clients show no
code: there, it must be your terminal that shows this page's address. Nobody else ever needs you to open it.</p>
<form method=\"post\" autocomplete=\"off\">
<p><label>A token of yours: <input type=\"password\" name=\"token\" required maxlength=\"8192\" autocomplete=\"off\"></label>
<button>Sign the terminal in</button></p>
</form>
<p>Or, in a terminal that is signed in: <code>af login approve {code}</code></p>",
        place(row, browser),
    )
}

/// Whoever was sent here by somebody else sees that that is somewhere else.
fn place(row: &LoginRow, browser: Option<IpAddr>) -> String {
    let (Some(terminal), Some(browser)) = (&row.address, browser) else { return "an unknown address".into() };
    let terminal = escaped(terminal);
    if terminal == browser.to_string() {
        return format!("{terminal}, as this browser does");
    }
    format!("{terminal}. <strong>This browser is elsewhere</strong>, at {browser}")
}

fn done(row: &LoginRow) -> String {
    format!(
        "<p>The terminal that calls itself {} is signed in in a moment. You can close this page.</p>
<p>Its token is one of yours: <code>af pat list</code> shows it, <code>af pat delete</code> ends it.</p>",
        escaped(&row.name)
    )
}

/// The domain's texts name nothing that a stranger has sent here; they are escaped as everything is.
fn failed(error: &Error) -> Response {
    let (status, text) = match error.fault() {
        Fault::Invalid => (StatusCode::NOT_FOUND, error.to_string()),
        Fault::TooOften => (StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        Fault::Internal => {
            tracing::error!(%error, source = ?std::error::Error::source(error), "a terminal was not approved");
            (StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says more".to_owned())
        }
        _ => (StatusCode::FORBIDDEN, error.to_string()),
    };
    page(status, &format!("<p>{}</p>", escaped(&text)))
}

fn page(status: StatusCode, body: &str) -> Response {
    let html = format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Sign a terminal in</title>
<link rel=\"stylesheet\" href=\"/docs/style.css\">
</head>
<body>
<main>
<h1>Sign a terminal in</h1>
{body}
</main>
</body>
</html>
"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}

/// As text, in HTML.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' | '<' | '>' | '"' | '\'' => {
                // Writing to a string does not fail.
                let _written = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped("<a href='x'>&\"b"), "&#60;a href=&#39;x&#39;&#62;&#38;&#34;b");
    }
}
