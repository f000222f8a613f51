//! A server behind a balancer that passes bytes on: whose PROXY headers count, and whose connections need one.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::{Home, Server, refused};

/// Everything that a connection answers to these bytes.
fn ask(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    // A connection that is reset has no answer.
    let _ended = stream.read_to_string(&mut answer);
    answer
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n";

/// Version 2, PROXY, TCP over IPv4, 12 bytes: 198.51.100.7:258 to 192.0.2.1:443.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x01\x02\x01\xbb";

#[test]
fn a_trusted_balancer_has_to_say_who_its_client_is() {
    let home = Home::new();
    let server = home.up(&["--trusted-proxy", "127.0.0.0/8", "--proxy-protocol"]);
    let answer = ask(&server, &[HEADER, REQUEST].concat());
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert_eq!(ask(&server, REQUEST), "");
    assert!(home.logged().contains("a connection of a trusted proxy was closed"), "{}", home.logged());
}

#[test]
fn anybody_elses_header_is_no_http() {
    let home = Home::new();
    let server = home.up(&["--trusted-proxy", "10.0.0.0/8", "--proxy-protocol"]);
    let answer = ask(&server, &[HEADER, REQUEST].concat());
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let answer = ask(&server, REQUEST);
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
}

#[test]
fn without_a_trusted_proxy_there_is_nobody_to_send_a_header() {
    let (code, text) = refused(Home::new().af().args(["up", "--proxy-protocol"]));
    assert_eq!(code, 2);
    assert!(text.contains("--trusted-proxy"), "{text}");
}
