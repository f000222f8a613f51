//! A DNS server over UDP, with the faults that real ones have.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

#[derive(Clone)]
enum Reply {
    Records(Vec<RData>),
    Fault(ResponseCode),
}

/// What it knows: by name, lower case and with a dot at its end.
type Zone = Arc<Mutex<HashMap<String, Reply>>>;

/// Answers until it is dropped.
pub struct DnsServer {
    pub address: SocketAddr,
    zone: Zone,
    serving: tokio::task::JoinHandle<()>,
}

impl DnsServer {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Zone::default();
        let serving = tokio::spawn(serve(socket, zone.clone()));
        Self { address, zone, serving }
    }

    /// Adds a TXT record of one string or several.
    pub fn txt(&self, name: &str, strings: &[&str]) {
        let text = TXT::from_bytes(strings.iter().map(|string| string.as_bytes()).collect());
        self.add(name, RData::TXT(text));
    }

    pub fn cname(&self, name: &str, target: &str) {
        self.add(name, RData::CNAME(CNAME(Name::from_ascii(target).unwrap())));
    }

    pub fn address(&self, name: &str, address: IpAddr) {
        self.add(
            name,
            match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            },
        );
    }

    /// Answers all questions about a name with an error.
    pub fn fail(&self, name: &str, code: ResponseCode) {
        self.zone.lock().unwrap().insert(key(name), Reply::Fault(code));
    }

    /// Forgets a name.
    pub fn clear(&self, name: &str) {
        self.zone.lock().unwrap().remove(&key(name));
    }

    fn add(&self, name: &str, record: RData) {
        let mut zone = self.zone.lock().unwrap();
        match zone.entry(key(name)).or_insert_with(|| Reply::Records(Vec::new())) {
            Reply::Records(records) => records.push(record),
            Reply::Fault(_) => panic!("{name} fails"),
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn key(name: &str) -> String {
    format!("{}.", name.to_ascii_lowercase())
}

async fn serve(socket: UdpSocket, zone: Zone) {
    let mut packet = [0; 4096];
    loop {
        let (size, from) = socket.recv_from(&mut packet).await.unwrap();
        let asked = Message::from_vec(&packet[..size]).unwrap();
        let answer = answer(&asked, &zone).to_vec().unwrap();
        socket.send_to(&answer, from).await.unwrap();
    }
}

fn answer(asked: &Message, zone: &Zone) -> Message {
    let query = asked.queries.first().unwrap().clone();
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    let mut name = query.name().clone();
    // Servers follow aliases, as far as they like.
    for _ in 0..4 {
        let found = zone.lock().unwrap().get(&name.to_ascii().to_ascii_lowercase()).cloned();
        let records = match found {
            None => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                break;
            }
            Some(Reply::Fault(code)) => {
                answer.metadata.response_code = code;
                break;
            }
            Some(Reply::Records(records)) => records,
        };
        let wanted = |record: &&RData| record.record_type() == query.query_type();
        // Real servers keep the letters' case of the question or of the zone file, as they like.
        let shown = Name::from_ascii(name.to_ascii().to_ascii_uppercase()).unwrap();
        let matching: Vec<&RData> = records.iter().filter(wanted).collect();
        answer
            .add_answers(matching.iter().map(|data| Record::from_rdata(shown.clone(), 60, (*data).clone())));
        let alias = records.iter().find_map(|record| match record {
            RData::CNAME(target) if query.query_type() != RecordType::CNAME => Some(target.0.clone()),
            _ => None,
        });
        let Some(target) = alias.filter(|_| matching.is_empty()) else { break };
        answer.add_answer(Record::from_rdata(shown, 60, RData::CNAME(CNAME(target.clone()))));
        name = target;
    }
    answer.add_query(query);
    answer
}
