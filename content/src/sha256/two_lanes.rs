//! SHA-256 with the instructions that x86-64 has for it, of one message or of two side by side: each instruction waits for the
//! one before it, so that a second message fills the gaps.

#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "all places are constants, lanes, or within a block, and several arrays have the same place"
)]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
    _mm_shuffle_epi32,
};

/// Bytes that are hashed in one go.
const BLOCK: usize = 64;

/// As they are loaded.
type Block = [[u8; 8]; 8];

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes (FIPS 180-4, 5.3.3).
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2), as the words that they are
/// added to.
const CONSTANTS: [[[u32; 4]; 4]; 4] = [
    [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    ],
    [
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    ],
    [
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    ],
    [
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ],
];

/// A hash on a processor that has the instructions: there is no other way to get one.
pub struct Hasher {
    state: [u32; 8],
    /// Begins with what does not fill a block yet.
    rest: [u8; BLOCK],
    /// Bytes of that, fewer than a block.
    held: usize,
    /// Bytes so far.
    size: u64,
}

impl Hasher {
    /// `None`: the processor cannot.
    pub fn new() -> Option<Self> {
        let can = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        can.then_some(Self { state: START, rest: [0; BLOCK], held: 0, size: 0 })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = blocks(self.fill(bytes));
        compress([&mut self.state], [blocks]);
        self.keep(rest);
    }

    pub fn update_both((one, first): (&mut Self, &[u8]), (other, second): (&mut Self, &[u8])) {
        let (first, first_rest) = blocks(one.fill(first));
        let (second, second_rest) = blocks(other.fill(second));
        let both = first.len().min(second.len());
        let ((first, first_alone), (second, second_alone)) = (first.split_at(both), second.split_at(both));
        compress([&mut one.state, &mut other.state], [first, second]);
        compress([&mut one.state], [first_alone]);
        compress([&mut other.state], [second_alone]);
        one.keep(first_rest);
        other.keep(second_rest);
    }

    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.size.wrapping_mul(8);
        // A one, zeros, and the size in the last eight bytes of a block.
        let zeros = (2 * BLOCK - 9 - self.held) % BLOCK;
        let mut end = [0; 2 * BLOCK];
        end[0] = 0x80;
        end[1 + zeros..9 + zeros].copy_from_slice(&bits.to_be_bytes());
        self.update(&end[..9 + zeros]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// Fills the block that was begun, and hands back what is left of the bytes.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.size += bytes.len() as u64;
        if self.held == 0 {
            return bytes;
        }
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.held));
        self.keep(now);
        if self.held == BLOCK {
            compress([&mut self.state], [blocks(&self.rest).0]);
            self.held = 0;
        }
        later
    }

    /// Keeps what fills no block, behind what is there.
    fn keep(&mut self, rest: &[u8]) {
        self.rest[self.held..self.held + rest.len()].copy_from_slice(rest);
        self.held += rest.len();
    }
}

/// Whole blocks, and the rest.
fn blocks(bytes: &[u8]) -> (&[Block], &[u8]) {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    (blocks.as_flattened().as_chunks::<8>().0.as_chunks().0, rest)
}

/// Hashes as many blocks of each lane as the first one has.
fn compress<const LANES: usize>(states: [&mut [u32; 8]; LANES], blocks: [&[Block]; LANES]) {
    // SAFETY: a `Hasher` is there only where the processor has these features.
    unsafe { compress_there(states, blocks) }
}

/// As in Intel's "New instructions supporting the Secure Hash Algorithm", with the lanes side by side. Loops, not closures:
/// those would be calls.
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_there<const LANES: usize>(states: [&mut [u32; 8]; LANES], blocks: [&[Block]; LANES]) {
    let mut abef = [_mm_setzero_si128(); LANES];
    let mut cdgh = abef;
    for lane in 0..LANES {
        let [a, b, c, d, e, f, g, h] = *states[lane];
        abef[lane] = vector([f, e, b, a]);
        cdgh[lane] = vector([h, g, d, c]);
    }
    for block in 0..blocks[0].len() {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut words = [[_mm_setzero_si128(); 4]; LANES];
        for lane in 0..LANES {
            words[lane] = load(&blocks[lane][block]);
        }
        for (turn, constants) in CONSTANTS.iter().enumerate() {
            for place in 0..4 {
                let constants = vector(constants[place]);
                for lane in 0..LANES {
                    if turn > 0 {
                        words[lane][place] = schedule(&words[lane], place);
                    }
                    let sum = _mm_add_epi32(words[lane][place], constants);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                    let sum = _mm_shuffle_epi32(sum, 0x0e);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], sum);
                }
            }
        }
        for lane in 0..LANES {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    for (lane, state) in states.into_iter().enumerate() {
        let ([f, e, b, a], [h, g, d, c]) = (words(abef[lane]), words(cdgh[lane]));
        *state = [a, b, c, d, e, f, g, h];
    }
}

/// The next four words of the message, out of the sixteen before them.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn schedule(words: &[__m128i; 4], place: usize) -> __m128i {
    let (first, second) = (words[place], words[(place + 1) % 4]);
    let (third, fourth) = (words[(place + 2) % 4], words[(place + 3) % 4]);
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(first, second), _mm_alignr_epi8(fourth, third, 4));
    _mm_sha256msg2_epu32(sum, fourth)
}

/// The sixteen words of a block.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(block: &Block) -> [__m128i; 4] {
    let [a, b, c, d, e, f, g, h] = *block;
    [four_words(a, b), four_words(c, d), four_words(e, f), four_words(g, h)]
}

/// Words whose bytes come most significant first.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_words(low: [u8; 8], high: [u8; 8]) -> __m128i {
    let bytes = _mm_set_epi64x(i64::from_le_bytes(high), i64::from_le_bytes(low));
    _mm_shuffle_epi8(bytes, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
}

/// The first word lowest.
#[inline]
#[target_feature(enable = "sse2")]
fn vector([a, b, c, d]: [u32; 4]) -> __m128i {
    _mm_set_epi32(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed())
}

#[target_feature(enable = "sse4.1")]
fn words(vector: __m128i) -> [u32; 4] {
    [
        _mm_extract_epi32(vector, 0).cast_unsigned(),
        _mm_extract_epi32(vector, 1).cast_unsigned(),
        _mm_extract_epi32(vector, 2).cast_unsigned(),
        _mm_extract_epi32(vector, 3).cast_unsigned(),
    ]
}
