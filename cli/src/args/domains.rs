//! `af domains …`, and what `af up` has to know about names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use af_contract::DomainName;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as Options, Subcommand};

use super::values::duration;

/// Of `af up`.
#[derive(Debug, Options)]
pub struct Names {
    /// An address under which the edge is reached, for domains that are verified by A or AAAA; may be given
    /// several times
    #[arg(long = "edge-address", value_name = "IP")]
    pub edge_addresses: Vec<IpAddr>,
    /// A DNS server that is asked when domains are verified; may be given several times [default: the system's]
    #[arg(long = "dns-server", value_name = "IP[:PORT]", value_parser = dns_server)]
    pub dns_servers: Vec<SocketAddr>,
    /// How often verified domains are checked again; four checks in a row without the proof, and a domain is lost
    #[arg(long = "domain-check-interval", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub check_interval: humantime::Duration,
}

#[derive(Debug, Subcommand)]
pub enum Domains {
    /// Claim a domain for a function, and show which DNS records to make
    Add(Add),
    /// Look for the DNS record that proves a domain; then the domain leads to its function
    Verify(Verify),
    /// List the project's domains
    List,
    /// Show one domain, and what is left to do for it
    Get(Hostname),
    /// Make a domain lead to another function, or verify it otherwise
    Update(Update),
    /// Use a certificate of your own for a domain
    Certificate(Certificate),
    /// Give a domain up
    #[command(alias = "delete")]
    Remove(Hostname),
}

/// Which domain.
#[derive(Debug, Options)]
pub struct Hostname {
    /// The name, such as www.example.com or *.example.com
    pub hostname: String,
}

/// What a domain leads to.
#[derive(Debug, Options)]
#[group(multiple = false)]
pub struct Owner {
    /// The name or id of the function that is to answer
    #[arg(short, long, value_name = "NAME", alias = "function-id")]
    pub function: Option<String>,
    /// The name or id of the site that is to answer
    #[arg(long, value_name = "NAME", alias = "site-id")]
    pub site: Option<String>,
}

#[derive(Debug, Options)]
pub struct Add {
    #[command(flatten)]
    pub name: Hostname,
    #[command(flatten)]
    pub owner: Owner,
    /// How you prove that the domain is yours: TXT (a record with a token), CNAME or A (the domain points here)
    #[arg(long, value_name = "METHOD", default_value = "TXT", ignore_case = true, value_parser = method())]
    pub method: String,
}

#[derive(Debug, Options)]
pub struct Verify {
    #[command(flatten)]
    pub name: Hostname,
    /// Ask again until the record is there, for up to an hour
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Options)]
pub struct Update {
    #[command(flatten)]
    pub name: Hostname,
    #[command(flatten)]
    pub owner: Owner,
    /// How the domain is verified from now on: TXT, CNAME or A
    #[arg(long, value_name = "METHOD", ignore_case = true, value_parser = method())]
    pub method: Option<String>,
}

#[derive(Debug, Options)]
pub struct Certificate {
    #[command(flatten)]
    pub name: Hostname,
    /// The certificates in PEM: the domain's own, then who signed it
    #[arg(long, value_name = "FILE", required_unless_present = "remove", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The private key in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Use no certificate of your own any more
    #[arg(long, conflicts_with_all = ["cert", "key"])]
    pub remove: bool,
}

/// In any case; the control API knows one.
fn method() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(["TXT", "CNAME", "A"]).map(|method| method.to_ascii_uppercase())
}

/// An address with a port, or one whose port is the DNS's.
fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, 53).into()));
    address.map_err(|_| "not an IP address, such as 1.1.1.1 or [2606:4700:4700::1111]:53".to_owned())
}

/// A domain that functions have names under, in the form in which hosts are compared. One label will do, as on one machine.
pub fn platform(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    // As functions are, below it.
    let below = DomainName::parse(&format!("af.{name}")).ok();
    let domain = below.and_then(|below| below.as_str().strip_prefix("af.").map(str::to_owned));
    domain.ok_or_else(|| {
        "this is not a domain; one looks like example.com, without a scheme, a port or a *".into()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    #[test]
    fn a_platforms_domain_is_a_name_and_no_more() {
        for (text, domain) in [
            ("localhost", "localhost"),
            ("Functions.Example.COM.", "functions.example.com"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(platform(text).unwrap(), domain);
        }
        for text in [
            "",
            ".",
            "bad domain",
            "example.com:80",
            "https://example.com",
            "*.example.com",
            "127.0.0.1",
            "::1",
        ] {
            assert!(platform(text).unwrap_err().contains("one looks like"), "{text}");
        }
    }
}
