//! Pools: the settings that define how many databases are ready under which base name.

use std::ops::RangeInclusive;

use crate::id::TemplateId;
use crate::name::{InvalidName, PoolName, RoleName};
use crate::text_enum::text_enum;

/// The configured way to copy the clones of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StrategyChoice {
    /// Measured per template: the first clones use both strategies, later ones the faster.
    Auto,
    /// Always this strategy.
    Fixed(Strategy),
}

/// The two ways in which Postgres 15 and later copy a template database; Postgres 14 has only the file copy and no `STRATEGY` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// `STRATEGY = FILE_COPY`: two checkpoints and a copy of the files.
    FileCopy,
    /// `STRATEGY = WAL_LOG`: block by block through shared buffers and WAL.
    WalLog,
}

text_enum!(Strategy { FileCopy = "file_copy", WalLog = "wal_log" });

impl StrategyChoice {
    /// The spelling in the configuration, in the catalog and over HTTP.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fixed(strategy) => strategy.as_str(),
        }
    }

    /// The value with this spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "auto" { Some(Self::Auto) } else { Strategy::parse(text).map(Self::Fixed) }
    }
}

/// The rights of a lease's login beyond its own database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum LoginRights {
    /// None.
    #[default]
    Plain,
    /// CREATEDB, for suites that create databases themselves.
    CreateDb,
    /// SUPERUSER: every right on the server.
    Superuser,
}

text_enum!(LoginRights { Plain = "plain", CreateDb = "createdb", Superuser = "superuser" });

/// The role that the sessions of a lease act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ActAs {
    /// The pool's owner role, by `set role` at login.
    #[default]
    Owner,
    /// The login itself, which inherits the rights of the owner role.
    Login,
}

text_enum!(ActAs { Owner = "owner", Login = "login" });

/// The settings of a login that Postgres stores with the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoginSettings {
    /// Its rights beyond its own database.
    pub rights: LoginRights,
    /// The role that its sessions act as.
    pub act_as: ActAs,
}

impl LoginSettings {
    /// Whether its sessions begin with `set role`. Those of a login with further rights do not: Postgres checks the rights of the role that
    /// acts.
    #[must_use]
    pub fn sets_role(self) -> bool {
        self.rights == LoginRights::Plain && self.act_as == ActAs::Owner
    }
}

/// An extension that a template gets before its build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its schema, which is created if there is none; `None` for `public`, or the schema that the extension itself demands.
    pub schema: Option<String>,
}

impl Extension {
    /// Without a schema of its own.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), schema: None }
    }
}

impl std::fmt::Display for Extension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{} in {schema}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The locale and the encoding of templates. An empty text stands for that of the server's `template0`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locale {
    /// `LC_COLLATE` and `LC_CTYPE`.
    pub locale: String,
    /// The encoding of the database.
    pub encoding: String,
    /// An ICU locale for the sort order, from Postgres 15 on.
    pub icu_locale: String,
}

/// The settings of a pool. `PUT /v1/pools/{pool}` and the configuration file write them; the planner reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Ready databases without further demand.
    pub warm: u32,
    /// The maximum of slots (ready and leased together).
    pub max: u32,
    /// Clones outside the slots, so that a return takes only a rename.
    pub spares: u32,
    /// The role that owns the objects inside a template.
    pub owner: RoleName,
    /// How clones are copied.
    pub strategy: StrategyChoice,
    /// Extensions that the daemon's own role creates before the builder gets its URL.
    pub extensions: Vec<Extension>,
    /// Roles that the daemon's own role creates before the builder gets its URL; the owner becomes a member of each.
    pub roles: Vec<RoleName>,
    /// Unused templates to keep, newest first.
    pub keep_templates: u32,
    /// The planner retires a template unused for this many seconds unless it is the current one.
    pub template_max_age_seconds: u64,
    /// A pool that nothing has used for this many seconds keeps its templates alone, without ready databases and spares.
    pub idle_pool_seconds: u64,
    /// The rights of the logins beyond their own database.
    pub login: LoginRights,
    /// The role that the sessions of leases act as.
    pub act_as: ActAs,
    /// The maximum of concurrent connections of one login; 0 for no limit.
    pub connection_limit: u32,
    /// The locale and the encoding of templates that are built from now on.
    pub locale: Locale,
}

