//! Segments of a path: names of pools, leases and runs, percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::Error;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');

/// `text` as one segment of a path.
///
/// # Errors
/// [`Error::Address`] for an empty text, `.` and `..`: every URL library resolves these as steps through the path, however they are
/// written.
pub fn segment(text: &str) -> Result<String, Error> {
    match text {
        "" | "." | ".." => Err(Error::Address(format!("`{text}` cannot be part of a URL; use another name"))),
        _ => Ok(utf8_percent_encode(text, RESERVED).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_encodes_what_would_leave_it() {
        assert_eq!(segment("main@a/b?c#d e%é").unwrap(), "main%40a%2Fb%3Fc%23d%20e%25%C3%A9");
        assert_eq!(segment("v1.2-rc_3~x").unwrap(), "v1.2-rc_3~x");
        assert!(segment("..").is_err());
        assert!(segment("").is_err());
    }
}
