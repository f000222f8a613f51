//! What the edge does around every request besides having it answered: names its trace, counts it against rates, answers
//! browsers' questions, and puts onto the response what these have to say.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::header::{ACCEPT_ENCODING, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use af_contract::{Cors, Manifest};

use super::access_log::{AccessLog, AccessLogTarget, Line};
use super::body::ResponseBody;
use super::compress::Compressor;
use super::cors::{self, Grant};
use super::rate::{self, ClientRates, Rate, RateError, Standing};
use super::trace::TraceContext;
use crate::listen::{Peer, TrustedProxies};
use crate::metrics::Metrics;
use crate::request_id::RequestId;
use crate::usage::{Asked, Counters, End};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the edge does for all requests.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// How long a function may wait for the next part of a request's body.
    pub body_timeout: Duration,
    /// Requests of one client per second, twice as many at once; without it, as many as it can send.
    pub rate_limit: Option<NonZeroU32>,
    /// Where each request is written down; without it, nowhere.
    pub access_log: Option<AccessLogTarget>,
    /// Whether responses tell how long their parts took.
    pub server_timing: bool,
}

impl Default for HttpConfig {
    /// Twenty seconds are what other servers give. Clients have no rate by default: a whole company may be behind one
    /// address, and instances are shared out by function anyway.
    fn default() -> Self {
        Self {
            body_timeout: Duration::from_secs(20),
            rate_limit: None,
            access_log: None,
            server_timing: false,
        }
    }
}

/// What is kept for all requests.
pub struct Exchanges {
    clients: Option<ClientRates>,
    log: Option<AccessLog>,
    compressor: Compressor,
    server_timing: bool,
    body_timeout: Duration,
    trusted: TrustedProxies,
}

/// What a deployment says about its requests.
#[derive(Default)]
pub struct Terms {
    cors: Option<Cors>,
    compress: bool,
    rate: Option<Rate>,
}

/// One request and its response.
pub struct Exchange {
    client: IpAddr,
    line: Option<Box<Line>>,
    timing: Option<Timing>,
    grant: Option<Grant>,
    accept: Option<HeaderMap>,
    standings: Vec<Standing>,
    retry_after: Option<u64>,
    /// Whom it was asked of, if it was not refused before.
    asked: Option<Asked>,
    /// Its client asked for the header only.
    bodiless: bool,
}

/// How long what took.
struct Timing {
    since: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Terms {
    /// Those of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            cors: manifest.cors.clone(),
            compress: manifest.compress,
            rate: manifest.limits.requests_per_second.and_then(NonZeroU32::new).map(Rate::of_function),
        }
    }
}

impl Exchanges {
    /// `trusted` proxies are believed who sent a request.
    ///
    /// # Errors
    /// When the access log cannot be opened.
    pub fn new(config: &HttpConfig, trusted: TrustedProxies, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let log = config.access_log.as_ref().map(|target| AccessLog::open(target, metrics.clone()));
        Ok(Self {
            clients: config.rate_limit.map(ClientRates::new),
            log: log.transpose()?,
            compressor: Compressor::default(),
            server_timing: config.server_timing,
            body_timeout: config.body_timeout,
            trusted,
        })
    }

    /// A request came in. Its header then names its trace for whoever gets it.
    pub fn begin<B>(&self, id: RequestId, peer: &Peer, request: &mut Request<B>) -> Exchange {
        let trace = TraceContext::enter(request.headers_mut());
        let client = self.trusted.client(peer.address.ip(), request.headers());
        let line =
            self.log.as_ref().map(|log| Box::new(log.begin(id, trace, (client, peer.scheme()), request)));
        Exchange {
            client,
            line,
            timing: self.server_timing.then(|| Timing { since: Instant::now(), steps: Vec::new() }),
            grant: None,
            accept: None,
            standings: Vec::new(),
            retry_after: None,
            asked: None,
            bodiless: request.method() == Method::HEAD,
        }
    }

    /// Counts the request against its client's rate.
    ///
    /// # Errors
    /// When the client has sent too many.
    pub fn admit(&self, exchange: &mut Exchange) -> Result<(), RateError> {
        match &self.clients {
            Some(clients) => exchange.counted(clients.count(exchange.client)),
            None => Ok(()),
        }
    }

    /// How long a function may wait for the next part of a request's body.
    pub fn body_timeout(&self) -> Duration {
        self.body_timeout
    }

    /// Puts onto the response what there is to say, whoever gave it.
    pub fn finish(&self, exchange: Exchange, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        let headers = response.headers_mut();
        if !exchange.standings.is_empty() {
            rate::tell(&exchange.standings, headers);
        }
        if let Some(seconds) = exchange.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(grant) = exchange.grant {
            grant.apply(headers);
        }
        if let Some(timing) = exchange.timing {
            timing.tell(headers);
        }
        if let Some(accept) = exchange.accept {
            response = self.compressor.compress(&accept, response);
        }
        if let Some(asked) = exchange.asked {
            response = asked.watch(response, exchange.bodiless);
        }
        match exchange.line {
            Some(line) => line.attach(response),
            None => response,
        }
    }

    /// Returns when what is to be written down is.
    pub async fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush().await;
        }
    }
}

impl Exchange {
    /// The request is for this deployment. A response, if the edge can give it without the function.
    ///
    /// # Errors
    /// When the function may not be called so often.
    pub fn enter<B>(
        &mut self,
        terms: &Terms,
        request: &Request<B>,
    ) -> Result<Option<Response<ResponseBody>>, RateError> {
        // First, so that pages can read what is refused after this.
        self.grant = terms.cors.as_ref().map(|cors| Grant::new(cors, request.headers()));
        if let Some(rate) = &terms.rate {
            self.counted(rate.count())?;
        }
        if terms.compress {
            self.compress(request.headers());
        }
        Ok(terms.cors.as_ref().and_then(|cors| cors::preflight(cors, request)))
    }

    /// The request is asked of a function or a site, whose counters these are, and counts from now on.
    pub fn ask(&mut self, counters: Arc<Counters>) {
        self.asked = Some(Asked::of(counters));
    }

    /// It has ended, but for its body.
    pub(super) fn end(&mut self, end: End) {
        if let Some(asked) = &mut self.asked {
            asked.end(end);
        }
    }

    /// Whoever asks, as far as proxies are believed.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The response is to be compressed, if the client with these request headers accepts that.
    pub fn compress(&mut self, request: &HeaderMap) {
        let mut accept = HeaderMap::new();
        for value in request.get_all(ACCEPT_ENCODING) {
            accept.append(ACCEPT_ENCODING, value.clone());
        }
        self.accept = Some(accept);
    }

    /// A step is done.
    pub fn step(&mut self, name: &'static str) {
        if let Some(timing) = &mut self.timing {
            timing.steps.push((name, timing.since.elapsed()));
            timing.since = Instant::now();
        }
    }

    fn counted(&mut self, (standing, counted): (Standing, Result<(), RateError>)) -> Result<(), RateError> {
        self.standings.push(standing);
        self.retry_after = counted.err().map(|error| error.retry_after);
        counted
    }
}

impl Timing {
    fn tell(self, headers: &mut HeaderMap) {
        let one = |(name, took): &(&str, Duration)| format!("{name};dur={:.3}", took.as_secs_f64() * 1e3);
        let text: Vec<String> = self.steps.iter().map(one).collect();
        // A function's own timings stay.
        if !text.is_empty()
            && let Ok(value) = HeaderValue::try_from(text.join(", "))
        {
            headers.append(SERVER_TIMING, value);
        }
    }
}
