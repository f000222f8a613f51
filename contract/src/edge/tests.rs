#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use super::*;
use zeroize::Zeroizing;

fn pair() -> KeyPair {
    KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_proof_counts_for_its_edge_its_control_plane_and_its_minute() {
    let (edge, control, other) = (pair(), pair(), pair());
    let share = Share::new().unwrap();
    let bound = Bound::to("GET", "/v1/edge/feed").with_share(share.public());
    let text = prove(&edge, "edge_1", &control.public(), bound, 1000).unwrap();
    assert_eq!(Proof::read(&text).unwrap().edge(), "edge_1");
    let verify = |edge: &KeyPair, control: &KeyPair, now| {
        let shown = Proof::read(&text).unwrap().verify(&edge.public(), &control.public(), now)?;
        assert_eq!(shown.until, 1120);
        Ok(shown.bound.share().copied())
    };
    for now in [940, 1000, 1060, 1120] {
        assert_eq!(verify(&edge, &control, now), Ok(Some(share.public())), "{now}");
    }
    for now in [939, 1121, i64::MIN, i64::MAX] {
        assert_eq!(verify(&edge, &control, now), Err(EdgeError::Time), "{now}");
    }
    assert_eq!(verify(&other, &control, 1000), Err(EdgeError::Signature));
    assert_eq!(verify(&edge, &other, 1000), Err(EdgeError::Audience));
}

#[test]
fn no_other_algorithm_and_no_other_text_is_a_proof() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    let (edge, control) = (pair(), pair());
    let good = prove(&edge, "edge_1", &control.public(), Bound::to("GET", "/"), 0).unwrap();
    let (header, rest) = good.split_once('.').unwrap();
    assert!(BASE64.decode(header).unwrap().starts_with(b"{\"alg\":\"EdDSA\""));
    for other in [r#"{"alg":"none"}"#, r#"{"alg":"HS256","typ":"af-edge+jwt"}"#, "{}", ""] {
        assert_eq!(Proof::read(&format!("{}.{rest}", BASE64.encode(other))).err(), Some(EdgeError::Form));
    }
    for bad in ["", ".", "..", "a.b.c", &good[..good.len() / 2], &"a.".repeat(4000)] {
        assert!(Proof::read(bad).is_err(), "{bad}");
    }
    // Every changed character is noticed.
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let verified =
            Proof::read(&changed).and_then(|proof| proof.verify(&edge.public(), &control.public(), 0));
        assert!(verified.is_err(), "{at}");
    }
}

#[test]
fn a_proof_for_a_body_counts_for_that_body_only() {
    let (edge, control) = (pair(), pair());
    let bound = |bound: Bound| {
        let text = prove(&edge, "edge_1", &control.public(), bound, 0).unwrap();
        Proof::read(&text).unwrap().verify(&edge.public(), &control.public(), 0).unwrap().bound
    };
    let any = || Bound::to("POST", "/v1/edge/report");
    let with_body = bound(any().with_body(b"{}"));
    assert_eq!(with_body.check_body(b"{}"), Ok(()));
    assert_eq!(with_body.check_body(b"{ }"), Err(EdgeError::Body));
    assert_eq!(bound(any()).check_body(b"{}"), Err(EdgeError::Body), "one for no body");
    let share = Share::new().unwrap().public();
    let both = bound(any().with_share(share).with_body(b""));
    assert_eq!((both.share(), both.check_body(b"")), (Some(&share), Ok(())));
}

#[test]
fn a_proof_for_a_request_counts_for_its_method_path_and_query_only() {
    let (edge, control) = (pair(), pair());
    let bound = Bound::to("GET", "/v1/edge/feed?after=1");
    let text = prove(&edge, "edge_1", &control.public(), bound, 0).unwrap();
    let read = || Proof::read(&text).unwrap().verify(&edge.public(), &control.public(), 0).unwrap();
    assert_eq!(read().bound.check_request("GET", "/v1/edge/feed?after=1"), Ok(()));
    for (method, target) in [
        ("POST", "/v1/edge/feed?after=1"),
        ("get", "/v1/edge/feed?after=1"),
        ("GET", "/v1/edge/feed"),
        ("GET", "/v1/edge/feed?"),
        ("GET", "/v1/edge/feed?after=10"),
        ("GET", "/v1/edge/feed?after=1&anew=true"),
        ("GET", "/v1/edge/work?after=1"),
        ("GET", ""),
    ] {
        assert_eq!(read().bound.check_request(method, target), Err(EdgeError::Request), "{method} {target}");
    }
    // Each has its own id, and says of which version its edge is.
    let other = prove(&edge, "edge_1", &control.public(), Bound::to("GET", "/v1/edge/feed"), 0).unwrap();
    let other = Proof::read(&other).unwrap().verify(&edge.public(), &control.public(), 0).unwrap();
    assert!(!other.id.is_empty() && other.id != read().id);
    assert_eq!(other.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_answer_opens_for_its_request_only_and_unchanged() {
    let (control, other) = (pair(), pair());
    let text = || Zeroizing::new(b"the feed".to_vec());
    let share = Share::new().unwrap();
    let answer = seal(&control, "proof", &share.public(), &text()).unwrap();
    assert!(!answer.windows(4).any(|part| part == b"feed"));
    assert_eq!(*share.open("proof", &control.public(), &answer).unwrap(), *text());
    let refused = |proof: &str, key: &KeyPair, change: &dyn Fn(&mut Vec<u8>)| {
        let share = Share::new().unwrap();
        let mut answer = seal(&control, "proof", &share.public(), &text()).unwrap();
        change(&mut answer);
        share.open(proof, &key.public(), &answer).unwrap_err()
    };
    assert_eq!(refused("another", &control, &|_| {}), EdgeError::Signature);
    assert_eq!(refused("proof", &other, &|_| {}), EdgeError::Signature);
    assert_eq!(refused("proof", &control, &Vec::clear), EdgeError::Form);
    for at in 0..answer.len() {
        assert_eq!(refused("proof", &control, &|answer| answer[at] ^= 1), EdgeError::Signature, "{at}");
    }
    // Sealed to somebody else.
    let stranger = Share::new().unwrap();
    assert_eq!(stranger.open("proof", &control.public(), &answer).unwrap_err(), EdgeError::Signature);
}

#[test]
fn a_join_token_binds_the_edges_key_and_the_control_planes() {
    let (edge, control, other) = (pair().public(), pair().public(), pair().public());
    let token = JoinToken::new("edge_1", &control).unwrap();
    let read: JoinToken = token.reveal().parse().unwrap();
    assert!(read == token && !format!("{token:?}").contains(token.reveal().split('.').nth(1).unwrap()));
    let request = read.request(&edge);
    request.verify(token.secret()).unwrap();
    let stolen = JoinRequest { public_key: other, ..request.clone() };
    assert_eq!(stolen.verify(token.secret()), Err(EdgeError::Signature));
    assert!(!request.proof.contains(token.reveal().split('.').nth(1).unwrap()));
    assert_eq!((read.check(&control), read.check(&other)), (Ok(()), Err(EdgeError::Audience)));
    for bad in ["", "afj_", "afj_a.b", "afj_a.b.c", "afj_a.b.c.d", "aft_x"] {
        assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
    }
}
