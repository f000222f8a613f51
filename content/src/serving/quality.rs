//! How much something is liked (RFC 9110 section 12.4.2).

/// A `q` parameter, such as `q=0.5`, in thousandths; `None` is another parameter. What is no number counts as a refusal, since
/// what is sent is then never a surprise.
#[must_use]
pub fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = part.len() <= 3 && part.bytes().all(|digit| digit.is_ascii_digit());
    Some(match (whole, digits) {
        ("1", true) if part.bytes().all(|digit| digit == b'0') => 1000,
        ("0", true) => format!("{part:0<3}").parse().unwrap_or(0),
        _ => 0,
    })
}
