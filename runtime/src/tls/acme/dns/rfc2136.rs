//! A name server that takes dynamic updates (RFC 2136) signed with a shared key (TSIG, RFC 8945): BIND, Knot,
//! PowerDNS and others.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig;
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, DnsError, DnsProvider, TxtRecord};

/// A whole exchange.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The primary knows at once; it notifies the others, which fetch the change.
const SETTLE: Duration = Duration::from_secs(10);

/// How far the two clocks may differ, seconds (RFC 8945 section 10 recommends it).
const FUDGE: u16 = 300;

const TTL: u32 = 60;

/// What signs updates.
#[derive(Clone)]
pub struct TsigKey {
    /// As the server calls it.
    pub name: String,
    /// Its hash function.
    pub algorithm: TsigAlgorithm,
    /// In base64.
    pub secret: String,
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsigKey").field("name", &self.name).field("secret", &"***").finish_non_exhaustive()
    }
}

/// The hash functions that are still good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`
    #[default]
    Sha256,
    /// `hmac-sha384`
    Sha384,
    /// `hmac-sha512`
    Sha512,
}

impl FromStr for TsigAlgorithm {
    type Err = DnsError;

    fn from_str(text: &str) -> Result<Self, DnsError> {
        match text.trim_end_matches('.').to_ascii_lowercase().as_str() {
            "hmac-sha256" => Ok(Self::Sha256),
            "hmac-sha384" => Ok(Self::Sha384),
            "hmac-sha512" => Ok(Self::Sha512),
            _ => {
                Err(DnsError::Credentials(format!("{text:?} is not hmac-sha256, hmac-sha384 or hmac-sha512")))
            }
        }
    }
}

/// One zone's primary server.
pub struct Rfc2136 {
    server: String,
    zone: Name,
    signer: TSigner,
}

impl Rfc2136 {
    /// Checks names and key; connects later.
    pub fn new(server: &str, zone: &str, key: &TsigKey) -> Result<Self, DnsError> {
        let unusable = |why: String| DnsError::Credentials(why);
        let secret =
            BASE64.decode(&key.secret).map_err(|error| unusable(format!("the TSIG secret: {error}")))?;
        let algorithm = match key.algorithm {
            TsigAlgorithm::Sha256 => tsig::TsigAlgorithm::HmacSha256,
            TsigAlgorithm::Sha384 => tsig::TsigAlgorithm::HmacSha384,
            TsigAlgorithm::Sha512 => tsig::TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(secret, algorithm, name(&key.name)?, FUDGE);
        let signer = signer.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { server: server.to_owned(), zone: name(zone)?, signer })
    }

    async fn update(&self, record: &TxtRecord, make: fn(RecordSet, Name) -> Message) -> Result<(), DnsError> {
        let owner = name(&record.name)?;
        if !self.zone.zone_of(&owner) {
            return Err(DnsError::NoZone(record.name.clone()));
        }
        let text = RData::TXT(TXT::new(vec![record.value.clone()]));
        let set = RecordSet::from(Record::from_rdata(owner, TTL, text));
        let exchange = self.exchange(make(set, self.zone.clone()));
        let answered = tokio::time::timeout(TIMEOUT, exchange).await;
        match answered.map_err(|_| DnsError::Unreachable(format!("{}: no answer in time", self.server)))?? {
            ResponseCode::NoError => Ok(()),
            code => {
                Err(DnsError::Refused { status: code.to_string(), detail: format!("by {}", self.server) })
            }
        }
    }

    /// Over TCP, since updates and answers are signed and may be long.
    async fn exchange(&self, mut message: Message) -> Result<ResponseCode, DnsError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let malformed = |error: &dyn fmt::Display| DnsError::Answer(error.to_string());
        let verifier = message.finalize(&self.signer, now).map_err(|error| malformed(&error))?;
        let bytes = message.to_vec().map_err(|error| malformed(&error))?;
        let answer = self
            .send(&bytes)
            .await
            .map_err(|error| DnsError::Unreachable(format!("{}: {error}", self.server)))?;
        let told = Message::from_vec(&answer).map_err(|error| malformed(&error))?;
        // A server that does not know the key cannot sign its refusal; nobody gains from forging one.
        if told.response_code != ResponseCode::NoError {
            return Ok(told.response_code);
        }
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer).map_err(|error| malformed(&error))?;
        }
        Ok(told.response_code)
    }

    async fn send(&self, message: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.server).await?;
        let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

fn name(text: &str) -> Result<Name, DnsError> {
    let mut name =
        Name::from_ascii(text).map_err(|error| DnsError::Credentials(format!("{text:?}: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

impl DnsProvider for Rfc2136 {
    fn set_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.update(record, |set, zone| update_message::append(set, zone, false, false)))
    }

    fn remove_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.update(record, |set, zone| update_message::delete_by_rdata(set, zone, false)))
    }

    fn settle(&self) -> Duration {
        SETTLE
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn key(secret: &str) -> TsigKey {
        TsigKey { name: "updates".into(), algorithm: TsigAlgorithm::Sha256, secret: secret.into() }
    }

    /// A server that answers with the request's id, this response code, and no signature. Returns what became of an
    /// update.
    async fn answered(code: u8) -> Result<(), DnsError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut request).await.unwrap();
            // QR and opcode 5 (update); no section has a record.
            let answer = [&request[..2], &[0xa8, code, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
            stream.write_all(&[&[0, 12], answer.as_slice()].concat()).await.unwrap();
        };
        let zone = Rfc2136::new(&address, "example.com", &key("c2VjcmV0")).unwrap();
        let record = TxtRecord { name: "_acme-challenge.example.com".into(), value: "digest".into() };
        let (_, result) = tokio::join!(server, zone.set_txt(&record));
        result
    }

    #[tokio::test]
    async fn an_answer_that_nobody_signed_is_no_success() {
        assert!(matches!(answered(0).await, Err(DnsError::Answer(_))));
        assert!(matches!(answered(5).await, Err(DnsError::Refused { .. })));
        assert!(matches!(answered(9).await, Err(DnsError::Refused { .. })));
    }

    #[tokio::test]
    async fn a_name_outside_the_zone_and_a_key_that_is_none_are_refused() {
        let zone = Rfc2136::new("127.0.0.1:1", "example.com", &key("c2VjcmV0")).unwrap();
        let record = TxtRecord { name: "_acme-challenge.example.org".into(), value: "digest".into() };
        assert!(matches!(zone.set_txt(&record).await, Err(DnsError::NoZone(_))));
        assert!(matches!(
            Rfc2136::new("127.0.0.1:1", "example.com", &key("!")),
            Err(DnsError::Credentials(_))
        ));
        assert!("hmac-md5".parse::<TsigAlgorithm>().is_err());
        assert_eq!("HMAC-SHA512.".parse::<TsigAlgorithm>().unwrap(), TsigAlgorithm::Sha512);
        assert!(!format!("{:?}", key("c2VjcmV0")).contains("c2VjcmV0"));
    }
}
