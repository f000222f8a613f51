//! What sources that are asked over HTTP share: answers within bounds, and what their statuses mean.

use std::time::{Duration, SystemTime};

use af_contract::ContentId;
use af_contract::limits::BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};

use super::{Blocks, SourceError};
use crate::car::CarDecoder;
use crate::hash::{Hashed, Hashing};

/// To get a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Between two reads of an answer.
const READ: Duration = Duration::from_secs(15);

/// What is read of an answer that is no block.
const MESSAGE_BYTES: usize = 64 << 10;

/// A client as sources need it.
///
/// # Errors
/// When the system's certificates cannot be read.
pub(super) fn client(set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, SourceError> {
    // Whoever was first has installed the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let agent = concat!("af/", env!("CARGO_PKG_VERSION"));
    let builder = Client::builder().connect_timeout(CONNECT).read_timeout(READ).user_agent(agent);
    set(builder).build().map_err(unreachable)
}

/// What a failed request, or an answer that ends early, says of the source.
pub(super) fn unreachable(error: reqwest::Error) -> SourceError {
    // Its URL may have a secret, and the source's name is known.
    let error = error.without_url();
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => SourceError::Unreachable(Box::new(error)),
        (false, true) => SourceError::Silent(READ),
        (false, false) => SourceError::Broken(Box::new(error)),
    }
}

/// Sends a request whose answer is good.
pub(super) async fn ask(request: RequestBuilder) -> Result<Response, SourceError> {
    answered(request.send().await.map_err(unreachable)?)
}

/// An answer that is good.
pub(super) fn answered(response: Response) -> Result<Response, SourceError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(SourceError::NotFound),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let status = Some(response.status().as_u16());
            Err(SourceError::Busy { status, after: retry_after(&response) })
        }
        // All but what is not implemented can pass.
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => {
            Err(SourceError::Failed(format!("status {}", response.status().as_u16())))
        }
        status => Err(SourceError::Unexpected(format!("status {}", status.as_u16()))),
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let later = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    match later.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(later).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

/// An answer that is a block: this one, if the source is honest.
pub(super) async fn block(id: ContentId, response: Response) -> Result<Hashed, SourceError> {
    let mut chunks = chunks(response, BLOCK_BYTES)?;
    let mut hashing = Hashing::as_asked(&id);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreachable)?;
        if hashing.size() + chunk.len() > BLOCK_BYTES {
            return Err(SourceError::TooLarge);
        }
        hashing.push_in_turn(chunk).await;
    }
    Ok(hashing.finish())
}

/// An answer that is a short text.
pub(super) async fn message(response: Response) -> Result<Bytes, SourceError> {
    body(response, MESSAGE_BYTES).await
}

/// What comes, unless the answer says itself that it is too much.
fn chunks(
    response: Response,
    most: usize,
) -> Result<impl Stream<Item = reqwest::Result<Bytes>> + Unpin, SourceError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(SourceError::TooLarge);
    }
    Ok(response.bytes_stream())
}

async fn body(response: Response, most: usize) -> Result<Bytes, SourceError> {
    let mut chunks = chunks(response, most)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreachable)?;
        if body.len() + chunk.len() > most {
            return Err(SourceError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The blocks of an answer that is a CAR.
pub(super) fn car(request: RequestBuilder) -> Blocks<'static> {
    enum Reading {
        Asking(RequestBuilder),
        Car(Response, Box<CarDecoder>),
        Over,
    }
    let next = |mut reading: Reading| async move {
        loop {
            reading = match reading {
                Reading::Over => return None,
                Reading::Asking(request) => match ask(request).await {
                    Ok(response) => Reading::Car(response, Box::default()),
                    Err(error) => return Some((Err(error), Reading::Over)),
                },
                Reading::Car(mut response, mut decoder) => match decoder.next_block() {
                    Ok(Some(block)) => return Some((Ok(block), Reading::Car(response, decoder))),
                    Err(error) => return Some((Err(error.into()), Reading::Over)),
                    Ok(None) => match response.chunk().await {
                        Ok(Some(chunk)) => {
                            decoder.push(&chunk);
                            Reading::Car(response, decoder)
                        }
                        Ok(None) => match decoder.finish() {
                            Ok(()) => Reading::Over,
                            Err(error) => return Some((Err(error.into()), Reading::Over)),
                        },
                        Err(error) => return Some((Err(unreachable(error)), Reading::Over)),
                    },
                },
            }
        }
    };
    futures::stream::unfold(Reading::Asking(request), next).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use url::Url;

    use super::*;
    use crate::DiskStore;
    use crate::source::{Fetcher, Gateway, Routing, Source};

    /// Sends one answer to each connection, and ends it.
    async fn gateway(answers: Vec<String>) -> Arc<dyn Source> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await.unwrap());
                }
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Arc::new(Gateway::new(Url::parse(&base).unwrap(), None).unwrap())
    }

    fn answer(status: &str, fields: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{fields}\r\n{body}")
    }

    #[tokio::test]
    async fn a_gateway_that_fails_in_any_way_for_a_moment_is_asked_again() {
        let good = answer("200 OK", "", "hello world");
        let (begun, _) = good.split_at(good.len() - 3);
        let past = "retry-after: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        let answers = [
            answer("500 Internal Server Error", "", ""),
            answer("429 Too Many Requests", "retry-after: 1\r\n", ""),
            begun.to_owned(),
            answer("503 Service Unavailable", past, ""),
            good,
        ];
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        let fetcher = Fetcher::new(store, [gateway(answers.to_vec()).await]);
        let id = crate::identify(af_contract::Codec::Raw, b"hello world");
        assert_eq!(fetcher.block(id).await.unwrap(), "hello world");
        assert_eq!(fetcher.reports().first().unwrap().failures, 4);
    }

    #[tokio::test]
    async fn it_is_said_which_providers_may_not_be_asked() {
        let body = r#"{"Providers":[{"Schema":"peer","ID":"x","Addrs":["/ip4/127.0.0.1/tcp/80/http"]}]}"#;
        let base = gateway(vec![answer("200 OK", "content-type: application/json\r\n", body)]).await;
        let url = Url::parse(base.name().trim_start_matches("gateway ")).unwrap();
        let routing = Routing::new(url, Arc::new(|address| !address.is_loopback())).unwrap();
        let asked = routing.block(crate::identify(af_contract::Codec::Raw, b"hello world")).await;
        let said = asked.map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            said,
            "those who have it may not be asked: http://127.0.0.1; --egress-allow allows networks"
        );
    }

    #[tokio::test]
    async fn an_error_says_what_the_source_did() {
        let said = async |answers| {
            let source: Arc<dyn Source> = gateway(answers).await;
            let asked = source.block(crate::identify(af_contract::Codec::Raw, b"hello world")).await;
            asked.map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(said(vec![answer("502 Bad Gateway", "", "")]).await, "it answered status 502");
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3_000));
        let later =
            said(vec![answer("503 Service Unavailable", &format!("retry-after: {date}\r\n"), "")]).await;
        assert!(later.starts_with("it is busy (status 503), and wants to be asked again in 2"), "{later}");
        let mut begun = answer("200 OK", "", "hello world");
        begun.truncate(begun.len() - 3);
        let broken = said(vec![begun]).await;
        assert!(broken.starts_with("the connection broke: "), "{broken}");
        let refused = said(Vec::new()).await;
        // Which of them, is up to when the other side closes.
        let whys = ["refused", "the connection broke", "reset"];
        assert!(whys.iter().any(|why| refused.contains(why)), "{refused}");
    }
}
