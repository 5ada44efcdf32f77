//! `pgdibs template import`: builds a template from the file of another daemon's, unless it exists.

use std::path::Path;
use std::time::Duration;

use pgdibs::api::pool::LoginRights;
use pgdibs::api::template::{Build, Template, TemplateState};
use pgdibs::{Client, Error as ClientError, Method, segment};
use pgdibs_server::config::ServeFlags;
use pgdibs_server::offline::{BuildTarget, DumpRoles, TemplateDump, restore};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::args::ImportArgs;
use super::super::client_build::{SEAL_TIMEOUT, abandon, announce, renew_until_refused, still_building, template_path};
use super::super::context::Context;
use super::super::error::CliError;
use super::super::leases::{default_holder, without_nulls};
use super::super::output::message;
use super::super::progress::Progress;
use super::super::signals::{Signals, exit_code_of};
use super::super::table::plain;
use super::connection::{Connection, PoolRoles, find_programs, server_major};
use super::file::{Contents, Header, read};

/// A restore that takes longer is stuck.
const RESTORE_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// Imports a template; returns the exit code.
///
/// # Errors
/// The file is damaged or does not fit the server, or the daemon refuses.
pub(crate) async fn import(context: &Context, args: ImportArgs) -> Result<u8, CliError> {
    let mut signals = Signals::catch()?;
    let progress = Progress::start(format!("reading {}", args.file.display()));
    let path = args.file.clone();
    let (header, dump) = tokio::task::spawn_blocking(move || read(&path))
        .await
        .map_err(|error| CliError::failed(format!("cannot read {}: {error}", args.file.display())))??;
    let pool = args.pool.as_deref().unwrap_or(&header.pool);
    let client = context.client()?;
    let path = template_path(pool, &header.fingerprint)?;
    if let Some(template) = existing(&client, &path).await? {
        return there(context, &header, &template);
    }
    let flags = args.pg_bin_dir.into_iter().fold(ServeFlags::default(), |flags, path| flags.with("pg_bin_dir", path));
    let config = context.load_for_client(flags)?;
    let major = server_major(&client).await?;
    if major != header.postgres_major {
        return Err(CliError::failed(format!(
            "{} is a template of Postgres {}, and the daemon's server is Postgres {major}; an import needs the same major version",
            args.file.display(),
            header.postgres_major
        ))
        .hint("export it from a server of that version, or build it"));
    }
    let programs = find_programs(major, config.pg_bin_dir.as_deref())?;
    progress.set(format!("waiting for the template of {pool}"));
    let holder = default_holder("pgdibs template import");
    let body = without_nulls(json!({"holder": holder, "via": args.via.as_ref().filter(|via| !via.is_empty())}));
    let wait = Duration::from_secs_f64(args.wait);
    let settings = Value::Object(header.settings.clone());
    let answer = tokio::select! {
        answer = announce(context, (&client, &progress), (pool, &path), &settings, &body, wait) => answer?,
        received = signals.next() => return Ok(exit_code_of(received.signal as i32)),
    };
    match answer.status {
        201 => {}
        202 => return Err(still_building(pool, &answer.value()?)),
        _ => return there(context, &header, &answer.value()?),
    }
    let build: Build = serde_json::from_value(answer.value()?.get("build").cloned().unwrap_or_default())?;
    progress.set(format!("restoring the template of {pool}"));
    let connection = Connection::new(&build.url, programs.clone())?;
    let filled = tokio::select! {
        filled = fill(&client, pool, &header, dump.path(), &build, &connection, &programs) => filled,
        error = renew_until_refused(&client, &path, &build.token) => Err(error.into()),
        received = signals.next() => {
            abandon(&client, &path, &build.token, "the import was interrupted").await;
            return Ok(exit_code_of(received.signal as i32));
        }
    };
    let lost = match filled {
        Ok(lost) => lost,
        Err(error) => {
            abandon(&client, &path, &build.token, &error.to_string()).await;
            return Err(error);
        }
    };
    progress.set("sealing the template");
    let body = json!({"token": build.token});
    let sealed = client.call(Method::POST, &format!("{path}/seal"), Some(&body), SEAL_TIMEOUT).await?;
    drop(progress);
    for grant in lost {
        let grant = grant.trim_end_matches(';').replace(":\"DBNAME\"", &build.database);
        message(&format!(
            "not in the imported template: {}, which only a pool with `login = \"superuser\"` can have",
            plain(&grant)
        ));
    }
    context.output.result(&sealed.value()?, || header.fingerprint.clone())?;
    Ok(0)
}

/// The template, if it is ready.
async fn existing(client: &Client, path: &str) -> Result<Option<Value>, CliError> {
    match client.get(path).await {
        Ok(answer) => {
            let template: Template = answer.json()?;
            Ok((template.state == TemplateState::Ready).then(|| answer.value()).transpose()?)
        }
        Err(ClientError::Api(error)) if error.status == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn there(context: &Context, header: &Header, template: &Value) -> Result<u8, CliError> {
    context.output.result(template, || header.fingerprint.clone())?;
    context.output.info("the template exists already");
    Ok(0)
}

/// Checks that the build fits the file, and restores the dump; returns the grants that the template lacks.
async fn fill(
    client: &Client,
    pool: &str,
    header: &Header,
    archive: &Path,
    build: &Build,
    connection: &Connection,
    programs: &Path,
) -> Result<Vec<String>, CliError> {
    let roles: PoolRoles = client.get(&format!("/v1/pools/{}", segment(pool)?)).await?.json()?;
    let present = connection.contents(&roles, false).await?;
    if let Some(refusal) = mismatch(&header.contents, &present) {
        return Err(CliError::failed(format!("the template does not fit the databases of pool {pool}: {refusal}")));
    }
    let mut after = header.contents.after.clone();
    let grants = header.contents.grants.clone();
    let lost = match roles.login {
        LoginRights::Superuser => {
            after.extend(grants);
            Vec::new()
        }
        _ => grants,
    };
    let dump = TemplateDump {
        archive: archive.to_owned(),
        roles: DumpRoles {
            kept: header.roles(),
            owner: Some((header.owner.clone(), roles.owner)),
            schemas: header.contents.schemas.clone(),
        },
        after: after.join("\n"),
    };
    let target = BuildTarget {
        url: build.url.clone().into(),
        host: build.host.clone(),
        port: build.port,
        user: build.user.clone(),
        password: build.password.clone().into(),
        database: build.database.clone(),
        psql: programs.join("psql"),
        copied: None,
    };
    restore(&dump, &target, RESTORE_LIMIT, CancellationToken::new())
        .await
        .map_err(|failure| CliError::failed(format!("cannot restore {}: {}", failure.step, failure.detail)))?;
    Ok(lost)
}

/// Why a template does not fit a build.
fn mismatch(template: &Contents, build: &Contents) -> Option<String> {
    if template.database != build.database {
        let shown = |contents: &Contents| {
            let known =
                contents.database.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_str()?)));
            known.collect::<Vec<_>>().join(", ")
        };
        return Some(format!(
            "it has {}, they have {}; the pool's settings `locale`, `encoding` and `icu_locale` change that",
            shown(template),
            shown(build)
        ));
    }
    template.extensions.iter().find_map(|(name, version)| match build.available.get(name) {
        Some(there) if there == version => None,
        Some(there) => Some(format!("extension \"{name}\" is of version {version} in it, and {there} on this server")),
        None => Some(format!("it has extension \"{name}\" {version}, which is not installed on this server")),
    })
}
