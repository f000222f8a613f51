//! Blocks that come out of any bytes are what their ids say, however the bytes are cut into chunks.

#![no_main]

use af_content::car::CarDecoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let mut decoder = CarDecoder::default();
    for chunk in bytes.chunks(usize::from(size).max(1)) {
        decoder.push(chunk);
        loop {
            match decoder.next_block() {
                Ok(Some(block)) => assert!(af_content::verify(&block.id, &block.bytes).is_ok()),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    let _complete = decoder.finish();
});