impl PoolSettings {
    /// The defaults.
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
            idle_pool_seconds: 24 * 3600,
            login: LoginRights::Plain,
            act_as: ActAs::Owner,
            connection_limit: 0,
            locale: Locale::default(),
        }
    }

    /// The settings that differ in `after`, as `name = value`.
    #[must_use]
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut add = |name: &str, differs: bool, value: String| {
            if differs {
                changes.push(format!("{name} = {value}"));
            }
        };
        let Self {
            warm,
            max,
            spares,
            owner,
            strategy,
            extensions,
            roles,
            keep_templates,
            template_max_age_seconds,
            ..
        } = after;
        let Self { idle_pool_seconds, login, act_as, connection_limit, locale, .. } = after;
        let list = |texts: Vec<String>| format!("[{}]", texts.join(", "));
        add("warm", self.warm != *warm, warm.to_string());
        add("max", self.max != *max, max.to_string());
        add("spares", self.spares != *spares, spares.to_string());
        add("owner", self.owner != *owner, owner.to_string());
        add("strategy", self.strategy != *strategy, strategy.as_str().to_owned());
        let listed = extensions.iter().map(ToString::to_string).collect();
        add("extensions", self.extensions != *extensions, list(listed));
        add("roles", self.roles != *roles, list(roles.iter().map(ToString::to_string).collect()));
        add("keep_templates", self.keep_templates != *keep_templates, keep_templates.to_string());
        let age = template_max_age_seconds;
        add("template_max_age_seconds", self.template_max_age_seconds != *age, age.to_string());
        add("idle_pool_seconds", self.idle_pool_seconds != *idle_pool_seconds, idle_pool_seconds.to_string());
        add("login", self.login != *login, login.as_str().to_owned());
        add("act_as", self.act_as != *act_as, act_as.as_str().to_owned());
        add("connection_limit", self.connection_limit != *connection_limit, connection_limit.to_string());
        add("locale", self.locale.locale != locale.locale, locale.locale.clone());
        add("encoding", self.locale.encoding != locale.encoding, locale.encoding.clone());
        add("icu_locale", self.locale.icu_locale != locale.icu_locale, locale.icu_locale.clone());
        changes
    }
}

/// A change of settings: an absent field keeps its value.
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
    pub extensions: Option<Vec<Extension>>,
    /// See [`PoolSettings::roles`].
    pub roles: Option<Vec<RoleName>>,
    /// See [`PoolSettings::keep_templates`].
    pub keep_templates: Option<u32>,
    /// See [`PoolSettings::template_max_age_seconds`].
    pub template_max_age_seconds: Option<u64>,
    /// See [`PoolSettings::idle_pool_seconds`].
    pub idle_pool_seconds: Option<u64>,
    /// See [`PoolSettings::login`].
    pub login: Option<LoginRights>,
    /// See [`PoolSettings::act_as`].
    pub act_as: Option<ActAs>,
    /// See [`PoolSettings::connection_limit`].
    pub connection_limit: Option<u32>,
    /// See [`Locale::locale`].
    pub locale: Option<String>,
    /// See [`Locale::encoding`].
    pub encoding: Option<String>,
    /// See [`Locale::icu_locale`].
    pub icu_locale: Option<String>,
    /// Whether the daemon builds the templates of this pool. Set from configuration only.
    pub sourced: Option<bool>,
}

impl PoolPatch {
    /// The settings after this patch on top of `base`.
    ///
    /// # Errors
    /// When a number is out of range or `warm` would exceed `max`; the error names the field and the rule.
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
            idle_pool_seconds: self.idle_pool_seconds.unwrap_or(base.idle_pool_seconds),
            login: self.login.unwrap_or(base.login),
            act_as: self.act_as.unwrap_or(base.act_as),
            connection_limit: self.connection_limit.unwrap_or(base.connection_limit),
            locale: Locale {
                locale: self.locale.clone().unwrap_or_else(|| base.locale.locale.clone()),
                encoding: self.encoding.clone().unwrap_or_else(|| base.locale.encoding.clone()),
                icu_locale: self.icu_locale.clone().unwrap_or_else(|| base.locale.icu_locale.clone()),
            },
        };
        let invalid = |field, rule| InvalidName { field, rule };
        let bounded = |field, value: u32, range: RangeInclusive<u32>| {
            let rule = || invalid(field, format!("must be {} to {}, not {value}", range.start(), range.end()));
            range.contains(&value).then_some(()).ok_or_else(rule)
        };
        bounded("max", merged.max, 1..=1000)?;
        bounded("spares", merged.spares, 0..=1000)?;
        bounded("keep_templates", merged.keep_templates, 0..=1000)?;
        bounded("connection_limit", merged.connection_limit, 0..=10_000)?;
        if merged.warm > merged.max {
            let (warm, max) = (merged.warm, merged.max);
            let rule = format!("must be 0 to max, which is {max}, not {warm}; raise max in the same request");
            return Err(invalid("warm", rule));
        }
        let is_name = |name: &str| !name.is_empty() && name.len() <= 63 && !name.contains('\0');
        if merged.extensions.iter().any(|one| !is_name(&one.name) || one.schema.as_deref().is_some_and(|s| !is_name(s)))
        {
            let rule = "each must be the name of an extension, or its name and its schema, 1 to 63 bytes each";
            return Err(invalid("extensions", rule.to_owned()));
        }
        let texts = [
            ("locale", &merged.locale.locale),
            ("encoding", &merged.locale.encoding),
            ("icu_locale", &merged.locale.icu_locale),
        ];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.len() > 100 || text.contains('\0')) {
            return Err(invalid(field, "must have at most 100 bytes, and no NUL".to_owned()));
        }
        Ok(merged)
    }
}

