//! What pgdibs reads from an SQL file besides its digest.

use std::io::{self, BufRead};

use sha2::{Digest, Sha256};

use super::psql_text::PsqlText;
use super::tools::{self, Tool};

/// The first bytes of a gzip file and of a dump in the custom format, which have no lines.
const BINARY: [&[u8]; 2] = [b"\x1f\x8b", b"PGDMP"];

/// What an SQL file contains.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// The first mark of a migration tool: its line, its text, and the tool.
    pub(super) mark: Option<(usize, String, &'static Tool)>,
}

impl Script {
    /// Reads a file to its end and adds its bytes to `hash`.
    pub(super) fn read(mut reader: impl BufRead, hash: &mut Sha256) -> io::Result<Self> {
        let mut script = Self::default();
        let start = reader.fill_buf()?;
        if BINARY.iter().any(|magic| start.starts_with(magic)) {
            io::copy(&mut reader, hash)?;
            return Ok(script);
        }
        let (mut text, mut line, mut number) = (PsqlText::default(), Vec::new(), 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            hash.update(&line);
            number += 1;
            if script.mark.is_none()
                && text.is_outside_quotes()
                && let Some(tool) = tools::of_line(&line)
            {
                let shown = String::from_utf8_lossy(&line).trim().trim_start_matches('\u{feff}').to_owned();
                script.mark = Some((number, shown, tool));
            }
            text.line(&line);
            line.clear();
        }
        Ok(script)
    }
}
