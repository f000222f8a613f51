//! The tags of a data item: names and values, written as Avro writes an array of pairs of strings.

/// Tags of one item; of ANS-104.
const TAGS: usize = 128;

/// Bytes of a name, of a value, and of all tags as they are written; of ANS-104, the last one of those who read them.
const NAME: usize = 1024;
const VALUE: usize = 3072;
const ALL: usize = 4096;

/// Tags as an item has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    pub(super) count: u64,
    pub(super) bytes: Vec<u8>,
}

/// Why tags cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// There are too many.
    #[error("a data item has {TAGS} tags at most, not {0}")]
    Count(usize),
    /// A name is empty or too long, or a value is.
    #[error("tag {0} has an empty or overlong name or value; {NAME} and {VALUE} bytes are the most")]
    Length(usize),
    /// All together are too long.
    #[error("the tags of a data item have {ALL} bytes at most, not {0}")]
    Total(usize),
}

impl Tags {
    /// Of names and values, in their order.
    ///
    /// # Errors
    /// When there are too many, or one is empty or too long.
    pub fn new(tags: &[(&str, &str)]) -> Result<Self, TagError> {
        if tags.len() > TAGS {
            return Err(TagError::Count(tags.len()));
        }
        let mut bytes = Vec::new();
        if !tags.is_empty() {
            long(&mut bytes, tags.len());
            for (at, (name, value)) in tags.iter().enumerate() {
                if !(1..=NAME).contains(&name.len()) || !(1..=VALUE).contains(&value.len()) {
                    return Err(TagError::Length(at));
                }
                for text in [name, value] {
                    long(&mut bytes, text.len());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
            long(&mut bytes, 0);
        }
        if bytes.len() > ALL {
            return Err(TagError::Total(bytes.len()));
        }
        Ok(Self { count: tags.len() as u64, bytes })
    }
}

/// A number of Avro's that is not negative: twice it, seven bits at a time, the lowest first.
fn long(out: &mut Vec<u8>, number: usize) {
    let doubled = (number as u64) << 1;
    out.extend_from_slice(unsigned_varint::encode::u64(doubled, &mut unsigned_varint::encode::u64_buffer()));
}