/// A pool as recorded in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name, and the base name of its databases.
    pub name: PoolName,
    /// Its settings.
    pub settings: PoolSettings,
    /// Whether the daemon builds its templates.
    pub sourced: bool,
    /// Whether it is being dropped: its templates and databases retire, and its row is deleted last.
    pub dropping: bool,
    /// Seconds since its last use, by the server's clock: a `PUT` of it, of one of its templates by a client, or of a run that announced it,
    /// or the begin or end of a lease.
    pub unused_seconds: u64,
    /// The template that a `PUT` named or a seal published last; it may be gone. See [`crate::snapshot::Snapshot::current_template`].
    pub current_template: Option<TemplateId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_what_differs() {
        let before = PoolSettings::of(&PoolName::parse("app").expect("a valid name"));
        assert!(before.changes(&before).is_empty());
        let patch = PoolPatch {
            warm: Some(8),
            login: Some(LoginRights::CreateDb),
            extensions: Some(vec![Extension::named("citext"), Extension::named("hstore")]),
            ..PoolPatch::default()
        };
        let after = patch.apply(&before).expect("valid settings");
        assert_eq!(before.changes(&after), ["warm = 8", "extensions = [citext, hstore]", "login = createdb"]);
    }

    #[test]
    fn patch_accepts_each_limit_and_rejects_the_next_value() {
        let base = PoolSettings::of(&PoolName::parse("app").expect("a valid name"));
        let number = |set: fn(&mut PoolPatch, Option<u32>), value| {
            let mut patch = PoolPatch::default();
            set(&mut patch, Some(value));
            patch
        };
        let max: fn(&mut PoolPatch, Option<u32>) = |patch, value| (patch.max, patch.warm) = (value, Some(0));
        let warm: fn(&mut PoolPatch, Option<u32>) = |patch, value| patch.warm = value;
        let spares: fn(&mut PoolPatch, Option<u32>) = |patch, value| patch.spares = value;
        let keep_templates: fn(&mut PoolPatch, Option<u32>) = |patch, value| patch.keep_templates = value;
        let connection_limit: fn(&mut PoolPatch, Option<u32>) = |patch, value| patch.connection_limit = value;
        for (field, set, least, most) in [
            ("max", max, 1, 1000),
            ("warm", warm, 0, base.max),
            ("spares", spares, 0, 1000),
            ("keep_templates", keep_templates, 0, 1000),
            ("connection_limit", connection_limit, 0, 10_000),
        ] {
            for accepted in [least, most] {
                assert!(number(set, accepted).apply(&base).is_ok(), "{field} = {accepted}");
            }
            for rejected in [least.checked_sub(1), Some(most + 1)].into_iter().flatten() {
                let error = number(set, rejected).apply(&base).expect_err(field);
                assert!(error.field == field && error.rule.contains(&format!("not {rejected}")), "{error}");
            }
        }
    }

    #[test]
    fn patch_rejects_extension_names_that_postgres_cannot_have() {
        let base = PoolSettings::of(&PoolName::parse("app").expect("a valid name"));
        let apply = |name: &str| {
            let in_schema = Extension { schema: Some(name.to_owned()), ..Extension::named("citext") };
            let patch = |one| PoolPatch { extensions: Some(vec![one]), ..PoolPatch::default() }.apply(&base);
            patch(in_schema).and_then(|_| patch(Extension::named(name)))
        };
        assert!(apply(&"e".repeat(63)).is_ok());
        for rejected in ["", "a\0", &"e".repeat(64)] {
            assert_eq!(apply(rejected).expect_err(rejected).field, "extensions");
        }
    }
}
