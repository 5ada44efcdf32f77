//! `[pools.NAME]`: pools that exist as soon as the daemon runs.

use super::error::ConfigError;
use super::file::TableReader;
use super::identifiers::{check_identifier, check_role};
use super::layers::{Found, Origin};
use super::rows::ConfigRow;
use super::source_table;
use pgdibs_core::name::PoolName;
use pgdibs_core::pool::LoginRights;
use pgdibs_sources::{Source, SourceKind};

/// How clones are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrategyConfig {
    /// Measured on this server.
    Auto,
    /// `STRATEGY wal_log`.
    WalLog,
    /// `STRATEGY file_copy`.
    FileCopy,
}

/// A pool's settings; what is absent keeps the value the catalog has, for a new pool the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolSettingsConfig {
    /// Databases kept ready (default 4).
    pub warm: Option<u32>,
    /// The most slots (default 32).
    pub max: Option<u32>,
    /// Clones that wait behind the ready ones (default 2).
    pub spares: Option<u32>,
    /// The role that owns the template's objects (default `pgdibs_<pool>`).
    pub owner: Option<String>,
    /// How clones are made (default: measured).
    pub strategy: Option<StrategyConfig>,
    /// Extensions that the daemon creates before the builder gets its URL.
    pub extensions: Option<Vec<String>>,
    /// Roles that the daemon creates before the builder gets its URL.
    pub roles: Option<Vec<String>>,
    /// How many unused templates are kept (default 3).
    pub keep_templates: Option<u32>,
    /// After how many days an unused template goes (default 14).
    pub template_max_age_days: Option<u32>,
    /// What the logins of leases may do beyond their own database (default plain).
    pub login: Option<LoginRights>,
    /// Most connections of one lease's login at once, 0 for no limit (default 0).
    pub connection_limit: Option<u32>,
}

/// One pool of the file.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// `[a-z_][a-z0-9_]{0,39}`.
    pub name: String,
    /// Its settings.
    pub settings: PoolSettingsConfig,
    /// What the daemon builds its template from; absent: clients build it.
    pub source: Option<Source>,
}

const KEYS: &[&str] = &[
    "warm",
    "max",
    "spares",
    "owner",
    "strategy",
    "extensions",
    "roles",
    "keep_templates",
    "template_max_age_days",
    "login",
    "connection_limit",
    "source",
];

/// For sentences about a key that stands at the top although it belongs to a pool.
pub fn belong_to_a_pool() -> Vec<(&'static str, &'static str)> {
    KEYS.iter().map(|key| (*key, if *key == "source" { "[pools.NAME.source]" } else { "[pools.NAME]" })).collect()
}

/// Reads every pool, and a row for each of its settings.
///
/// # Errors
/// The first thing that breaks its rule.
pub fn read(pools: &TableReader<'_>) -> Result<(Vec<PoolConfig>, Vec<ConfigRow>), ConfigError> {
    let mut read = Vec::new();
    let mut rows = Vec::new();
    for (name, origin) in pools.keys() {
        check_name(name, &origin)?;
        if let Some(table) = pools.table(name)? {
            read.push(pool(name, &table, &mut rows)?);
        }
    }
    Ok((read, rows))
}

fn pool(name: &str, table: &TableReader<'_>, rows: &mut Vec<ConfigRow>) -> Result<PoolConfig, ConfigError> {
    let elsewhere: Vec<(&str, &str)> = source_table::KEYS.iter().map(|key| (*key, "[pools.NAME.source]")).collect();
    table.refuse_unknown(KEYS, &elsewhere)?;
    let mut row = |key: &str, given: Option<(String, Origin)>, default: &str| {
        let (value, origin) =
            given.unwrap_or_else(|| (format!("{default} (an existing pool keeps its own)"), Origin::Default));
        rows.push(ConfigRow { setting: table.name(key), value, origin });
    };
    let mut count = |key: &'static str, low: i64, high: i64, default: &str| -> Result<Option<u32>, ConfigError> {
        let found = table.number(key, low, high)?;
        row(key, found.as_ref().map(|found| (found.value.to_string(), found.origin.clone())), default);
        Ok(found.and_then(|found| u32::try_from(found.value).ok()))
    };
    let warm = count("warm", 0, 1000, "4")?;
    let max = count("max", 1, 1000, "32")?;
    let spares = count("spares", 0, 1000, "2")?;
    let keep_templates = count("keep_templates", 0, 1000, "3")?;
    let template_max_age_days = count("template_max_age_days", 1, 3650, "14")?;
    let connection_limit = count("connection_limit", 0, 10_000, "0")?;
    check_warm_and_max(table, warm, max)?;

    let owner = table.text("owner")?;
    if let Some(found) = &owner {
        check_role(&table.name("owner"), found)?;
    }
    let own = format!("pgdibs_{name}");
    row("owner", owner.as_ref().map(|found| (found.value.clone(), found.origin.clone())), &own);
    let strategy = strategy(table)?;
    row("strategy", strategy.as_ref().map(|(_, word, origin)| (word.clone(), origin.clone())), "auto");
    let login = login(table)?;
    row("login", login.as_ref().map(|(rights, origin)| (rights.as_str().to_owned(), origin.clone())), "plain");
    let extensions = names(table, "extensions", check_identifier)?;
    row("extensions", extensions.as_ref().map(|found| (found.value.join(","), found.origin.clone())), "(none)");
    let roles = names(table, "roles", check_role)?;
    row("roles", roles.as_ref().map(|found| (found.value.join(","), found.origin.clone())), "(none)");

    let source = match table.table("source")? {
        Some(table) => {
            let source = source_table::read(&table)?;
            rows.push(ConfigRow {
                setting: table.path().to_owned(),
                value: shown(&source),
                origin: table.origin().clone(),
            });
            Some(source)
        }
        None => None,
    };
    let settings = PoolSettingsConfig {
        warm,
        max,
        spares,
        owner: owner.map(|found| found.value),
        strategy: strategy.map(|(strategy, _, _)| strategy),
        extensions: extensions.map(|found| found.value),
        roles: roles.map(|found| found.value),
        keep_templates,
        template_max_age_days,
        login: login.map(|(rights, _)| rights),
        connection_limit,
    };
    Ok(PoolConfig { name: name.to_owned(), settings, source })
}

