//! Requests that wait share one instance here, which they can tell by its memory. The path says what one does:
//! `/meet/3` answers when three requests have been here at once, `/slow` in pieces with pauses; `/spin`, `/trap` and
//! `/sleep` misbehave, and `/` says how many others are here.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Together);

struct Together;

/// Requests that are here, and the most that ever were at once.
static HERE: AtomicU32 = AtomicU32::new(0);
static MOST: AtomicU32 = AtomicU32::new(0);

const MILLISECOND: u64 = 1_000_000;

impl Guest for Together {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        drop(request);
        let here = HERE.fetch_add(1, Ordering::Relaxed) + 1;
        MOST.fetch_max(here, Ordering::Relaxed);
        let text = match path.as_str() {
            "/spin" => {
                // Others are let in while this waits.
                wait_for(50 * MILLISECOND).await;
                loop {
                    std::hint::spin_loop();
                }
            }
            "/trap" => {
                wait_for(50 * MILLISECOND).await;
                core::arch::wasm32::unreachable()
            }
            "/sleep" => {
                wait_for(3_600_000 * MILLISECOND).await;
                String::new()
            }
            "/slow" => return Ok(respond(b"piece\n".repeat(3), true)),
            path => match path.strip_prefix("/meet/").and_then(|many| many.parse().ok()) {
                Some(many) => meet(many).await,
                None => format!("{} others are here\n", here - 1),
            },
        };
        HERE.fetch_sub(1, Ordering::Relaxed);
        Ok(respond(text.into_bytes(), false))
    }
}

async fn meet(many: u32) -> String {
    for _ in 0..5_000 {
        if MOST.load(Ordering::Relaxed) >= many {
            return format!("{many} have met\n");
        }
        wait_for(MILLISECOND).await;
    }
    format!("only {} have met\n", MOST.load(Ordering::Relaxed))
}

/// The body is written while the client reads it, which is after this has returned.
fn respond(body: Vec<u8>, slow: bool) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), no_trailers);
    spawn_local(async move {
        for piece in body.chunks(if slow { 6 } else { 4096 }) {
            if slow {
                wait_for(20 * MILLISECOND).await;
            }
            if !writer.write_all(piece.to_vec()).await.is_empty() {
                return;
            }
        }
        drop(writer);
        let _unread = trailers.write(Ok(None)).await;
    });
    response
}
