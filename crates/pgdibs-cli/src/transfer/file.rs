//! The file of a template: a line with the format and the SHA-256 of everything after it, a line of JSON, and a dump in pg_dump's custom
//! format. `sed -n 2p FILE` shows the JSON, `tail -n +3 FILE | pg_restore --list` the contents of the dump.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::super::error::{CliError, DAMAGED};

const MAGIC: &str = "pgdibs-template ";
/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// More than any first line needs.
const MAX_FIRST_LINE: u64 = 200;

/// What a database has beside its dump. Of an older format, what is missing is empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Contents {
    /// Encoding and locale.
    pub(super) database: Map<String, Value>,
    /// The versions of its extensions.
    pub(super) extensions: BTreeMap<String, String>,
    /// The versions of the extensions that the server has. Only of the database that is filled.
    #[serde(skip_serializing)]
    pub(super) available: BTreeMap<String, String>,
    /// Schemas in which other roles own objects, and the statements with which they may.
    pub(super) schemas: Vec<(String, String)>,
    /// Statements that follow the dump.
    pub(super) after: Vec<String>,
    /// Grants on the database, which only a superuser can make.
    pub(super) grants: Vec<String>,
    /// Roles that own objects and are not those of the pool.
    #[serde(skip_serializing)]
    pub(super) other_owners: Vec<String>,
}

/// The second line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) pool: String,
    pub(super) fingerprint: String,
    pub(super) postgres_major: u32,
    /// The version of pgdibs that wrote the file.
    pub(super) pgdibs: String,
    /// The role that owns the objects.
    pub(super) owner: String,
    /// The settings of the pool that a template depends on.
    pub(super) settings: Map<String, Value>,
    #[serde(flatten)]
    pub(super) contents: Contents,
}

impl Header {
    /// The pool's other roles.
    pub(super) fn roles(&self) -> Vec<String> {
        let roles = self.settings.get("roles").and_then(Value::as_array).into_iter().flatten();
        roles.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// A file that is being written, under another name until it is complete.
#[derive(Debug)]
pub(super) struct Writer {
    file: NamedTempFile,
    hash: Sha256,
}

impl Writer {
    /// Begins the file of `path`, which stays as it is until [`finish`](Self::finish).
    pub(super) fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As other programs create files, so that a job of another user can read a cache.
        let permissions = Permissions::from_mode(0o666);
        let mut file =
            tempfile::Builder::new().prefix(".pgdibs-export-").permissions(permissions).tempfile_in(directory)?;
        file.write_all(first_line(&[0; 32]).as_bytes())?;
        let mut writer = Self { file, hash: Sha256::new() };
        writer.push(format!("{}\n", serde_json::to_string(header)?).as_bytes())?;
        Ok(writer)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    /// Gives the file its name; returns its size.
    pub(super) fn finish(mut self, path: &Path) -> io::Result<u64> {
        self.file.rewind()?;
        self.file.write_all(first_line(&self.hash.finalize()).as_bytes())?;
        let size = self.file.as_file().metadata()?.len();
        self.file.persist(path)?;
        Ok(size)
    }
}

fn first_line(hash: &[u8]) -> String {
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{MAGIC}{FORMAT} {hash}\n")
}

/// Reads a file; its dump goes to a file that is deleted when dropped.
///
/// # Errors
/// The file cannot be read, is damaged, or is of a newer format.
pub(super) fn read(path: &Path) -> Result<(Header, NamedTempFile), CliError> {
    let shown = path.display();
    let unreadable = |error: io::Error| CliError::failed(format!("cannot read {shown}: {error}"));
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut first = Vec::new();
    file.by_ref().take(MAX_FIRST_LINE).read_until(b'\n', &mut first).map_err(unreadable)?;
    let first = String::from_utf8_lossy(&first).into_owned();
    let rest = first.strip_prefix(MAGIC).and_then(|rest| rest.trim_end().split_once(' '));
    let Some((format, hash)) = rest.and_then(|(format, hash)| Some((format.parse::<u32>().ok()?, hash))) else {
        return Err(CliError::failed(format!("{shown} is no template of pgdibs: its first line is another one"))
            .exit_code(DAMAGED)
            .hint("`pgdibs template export` writes such files"));
    };
    if format > FORMAT {
        return Err(CliError::failed(format!(
            "{shown} has format {format}, and this version of pgdibs reads formats up to {FORMAT}"
        ))
        .hint("use the version of pgdibs that wrote it"));
    }
    let damaged = |what: &str| {
        CliError::failed(format!("{shown} is damaged: {what}")).exit_code(DAMAGED).hint("export the template again")
    };
    let (mut hashed, mut header) = (Sha256::new(), Vec::new());
    file.read_until(b'\n', &mut header).map_err(unreadable)?;
    hashed.update(&header);
    let mut dump = tempfile::Builder::new()
        .prefix("pgdibs-import-")
        .tempfile()
        .map_err(|error| CliError::failed(format!("cannot create a temporary file: {error}")))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        hashed.update(&buffer[..count]);
        dump.write_all(&buffer[..count])
            .map_err(|error| CliError::failed(format!("cannot write a temporary file: {error}")))?;
    }
    if first_line(&hashed.finalize()).trim_end().rsplit(' ').next() != Some(hash) {
        return Err(damaged("its content does not have the SHA-256 that its first line names"));
    }
    let header = serde_json::from_slice(&header).map_err(|error| damaged(&format!("its second line: {error}")))?;
    Ok((header, dump))
}