/// The source in one line. Names of variables alone, since their values may be secrets.
fn shown(source: &Source) -> String {
    let mut text = match &source.kind {
        SourceKind::SqlDir(path) | SourceKind::SqlFile(path) => {
            format!("{} {}", source.kind.key(), path.display())
        }
        SourceKind::Command(argv) => format!("command {}", argv.join(" ")),
        SourceKind::Database(name) => format!("database {name}"),
    };
    if !source.inputs.is_empty() {
        let inputs: Vec<String> = source.inputs.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; inputs {}", inputs.join(",")));
    }
    if !source.env.is_empty() {
        text.push_str(&format!("; env {}", source.env.keys().cloned().collect::<Vec<_>>().join(",")));
    }
    text
}

/// The file alone has to make sense on an empty server, so an absent one counts as its default here.
fn check_warm_and_max(table: &TableReader<'_>, warm: Option<u32>, max: Option<u32>) -> Result<(), ConfigError> {
    let at =
        |key: &str| table.keys().find(|(name, _)| *name == key).map_or(table.origin().clone(), |(_, origin)| origin);
    match (warm, max) {
        (Some(warm), max) if warm > max.unwrap_or(32) => {
            let limit = max.map_or("32, the default of max".to_owned(), |max| format!("max = {max}"));
            let problem = format!("{warm} is more than {limit}; lower warm or raise max");
            Err(ConfigError::value(table.name("warm"), &at("warm"), problem))
        }
        (None, Some(max)) if max < 4 => {
            let problem =
                format!("{max} is less than 4, the default of warm; set warm = {max} beside it, or raise max");
            Err(ConfigError::value(table.name("max"), &at("max"), problem))
        }
        _ => Ok(()),
    }
}

fn strategy(table: &TableReader<'_>) -> Result<Option<(StrategyConfig, String, Origin)>, ConfigError> {
    let Some(found) = table.text("strategy")? else {
        return Ok(None);
    };
    let strategy = match found.value.as_str() {
        "auto" => StrategyConfig::Auto,
        "wal_log" => StrategyConfig::WalLog,
        "file_copy" => StrategyConfig::FileCopy,
        other => {
            let problem = format!("`{other}` is not a strategy; auto, wal_log and file_copy are");
            return Err(ConfigError::value(table.name("strategy"), &found.origin, problem));
        }
    };
    Ok(Some((strategy, found.value, found.origin)))
}

fn login(table: &TableReader<'_>) -> Result<Option<(LoginRights, Origin)>, ConfigError> {
    let Some(found) = table.text("login")? else {
        return Ok(None);
    };
    let Some(rights) = LoginRights::parse(&found.value) else {
        let problem = format!("`{}` is not what a login may be; plain, createdb and superuser are", found.value);
        return Err(ConfigError::value(table.name("login"), &found.origin, problem));
    };
    Ok(Some((rights, found.origin)))
}

type NameRule = fn(&str, &Found<String>) -> Result<(), ConfigError>;

fn names(table: &TableReader<'_>, key: &str, rule: NameRule) -> Result<Option<Found<Vec<String>>>, ConfigError> {
    let found = table.list(key)?;
    if let Some(found) = &found {
        for name in &found.value {
            rule(&table.name(key), &Found { value: name.clone(), origin: found.origin.clone() })?;
        }
    }
    Ok(found)
}

/// `api.md`, Names.
fn check_name(name: &str, origin: &Origin) -> Result<(), ConfigError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|c| c.is_ascii_lowercase() || c == b'_');
    let rest = bytes.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if first && rest && name.len() <= 40 {
        if !PoolName::is_reserved(name) {
            return Ok(());
        }
        let problem = format!("`{name}` is reserved: {}", PoolName::why_reserved(name));
        return Err(ConfigError::value(format!("pools.{name}"), origin, problem));
    }
    let problem = format!(
        "`{}` is not a name for a pool; a name is 1 to 40 small letters, digits and underscores and does not begin with a digit, \
         since its databases are called after it",
        name.escape_default()
    );
    Err(ConfigError::value(format!("pools.{}", name.escape_default()), origin, problem))
}
