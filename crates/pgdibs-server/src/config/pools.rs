//! `[pools.NAME]`: pools that exist as soon as the daemon runs.

use std::path::Path;

use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_core::pool::{ActAs, Extension, LoginRights, PoolPatch, PoolSettings, StrategyChoice};

use super::source_table::SourceTable;
use super::table::table;
use super::types::{BoundedInteger, Locale, SettingType, extensions, parsed, parsed_list};
use pgdibs_sources::Source;

table! {
    /// What is absent keeps the value that the pool has; a new pool gets the default.
    PoolTable {
        /// databases that stand ready without any demand
        warm: Option<BoundedInteger<0, 1000>> = "4";
        /// the most slots, ready and leased together
        max: Option<BoundedInteger<1, 1000>> = "32";
        /// clones that wait behind the slots, so that a return or a reset is a rename
        spares: Option<BoundedInteger<0, 1000>> = "2";
        /// the current template and the newest others stay, so many in all, at least one; one in use stays too
        keep_templates: Option<BoundedInteger<0, 1000>> = "3";
        /// the daemon drops a template of this age, except the current one and one used in the last ten minutes
        template_max_age_days: Option<BoundedInteger<1, 3650>> = "14";
        /// a pool without lease, waiter, announced run and `PUT` for this long keeps its templates alone, without ready databases and
        /// spares; the next announced run or lease makes it warm again
        idle_pool_seconds: Option<BoundedInteger<1, 315_360_000>> = "86400";
        /// most connections of one lease's login at once; 0 for no limit
        connection_limit: Option<BoundedInteger<0, 10_000>> = "0";
        /// the role that owns the objects of a template, and as which tests act. By default each pool has its own, which is dropped
        /// with the pool. A role that exists already is used if it is named here and is an ordinary one
        #[serde(default, deserialize_with = "parsed")]
        owner: Option<RoleName> = "pgdibs_NAME";
        /// how clones are copied: `wal_log`, `file_copy`, or `auto`, which measures both
        #[serde(default, deserialize_with = "parsed")]
        strategy: Option<StrategyChoice> = "auto";
        /// what a lease's login may do beyond its own database. `createdb`: create databases, for suites that do so themselves;
        /// `superuser`: everything on the server, also for its builds. The daemon drops what the login created when its lease has ended, not
        /// at a reset. [Roles and rights](roles.md) has the details
        #[serde(default, deserialize_with = "parsed")]
        login: Option<LoginRights> = "plain";
        /// the role that tests act as: `owner`, or `login`, the login of the lease itself, which inherits the owner's rights.
        /// [What changes](roles.md#act_as--login)
        #[serde(default, deserialize_with = "parsed")]
        act_as: Option<ActAs> = "owner";
        /// extensions that the daemon creates in a template before it is built, in schema `public` or in another one:
        /// `["postgis", {name = "pgcrypto", schema = "ext"}]`
        #[serde(default, deserialize_with = "extensions")]
        extensions: Option<Vec<Extension>> = "(none)";
        /// the locale of the template, such as `en_US.UTF-8`; empty for that of the server, which is `C.UTF-8` on the embedded one.
        /// [What that does to ORDER BY](roles.md#locale-and-encoding)
        #[serde(default, deserialize_with = "parsed")]
        locale: Option<Locale> = "(the server's)";
        /// the encoding of the template, such as `UTF8`; empty for that of the server
        #[serde(default, deserialize_with = "parsed")]
        encoding: Option<Locale> = "(the server's)";
        /// an ICU locale for the sort order of the template, such as `de-AT`, from Postgres 15 on; empty for none
        #[serde(default, deserialize_with = "parsed")]
        icu_locale: Option<Locale> = "(none)";
        /// roles that the daemon creates before a template is built; the owner becomes a member of each
        #[serde(default, deserialize_with = "parsed_list")]
        roles: Option<Vec<RoleName>> = "(none)";
        /// the table below; without it your tests build the template over HTTP
        source: Option<SourceTable> = "(none)";
    }
}

/// One pool of the file.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    pub name: PoolName,
    pub settings: PoolPatch,
    /// Absent: clients build the template.
    pub source: Option<Source>,
}

impl SettingType for Vec<PoolConfig> {}

impl PoolTable {
    /// Relative paths start at `base`. The error has the key below the table, with dots, and the problem.
    pub(super) fn into_config(self, name: PoolName, base: &Path) -> Result<PoolConfig, (String, String)> {
        let settings = PoolPatch {
            warm: self.warm.map(|number| number.0),
            max: self.max.map(|number| number.0),
            spares: self.spares.map(|number| number.0),
            owner: self.owner,
            strategy: self.strategy,
            extensions: self.extensions,
            roles: self.roles,
            keep_templates: self.keep_templates.map(|number| number.0),
            template_max_age_seconds: self.template_max_age_days.map(|days| u64::from(days.0) * 86_400),
            idle_pool_seconds: self.idle_pool_seconds.map(|seconds| seconds.0.into()),
            login: self.login,
            act_as: self.act_as,
            locale: self.locale.map(|locale| locale.0),
            encoding: self.encoding.map(|encoding| encoding.0),
            icu_locale: self.icu_locale.map(|locale| locale.0),
            connection_limit: self.connection_limit.map(|number| number.0),
            sourced: Some(self.source.is_some()),
        };
        // The file alone has to make sense on an empty server, so an absent number counts as its default.
        let defaults = PoolSettings::of(&name);
        let (warm, max) = (settings.warm.unwrap_or(defaults.warm), settings.max.unwrap_or(defaults.max));
        if warm > max {
            let key = if settings.warm.is_some() { "warm" } else { "max" };
            let problem = format!(
                "warm is {warm} and max is {max}; lower warm or raise max (the defaults are {} and {})",
                defaults.warm, defaults.max
            );
            return Err((key.to_owned(), problem));
        }
        let source = self.source.map(|source| source.into_source(base)).transpose();
        let source = source.map_err(|(key, problem)| (format!("source.{key}"), problem))?;
        Ok(PoolConfig { name, settings, source })
    }
}
