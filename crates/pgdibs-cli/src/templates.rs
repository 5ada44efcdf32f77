//! `pgdibs template build|list|show|log|drop`.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pgdibs::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::args::{TemplateArgs, TemplateBuildArgs, TemplateCommand, TemplateListArgs, TemplateOrNewestArgs};
use super::client_build::{SEAL_TIMEOUT, abandon, announce, renew_until_refused, still_building, template_path};
use super::command::{Outcome, RunningCommand, display};
use super::context::Context;
use super::error::CliError;
use super::fingerprint::{matching, resolve};
use super::inherited::{EXPORTED, Inherited};
use super::leases::{default_holder, without_nulls};
use super::output::message;
use super::progress::Progress;
use super::render::{change_lines, template_screen, templates_table};
use super::signals::Signals;
use super::table::plain;
use super::transfer;
use pgdibs::api::pool::{Pool, Pools};
use pgdibs::api::template::{Build, Template, TemplateLog};
use pgdibs::connection_url::libpq_variables;
use pgdibs::{Client, segment};
use pgdibs_server::offline::{FileGlob, Matches};

/// Runs a subcommand of `pgdibs template`; returns the exit code.
///
/// # Errors
/// The daemon refuses, or the command cannot be started.
pub(super) async fn template(context: &Context, command: TemplateCommand) -> Result<u8, CliError> {
    match command {
        TemplateCommand::Build(args) => return build(context, args).await,
        TemplateCommand::Export(args) => return transfer::export(context, args).await,
        TemplateCommand::Import(args) => return transfer::import(context, args).await,
        TemplateCommand::List(args) => list(context, &args).await?,
        TemplateCommand::Show(args) => show(context, &args).await?,
        TemplateCommand::Log(args) => log(context, &args).await?,
        TemplateCommand::Drop(args) => drop_template(context, &args).await?,
    }
    Ok(0)
}

async fn list(context: &Context, args: &TemplateListArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let mut pools = match &args.pool {
        Some(pool) => vec![client.get(&format!("/v1/pools/{}", segment(pool)?)).await?.json::<Value>()?],
        None => {
            client.get("/v1/pools").await?.value()?.get("pools").and_then(Value::as_array).cloned().unwrap_or_default()
        }
    };
    if let Some(prefix) = &args.fingerprint {
        for pool in &mut pools {
            let templates: Vec<Template> = serde_json::from_value(pool["templates"].take())?;
            pool["templates"] = json!(matching(templates.iter(), prefix.trim_end_matches('…')).collect::<Vec<_>>());
        }
    }
    if context.output.is_json() {
        let of = |pool: &Value| json!({"pool": pool.get("pool"), "templates": pool.get("templates")});
        return context.output.json(&json!({"pools": pools.iter().map(of).collect::<Vec<_>>()}));
    }
    let pools: Pools = serde_json::from_value(json!({"pools": pools}))?;
    let table = templates_table(&pools.pools, Timestamp::now(), context.output.colour);
    context.output.text(&format!("{table}{}", change_lines(&pools.pools)))
}

async fn show(context: &Context, args: &TemplateOrNewestArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let fingerprint = fingerprint_or_newest(&client, args).await?;
    let answer = client.get(&template_path(&args.pool, &fingerprint)?).await?;
    let template: Template = answer.json()?;
    context.output.result(&answer.value()?, || template_screen(&template, Timestamp::now()))
}

async fn log(context: &Context, args: &TemplateOrNewestArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let fingerprint = fingerprint_or_newest(&client, args).await?;
    let answer = client.get(&format!("{}/log", template_path(&args.pool, &fingerprint)?)).await?;
    let log: TemplateLog = answer.json()?;
    context.output.result(&answer.value()?, || log.log.lines().map(plain).collect::<Vec<_>>().join("\n"))
}

/// The fingerprint that is meant: the written one, or that of the last build.
async fn fingerprint_or_newest(client: &Client, args: &TemplateOrNewestArgs) -> Result<String, CliError> {
    if let Some(written) = &args.fingerprint {
        return resolve(client, &args.pool, written).await;
    }
    let pool: Pool = client.get(&format!("/v1/pools/{}", segment(&args.pool)?)).await?.json()?;
    let newest = pool.templates.into_iter().max_by(|one, other| one.since.cmp(&other.since));
    let newest = newest.ok_or_else(|| CliError::failed(format!("pool {} has no template", plain(&args.pool))))?;
    Ok(newest.fingerprint)
}

async fn drop_template(context: &Context, args: &TemplateArgs) -> Result<(), CliError> {
    let client = context.client()?;
    let fingerprint = resolve(&client, &args.pool, &args.fingerprint).await?;
    client.call(Method::DELETE, &template_path(&args.pool, &fingerprint)?, None, Duration::ZERO).await?;
    context.output.done(&format!("dropped the template of {} with fingerprint {fingerprint}", args.pool))
}

