//! A request for another protocol: its backend gets a connection of its own, which becomes a tunnel if it agrees.

use std::sync::Arc;

use http::header::UPGRADE;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tracing::debug;

use super::exchange::{Exchange, Tried, for_http1};
use super::request_body::RequestBody;
use super::response_body::Carrier;
use super::upstreams::Member;
use super::{Proxy, tunnel};
use crate::http::ResponseBody;

impl Proxy {
    pub(super) async fn try_upgrade(
        &self,
        member: &Arc<Member>,
        mut request: Request<RequestBody>,
        path: &PathAndQuery,
        client: &mut Option<OnUpgrade>,
        exchange: &mut Exchange<'_>,
    ) -> Tried {
        let (mut sender, driver, place) = match exchange.wait(self.connect_once(member)).await {
            Ok(connection) => connection,
            Err(error) => return Err((error, Some(Box::new(request)))),
        };
        let place = Arc::new(place);
        let held = place.clone();
        self.tunnels.spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                debug!(%error, "a connection to a backend ended with an error");
            }
            drop(held);
        });
        for_http1(&mut request, member, path);
        let sent = exchange.wait(async { Ok(sender.try_send_request(request).await) }).await;
        let mut response = match sent.map_err(|error| (error, None))? {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message().map(Box::new);
                return Err((exchange.blame(error.into_error()), unsent));
            }
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return exchange.arrived(response, Carrier::Task).await.map_err(|error| (error, None));
        }
        let protocol = response.headers().get(UPGRADE).cloned();
        let backend = hyper::upgrade::on(&mut response);
        if let Some(client) = client.take() {
            self.tunnels.join(client, backend, place, exchange.usage.take());
        }
        exchange
            .arrived(response, Carrier::Task)
            .await
            .map(|response| switching(response, protocol))
            .map_err(|error| (error, None))
    }
}

/// The client is told what the backend agreed to.
fn switching(mut response: Response<ResponseBody>, protocol: Option<HeaderValue>) -> Response<ResponseBody> {
    if let Some(protocol) = protocol {
        tunnel::tell(response.headers_mut(), protocol);
    }
    response
}
