//! SHA-256, of two messages at a time where a processor has instructions for it: those wait for one another, so that two take hardly
//! longer than one. ring has them only one at a time.

#[cfg(target_arch = "x86_64")]
mod two_lanes;

#[cfg(target_arch = "x86_64")]
use two_lanes::Hasher as TwoLanes;

/// A hash of what has come so far.
pub enum Sha256 {
    /// Where the processor has instructions for it.
    #[cfg(target_arch = "x86_64")]
    TwoLanes(TwoLanes),
    // ring: 0.27 GB/s without SHA extensions, where the sha2 crate has 0.16.
    Ring(ring::digest::Context),
}

impl Default for Sha256 {
    fn default() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(hasher) = TwoLanes::new() {
            return Self::TwoLanes(hasher);
        }
        Self::Ring(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Sha256 {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::TwoLanes(hasher) => hasher.update(bytes),
            Self::Ring(context) => context.update(bytes),
        }
    }

    /// Whether [`Self::update_both`] takes less time than one after the other.
    pub const fn is_faster_in_pairs(&self) -> bool {
        !matches!(self, Self::Ring(_))
    }

    /// What [`Self::update`] does to both.
    pub fn update_both(one: (&mut Self, &[u8]), other: (&mut Self, &[u8])) {
        match (one, other) {
            #[cfg(target_arch = "x86_64")]
            ((Self::TwoLanes(one), first), (Self::TwoLanes(other), second)) => {
                TwoLanes::update_both((one, first), (other, second));
            }
            ((one, first), (other, second)) => {
                one.update(first);
                other.update(second);
            }
        }
    }

    pub fn finish(self) -> [u8; 32] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::TwoLanes(hasher) => hasher.finish(),
            Self::Ring(context) => {
                let mut digest = [0; 32];
                digest.copy_from_slice(context.finish().as_ref());
                digest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::digest::{Context, SHA256, digest};

    use super::*;

    fn bytes(size: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_published_digests() {
        for (message, published) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            let mut hash = Sha256::default();
            hash.update(message.as_bytes());
            let digest: String = hash.finish().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, published);
        }
    }

    #[test]
    fn every_size_around_the_blocks_has_the_digest_that_ring_says() {
        let message = bytes(300, 0);
        for size in 0..message.len() {
            let message = &message[..size];
            for mut hash in [Sha256::default(), Sha256::Ring(Context::new(&SHA256))] {
                hash.update(message);
                assert_eq!(hash.finish(), digest(&SHA256, message).as_ref(), "{size} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn two_messages_in_any_steps_have_the_digests_that_ring_says(
            steps in prop::collection::vec((0usize..400, 0usize..400, any::<bool>()), 0..20),
            by_ring: bool,
        ) {
            let (one, other) = (bytes(8000, 1), bytes(8000, 2));
            let mut first = if by_ring { Sha256::Ring(Context::new(&SHA256)) } else { Sha256::default() };
            let mut second = Sha256::default();
            let (mut of_one, mut of_other) = (0, 0);
            for (size, others, together) in steps {
                let (now, then) = (&one[of_one..of_one + size], &other[of_other..of_other + others]);
                if together {
                    Sha256::update_both((&mut first, now), (&mut second, then));
                } else {
                    second.update(then);
                    first.update(now);
                }
                (of_one, of_other) = (of_one + size, of_other + others);
            }
            let expected = digest(&SHA256, &one[..of_one]);
            prop_assert_eq!(&first.finish()[..], expected.as_ref());
            let expected = digest(&SHA256, &other[..of_other]);
            prop_assert_eq!(&second.finish()[..], expected.as_ref());
        }
    }
}