/// Builds a template unless it exists: announces the build, runs the command, seals or abandons.
async fn build(context: &Context, args: TemplateBuildArgs) -> Result<u8, CliError> {
    let fingerprint = match &args.fingerprint {
        Some(fingerprint) => fingerprint.clone(),
        None => fingerprint_of(&args.inputs, &args.command)?,
    };
    let client = context.client()?;
    let path = template_path(&args.pool, &fingerprint)?;
    let holder = default_holder(&display(&args.command));
    let progress = Progress::start(format!("waiting for the template of {}", args.pool));
    let body = without_nulls(json!({"holder": holder, "via": args.via.as_ref().filter(|via| !via.is_empty())}));
    let wait = Duration::from_secs_f64(args.wait);
    let settings = json!({});
    // Caught before the daemon assigns the build: a later interruption must abandon it.
    let mut signals = Signals::catch()?;
    let answer = tokio::select! {
        answer = announce(context, (&client, &progress), (&args.pool, &path), &settings, &body, wait) => answer?,
        received = signals.next() => return Ok(super::signals::exit_code_of(received.signal as i32)),
    };
    drop(progress);
    match answer.status {
        201 => {}
        202 => return Err(still_building(&args.pool, &answer.value()?)),
        _ => {
            context.output.result(&answer.value()?, || fingerprint.clone())?;
            context.output.info("the template exists already");
            return Ok(0);
        }
    }
    let build: Build = serde_json::from_value(answer.value()?.get("build").cloned().unwrap_or_default())?;
    let outcome = match run_build(&client, &path, &build, &args.command, &mut signals).await {
        Ok(outcome) => outcome,
        Err(error) => {
            abandon(&client, &path, &build.token, &error.to_string()).await;
            return Err(error);
        }
    };
    if outcome.code != 0 {
        let detail = format!("`{}` ended with {}", display(&args.command), outcome.code);
        abandon(&client, &path, &build.token, &detail).await;
        message(&format!("{detail}; the daemon drops its database, and there is no template"));
        return Ok(outcome.code);
    }
    let progress = Progress::start("sealing the template");
    let body = json!({"token": build.token});
    let sealed = client.call(Method::POST, &format!("{path}/seal"), Some(&body), SEAL_TIMEOUT).await?;
    drop(progress);
    context.output.result(&sealed.value()?, || fingerprint.clone())?;
    Ok(0)
}

/// Runs the command and renews the build. When the daemon has given up the build, the command gets SIGTERM.
async fn run_build(
    client: &Client,
    path: &str,
    build: &Build,
    words: &[OsString],
    signals: &mut Signals,
) -> Result<Outcome, CliError> {
    let mut variables = vec![("DATABASE_URL".to_owned(), build.url.clone())];
    variables.extend(libpq_variables(&build.url)?.into_iter().map(|(name, value)| (name.to_owned(), value)));
    variables.push(("PGDIBS_URL".to_owned(), client.url().to_owned()));
    let exported = Inherited::of_this_process().exported(variables.iter().map(|(name, _)| name.as_str()));
    variables.push((EXPORTED.to_owned(), exported));
    let mut command = RunningCommand::start(words, &variables, &[])?;
    let error = tokio::select! {
        outcome = command.wait(signals) => return outcome,
        error = renew_until_refused(client, path, &build.token) => error,
    };
    message(&format!("the daemon has given up the build: {error}"));
    command.signal(nix::sys::signal::Signal::SIGTERM);
    command.wait(signals).await?;
    Err(error.into())
}

/// SHA-256 over the names and contents of the files that the globs match, sorted by name, and over the command.
fn fingerprint_of(globs: &[String], command: &[OsString]) -> Result<String, CliError> {
    let here = Path::new(".");
    let mut matches = Matches::default();
    for pattern in globs {
        let before = matches.files.len();
        FileGlob::parse(pattern)
            .map_err(|error| CliError::usage(format!("--inputs `{pattern}` is not a glob: {}", error.kind())))?
            .find(here, &mut matches)
            .map_err(|error| CliError::failed(error.to_string()))?;
        if matches.files.len() == before {
            return Err(CliError::failed(format!("--inputs `{pattern}` matches no file"))
                .hint("quote it from the shell and write ** for any depth of directories: 'migrations/**/*.sql'"));
        }
    }
    let mut files: Vec<&Path> = matches.files.iter().map(|file| file.strip_prefix(here).unwrap_or(file)).collect();
    files.sort();
    files.dedup();
    let mut hash = Sha256::new();
    // Each part follows its length, so that no two lists of inputs give the same bytes.
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for file in &files {
        let content = std::fs::read(file)
            .map_err(|error| CliError::failed(format!("cannot read the input {}: {error}", file.display())))?;
        add(file.as_os_str().as_encoded_bytes());
        add(&content);
    }
    for word in command {
        add(word.as_encoded_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn fingerprint_depends_on_names_contents_and_command() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let globs = vec![format!("{}/**/*.sql", directory.path().display())];
        let of = |command: &[&str]| fingerprint_of(&globs, &words(command)).unwrap();
        write("1.sql", "create table a()");
        write("2.sql", "");
        write("notes.txt", "x");
        let first = of(&["psql", "-f"]);
        assert_eq!(first.len(), 64);
        write("notes.txt", "y");
        assert_eq!(of(&["psql", "-f"]), first);
        assert_ne!(of(&["psql-f"]), first);
        write("2.sql", "create table b()");
        let second = of(&["psql", "-f"]);
        assert_ne!(second, first);
        std::fs::rename(directory.path().join("2.sql"), directory.path().join("3.sql")).unwrap();
        assert_ne!(of(&["psql", "-f"]), second);
    }

    #[test]
    fn fingerprint_refuses_glob_without_match() {
        let message = fingerprint_of(&["/nonexistent/**/*.sql".to_owned()], &[]).unwrap_err().to_string();
        assert_eq!(message, "--inputs `/nonexistent/**/*.sql` matches no file");
    }
}
