//! Pools: the settings that say how many databases stand ready under which base name.

use crate::name::{InvalidName, PoolName, RoleName};

/// How clones of a pool are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StrategyChoice {
    /// Measured on the first clones of each template: both are tried, the faster one stays.
    Auto,
    /// Always this one.
    Fixed(Strategy),
}

/// The two ways in which Postgres 15 and later copy a template database; 14 has only the file copy and no word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// `STRATEGY = FILE_COPY`: two checkpoints, then files.
    FileCopy,
    /// `STRATEGY = WAL_LOG`: block by block through shared buffers and WAL.
    WalLog,
}

impl Strategy {
    /// The name used in the catalog and over HTTP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileCopy => "file_copy",
            Self::WalLog => "wal_log",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "file_copy" => Some(Self::FileCopy),
            "wal_log" => Some(Self::WalLog),
            _ => None,
        }
    }
}

impl StrategyChoice {
    /// The name used in configuration and the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fixed(strategy) => strategy.as_str(),
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "auto" { Some(Self::Auto) } else { Strategy::parse(text).map(Self::Fixed) }
    }
}

/// What the login of a lease may do beyond its own database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoginRights {
    /// Nothing.
    #[default]
    Plain,
    /// It may make databases: for suites that do so themselves.
    CreateDb,
    /// It may do everything on the server.
    Superuser,
}

impl LoginRights {
    /// The name used in configuration, in the catalog and over HTTP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::CreateDb => "createdb",
            Self::Superuser => "superuser",
        }
    }

    /// Reads the name back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Plain, Self::CreateDb, Self::Superuser].into_iter().find(|rights| rights.as_str() == text)
    }
}

/// What a pool is set to. Written by `PUT /v1/pools/{pool}` and by the configuration file; read by the planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Databases that stand ready when nobody asks for more.
    pub warm: u32,
    /// Most slots (ready and leased together) that the pool may have.
    pub max: u32,
    /// Clones that wait behind the slots, so that a return costs a rename only.
    pub spares: u32,
    /// The role that owns the objects inside a template.
    pub owner: RoleName,
    /// How clones are copied.
    pub strategy: StrategyChoice,
    /// Extensions made by the daemon's own role before the builder gets its URL.
    pub extensions: Vec<String>,
    /// Roles made by the daemon's own role before the builder gets its URL; the owner becomes a member of each.
    pub roles: Vec<RoleName>,
    /// Unused templates that are kept, newest first.
    pub keep_templates: u32,
    /// Unused templates older than this many seconds are retired, the newest one excepted.
    pub template_max_age_seconds: u64,
    /// What the logins of leases may do beyond their own database. Set from configuration only.
    pub login: LoginRights,
    /// Most connections of one login at once; 0 for no limit.
    pub connection_limit: u32,
}

impl PoolSettings {
    /// What a pool is set to as long as it is told nothing else.
    #[must_use]
    pub fn of(pool: &PoolName) -> Self {
        Self {
            warm: 4,
            max: 32,
            spares: 2,
            owner: RoleName::of_pool(pool),
            strategy: StrategyChoice::Auto,
            extensions: Vec::new(),
            roles: Vec::new(),
            keep_templates: 3,
            template_max_age_seconds: 14 * 24 * 3600,
            login: LoginRights::Plain,
            connection_limit: 0,
        }
    }
}

/// Settings as somebody sent them: what is left out keeps its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolPatch {
    /// See [`PoolSettings::warm`].
    pub warm: Option<u32>,
    /// See [`PoolSettings::max`].
    pub max: Option<u32>,
    /// See [`PoolSettings::spares`].
    pub spares: Option<u32>,
    /// See [`PoolSettings::owner`].
    pub owner: Option<RoleName>,
    /// See [`PoolSettings::strategy`].
    pub strategy: Option<StrategyChoice>,
    /// See [`PoolSettings::extensions`].
    pub extensions: Option<Vec<String>>,
    /// See [`PoolSettings::roles`].
    pub roles: Option<Vec<RoleName>>,
    /// See [`PoolSettings::keep_templates`].
    pub keep_templates: Option<u32>,
    /// See [`PoolSettings::template_max_age_seconds`].
    pub template_max_age_seconds: Option<u64>,
    /// See [`PoolSettings::login`].
    pub login: Option<LoginRights>,
    /// See [`PoolSettings::connection_limit`].
    pub connection_limit: Option<u32>,
    /// Whether a daemon builds this pool's templates from a source of its own. Set from configuration only.
    pub sourced: Option<bool>,
}

impl PoolPatch {
    /// The settings that result when this patch is laid over `base`.
    ///
    /// # Errors
    /// When a number is out of range or `warm` would exceed `max`; the sentence names the field and the rule.
    pub fn apply(&self, base: &PoolSettings) -> Result<PoolSettings, InvalidName> {
        let merged = PoolSettings {
            warm: self.warm.unwrap_or(base.warm),
            max: self.max.unwrap_or(base.max),
            spares: self.spares.unwrap_or(base.spares),
            owner: self.owner.clone().unwrap_or_else(|| base.owner.clone()),
            strategy: self.strategy.unwrap_or(base.strategy),
            extensions: self.extensions.clone().unwrap_or_else(|| base.extensions.clone()),
            roles: self.roles.clone().unwrap_or_else(|| base.roles.clone()),
            keep_templates: self.keep_templates.unwrap_or(base.keep_templates),
            template_max_age_seconds: self.template_max_age_seconds.unwrap_or(base.template_max_age_seconds),
            login: self.login.unwrap_or(base.login),
            connection_limit: self.connection_limit.unwrap_or(base.connection_limit),
        };
        let rule = |field: &'static str, rule: String| Err(InvalidName { field, rule });
        if !(1..=1000).contains(&merged.max) {
            return rule("max", format!("must be 1 to 1000, not {}", merged.max));
        }
        if merged.spares > 1000 {
            return rule("spares", format!("must be 0 to 1000, not {}", merged.spares));
        }
        if merged.warm > merged.max {
            return rule(
                "warm",
                format!(
                    "must be 0 to max, which is {}, not {}; raise max in the same request",
                    merged.max, merged.warm
                ),
            );
        }
        if merged.extensions.iter().any(|name| name.is_empty() || name.len() > 63 || name.contains('\0')) {
            return rule("extensions", "each must be the name of an extension, 1 to 63 bytes".to_owned());
        }
        if merged.keep_templates > 1000 {
            return rule("keep_templates", format!("must be 0 to 1000, not {}", merged.keep_templates));
        }
        if merged.connection_limit > 10_000 {
            return rule("connection_limit", format!("must be 0 (no limit) to 10000, not {}", merged.connection_limit));
        }
        Ok(merged)
    }
}

/// A pool as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, and the base name of its databases.
    pub name: PoolName,
    /// What it is set to.
    pub settings: PoolSettings,
    /// Whether a daemon builds its templates from a source of its own.
    pub sourced: bool,
    /// Whether it is being dropped: everything in it retires, its row goes last.
    pub dropping: bool,
}
