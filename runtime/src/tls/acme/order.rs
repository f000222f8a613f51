//! One order: from a name to a chain and its key (RFC 8555 section 7.4).

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, Authorizations, CertificateIdentifier, ChallengeHandle, ChallengeType,
    Identifier, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};

use super::challenges::{Challenges, Standing};
use super::dns::{DnsProvider, TxtRecord};
use super::{ChallengeKind, IssueError};
use crate::tls::DnsName;

/// How often an order is asked for, and for how long: authorities look from several places, which takes seconds.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(200))
    .backoff(1.5)
    .timeout(Duration::from_secs(60));

/// For how long a whole order may go on, apart from what a DNS provider takes.
const ORDER: Duration = Duration::from_secs(120);

/// A chain and its key, PEM.
pub struct Issued {
    pub chain: String,
    pub key: String,
}

/// How the authority is convinced.
#[derive(Clone)]
pub struct Proof {
    /// Over which way.
    pub kind: ChallengeKind,
    /// Where answers stand for the two that this node gives itself.
    pub challenges: Arc<Challenges>,
    /// Who has the zone, for the third, and how long its servers take to know.
    pub dns: Option<(Arc<dyn DnsProvider>, Duration)>,
}

/// Answers that stand, and are taken away when the order is over.
#[derive(Default)]
struct Answers {
    standing: Vec<Standing>,
    records: Vec<TxtRecord>,
}

/// Orders a certificate. `replaces` tells the authority which one it follows.
///
/// # Errors
/// When the authority cannot be reached, refuses, or is not convinced.
pub async fn run(
    account: &Account,
    name: &DnsName,
    replaces: Option<CertificateIdentifier<'_>>,
    proof: &Proof,
) -> Result<Issued, IssueError> {
    let mut answers = Answers::default();
    let allowed = ORDER + proof.dns.as_ref().map_or(Duration::ZERO, |(_, settle)| *settle);
    let result = tokio::time::timeout(allowed, drive(account, name, replaces, proof, &mut answers)).await;
    if let Some((provider, _)) = &proof.dns {
        for record in &answers.records {
            if let Err(error) = provider.remove_txt(record).await {
                tracing::warn!(record = record.name, %error, "a DNS record of a challenge stays behind");
            }
        }
    }
    result.unwrap_or(Err(IssueError::TimedOut))
}

async fn drive(
    account: &Account,
    name: &DnsName,
    replaces: Option<CertificateIdentifier<'_>>,
    proof: &Proof,
    answers: &mut Answers,
) -> Result<Issued, IssueError> {
    let mut order = open(account, name, replaces).await?;
    answer(&mut order.authorizations(), name, proof, answers).await?;
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready) => {}
        // Some authorities say why beside the order, others beside the challenge only.
        Err(instant_acme::Error::Api(problem)) if order.state().status == OrderStatus::Invalid => {
            return Err(IssueError::Refused(problem.to_string()));
        }
        Ok(_) => return Err(IssueError::Refused(refusal(&mut order.authorizations()).await)),
        Err(error) => return Err(error.into()),
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&POLL).await?;
    Ok(Issued { chain, key })
}

async fn open(
    account: &Account,
    name: &DnsName,
    replaces: Option<CertificateIdentifier<'_>>,
) -> Result<Order, IssueError> {
    let identifiers = [Identifier::Dns(name.to_string())];
    let plain = NewOrder::new(&identifiers);
    let Some(replaces) = replaces else { return Ok(account.new_order(&plain).await?) };
    match account.new_order(&NewOrder::new(&identifiers).replaces(replaces)).await {
        // Another order of ours got there first, or the certificate is not this authority's any more.
        Err(instant_acme::Error::Api(problem)) if !is_limit(&problem) => {
            Ok(account.new_order(&plain).await?)
        }
        order => Ok(order?),
    }
}

fn is_limit(problem: &Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":rateLimited"))
}

async fn answer(
    authorizations: &mut Authorizations<'_>,
    name: &DnsName,
    proof: &Proof,
    answers: &mut Answers,
) -> Result<(), IssueError> {
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            // Proven a short time ago.
            continue;
        }
        let challenge = authorization.challenge(proof.kind.into());
        let mut challenge = challenge.ok_or(IssueError::NoChallenge(proof.kind))?;
        give(&challenge, name, proof, answers).await?;
        challenge.set_ready().await?;
    }
    Ok(())
}

async fn give(
    challenge: &ChallengeHandle<'_>,
    name: &DnsName,
    proof: &Proof,
    answers: &mut Answers,
) -> Result<(), IssueError> {
    let authorization = challenge.key_authorization();
    match proof.kind {
        ChallengeKind::Http01 => {
            let standing = proof.challenges.answer_by_http(&challenge.token, authorization.as_str());
            answers.standing.push(standing);
        }
        ChallengeKind::TlsAlpn01 => {
            let digest = <[u8; 32]>::try_from(authorization.digest().as_ref());
            let digest = digest.map_err(|_| IssueError::NoChallenge(proof.kind))?;
            answers.standing.push(proof.challenges.answer_by_tls(name, &digest)?);
        }
        ChallengeKind::Dns01 => {
            let (provider, settle) = proof.dns.as_ref().ok_or(IssueError::NoChallenge(proof.kind))?;
            let record = TxtRecord {
                name: format!("_acme-challenge.{}", name.base()),
                value: authorization.dns_value(),
            };
            // Noted first: what may stand there is removed.
            answers.records.push(record.clone());
            provider.set_txt(&record).await?;
            tokio::time::sleep(*settle).await;
        }
    }
    Ok(())
}

/// What the authority says about a challenge that it did not accept.
async fn refusal(authorizations: &mut Authorizations<'_>) -> String {
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem.to_string();
        }
    }
    "the order is invalid".to_owned()
}

impl From<ChallengeKind> for ChallengeType {
    fn from(kind: ChallengeKind) -> Self {
        match kind {
            ChallengeKind::TlsAlpn01 => Self::TlsAlpn01,
            ChallengeKind::Http01 => Self::Http01,
            ChallengeKind::Dns01 => Self::Dns01,
        }
    }
}
