//! `pgdibs template export`: leases a clone of a template, dumps it, and writes the file.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use pgdibs::api::pool::Pool;
use pgdibs::{Acquire, Client, segment};
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;

use super::super::args::ExportArgs;
use super::super::context::Context;
use super::super::error::CliError;
use super::super::fingerprint::resolve;
use super::super::leases::default_holder;
use super::super::output::message;
use super::super::progress::Progress;
use super::super::signals::{Signals, exit_code_of};
use super::super::table::plain;
use super::connection::{Connection, PoolRoles, cannot_run, failed, find_programs, server_major};
use super::file::{Header, Writer};
use pgdibs_server::config::ServeFlags;

/// The settings of a pool that a template depends on.
const SETTINGS: [&str; 7] = ["extensions", "roles", "locale", "encoding", "icu_locale", "login", "act_as"];

/// Exports a template; returns the exit code.
///
/// # Errors
/// The daemon refuses, a program of Postgres fails, or the file cannot be written.
pub(crate) async fn export(context: &Context, args: ExportArgs) -> Result<u8, CliError> {
    let mut signals = Signals::catch()?;
    // An interruption drops the work, which ends the programs, releases the lease and removes the unfinished file.
    tokio::select! {
        written = write(context, args) => written.map(|()| 0),
        received = signals.next() => Ok(exit_code_of(received.signal as i32)),
    }
}

async fn write(context: &Context, args: ExportArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let flags = args.pg_bin_dir.into_iter().fold(ServeFlags::default(), |flags, path| flags.with("pg_bin_dir", path));
    let config = context.load_for_client(flags)?;
    let major = server_major(&client).await?;
    let programs = find_programs(major, config.pg_bin_dir.as_deref())?;
    let mut request = Acquire::new(args.pool.as_str()).holder(default_holder("pgdibs template export"));
    if let Some(written) = &args.fingerprint {
        request = request.fingerprint(resolve(&client, &args.pool, written).await?);
    }
    if let Some(via) = args.via.filter(|via| !via.is_empty()) {
        request = request.via(via);
    }
    let progress = Progress::start(format!("waiting for a clone of the template of {}", args.pool));
    let lease = client.acquire(request.wait(Duration::from_secs_f64(args.wait))).await?;
    progress.set(format!("dumping {}", lease.info().database));
    let connection = Connection::new(lease.url(), programs)?;
    let header = header(&client, &args.pool, &lease.info().fingerprint, major, &connection).await?;
    let path = args.file.as_path();
    let cannot_write = |error: io::Error| CliError::failed(format!("cannot write {}: {error}", path.display()));
    let mut file = Writer::create(path, &header).map_err(cannot_write)?;
    let printed = tokio::select! {
        printed = dump(&connection, &mut file, &cannot_write) => printed?,
        refusal = lease.lost() => return Err(pgdibs::Error::Api(refusal).into()),
    };
    let size = file.finish(path).map_err(cannot_write)?;
    // Releases it.
    drop(lease);
    drop(progress);
    for warning in String::from_utf8_lossy(&printed).lines() {
        message(warning);
    }
    for role in &header.contents.other_owners {
        message(&format!(
            "role {} owns objects and is not in `roles` of the pool: an import gives them to the pool's owner",
            plain(role)
        ));
    }
    let mut written = json!(header);
    written["file"] = json!(path);
    written["size_bytes"] = json!(size);
    context.output.result(&written, || header.fingerprint.clone())?;
    context.output.info(&format!(
        "wrote the template of {} to {} ({} kB)",
        args.pool,
        path.display(),
        size.div_ceil(1000)
    ));
    Ok(())
}

/// Writes what pg_dump writes; returns what it prints to standard error.
async fn dump(
    connection: &Connection,
    file: &mut Writer,
    cannot_write: &impl Fn(io::Error) -> CliError,
) -> Result<Vec<u8>, CliError> {
    let mut dump = connection.command("pg_dump");
    dump.args(["--format=custom", "--no-password"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let cannot_run = |error| cannot_run("pg_dump", &error);
    let mut dump = dump.spawn().map_err(cannot_run)?;
    let pipes = dump.stdout.take().zip(dump.stderr.take());
    let (mut stdout, mut stderr) = pipes.ok_or_else(|| CliError::failed("pg_dump has no output"))?;
    let (mut buffer, mut printed) = (vec![0; 256 * 1024], Vec::new());
    let copied = async {
        loop {
            match stdout.read(&mut buffer).await.map_err(cannot_run)? {
                0 => return Ok(()),
                count => file.push(&buffer[..count]).map_err(cannot_write)?,
            }
        }
    };
    let read = async { stderr.read_to_end(&mut printed).await.map_err(cannot_run) };
    tokio::try_join!(copied, read)?;
    match dump.wait().await.map_err(cannot_run)?.success() {
        true => Ok(printed),
        false => Err(failed("pg_dump", &printed)),
    }
}

async fn header(
    client: &Client,
    pool: &str,
    fingerprint: &str,
    major: u32,
    connection: &Connection,
) -> Result<Header, CliError> {
    let answer = client.get(&format!("/v1/pools/{}", segment(pool)?)).await?;
    let (settings, roles): (Value, PoolRoles) = (answer.value()?, answer.json()?);
    let is_default = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        value => matches!(value.as_str(), Some("" | "plain" | "owner")),
    };
    let of_pool = |name: &str| {
        let value = settings.get(name).filter(|value| !is_default(value))?;
        Some((name.to_owned(), value.clone()))
    };
    Ok(Header {
        pool: answer.json::<Pool>()?.pool,
        fingerprint: fingerprint.to_owned(),
        postgres_major: major,
        pgdibs: env!("CARGO_PKG_VERSION").to_owned(),
        contents: connection.contents(&roles, true).await?,
        owner: roles.owner,
        settings: SETTINGS.into_iter().filter_map(of_pool).collect::<Map<_, _>>(),
    })
}
