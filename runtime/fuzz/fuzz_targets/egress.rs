//! No address that is special in itself, or holds an IPv4 address that is, counts as public.

#![no_main]

#[path = "../../src/host/egress.rs"]
mod egress;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use af_contract::HostPattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: ([u8; 16], [u8; 4], &str)| {
    let (six, four, text) = input;
    let (six, four) = (Ipv6Addr::from(six), Ipv4Addr::from(four));
    let special = |four: Ipv4Addr| {
        four.is_private()
            || four.is_loopback()
            || four.is_link_local()
            || four.is_multicast()
            || four.is_broadcast()
            || four.is_unspecified()
            || four.is_documentation()
    };
    assert!(!(special(four) && egress::is_public(IpAddr::V4(four))));
    if egress::is_public(IpAddr::V6(six)) {
        assert!(!six.is_loopback() && !six.is_multicast() && !six.is_unspecified());
        assert!(!six.is_unicast_link_local() && !six.is_unique_local());
        assert!(six.to_ipv4_mapped().is_none());
        // 6to4 and Teredo have an IPv4 address in them.
        assert!(six.segments()[0] != 0x2002 && six.segments()[..2] != [0x2001, 0]);
    }
    assert!(!egress::is_public(IpAddr::V6(four.to_ipv6_mapped())));
    if let Ok(pattern) = HostPattern::parse(text) {
        assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern));
    }
});
