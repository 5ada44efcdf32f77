//! Pools: settings, counts and templates of the databases of one project.

use pgdibs_core::database::DatabaseState;
use pgdibs_core::pool as domain;
use pgdibs_core::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::bounded::{BoundedInteger, BoundedList, BoundedText, ConfiguredOnly, RoleField};
use crate::template::Template;

/// How clones of a pool are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrategyChoice {
    /// Measured on the first clones of each template; the faster strategy stays.
    Auto,
    /// Always file by file.
    FileCopy,
    /// Always through the write-ahead log.
    WalLog,
}

impl From<StrategyChoice> for domain::StrategyChoice {
    fn from(choice: StrategyChoice) -> Self {
        match choice {
            StrategyChoice::Auto => Self::Auto,
            StrategyChoice::FileCopy => Self::Fixed(domain::Strategy::FileCopy),
            StrategyChoice::WalLog => Self::Fixed(domain::Strategy::WalLog),
        }
    }
}

/// What the login of a lease may do beyond its own database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoginRights {
    /// Nothing.
    Plain,
    /// It may make databases.
    CreateDb,
    /// It may do everything on the server.
    Superuser,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl From<domain::LoginRights> for LoginRights {
    fn from(rights: domain::LoginRights) -> Self {
        match rights {
            domain::LoginRights::Plain => Self::Plain,
            domain::LoginRights::CreateDb => Self::CreateDb,
            domain::LoginRights::Superuser => Self::Superuser,
        }
    }
}

type Extensions = BoundedList<BoundedText<1, 63>, 0, 100>;
type Roles = BoundedList<RoleField, 0, 100>;

/// Settings of a pool: what is left out keeps its value. `owner`, `login` and the source of a pool are set in the configuration
/// file only.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRequest {
    /// Databases that stand ready at rest.
    #[schema(default = 4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<BoundedInteger<0, 1000>>,
    /// Most slots.
    #[schema(default = 32)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<BoundedInteger<1, 1000>>,
    /// Clones behind the slots at rest.
    #[schema(default = 2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spares: Option<BoundedInteger<0, 1000>>,
    /// How clones are made.
    #[schema(default = "auto")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyChoice>,
    /// Extensions that every template gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Extensions>,
    /// Roles that every template may refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Roles>,
    /// The current template and the newest others stay, so many in all, at least one; one in use stays too.
    #[schema(default = 3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_templates: Option<BoundedInteger<0, 1000>>,
    /// The daemon drops a template of this age, except the current one and one used in the last ten minutes.
    #[schema(default = 1_209_600)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_max_age_seconds: Option<BoundedInteger<0, 315_360_000>>,
    /// A pool without lease, waiter, announced run and `PUT` for this long keeps its templates alone, without ready databases and spares.
    #[schema(default = 86_400)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_pool_seconds: Option<BoundedInteger<1, 315_360_000>>,
    /// Most connections of one lease's login at once; 0 for no limit.
    #[schema(default = 0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<BoundedInteger<0, 10_000>>,
    #[schema(ignore)]
    #[serde(rename = "owner", alias = "login", alias = "source", alias = "sourced", default, skip_serializing)]
    _configured_only: Option<ConfiguredOnly>,
}

impl From<PoolRequest> for domain::PoolPatch {
    fn from(request: PoolRequest) -> Self {
        Self {
            warm: request.warm.map(BoundedInteger::as_u32),
            max: request.max.map(BoundedInteger::as_u32),
            spares: request.spares.map(BoundedInteger::as_u32),
            strategy: request.strategy.map(Into::into),
            extensions: request
                .extensions
                .map(|list| list.into_vec().into_iter().map(BoundedText::into_string).collect()),
            roles: request.roles.map(|list| list.into_vec().into_iter().map(|role| role.0).collect()),
            keep_templates: request.keep_templates.map(BoundedInteger::as_u32),
            template_max_age_seconds: request.template_max_age_seconds.map(BoundedInteger::get),
            idle_pool_seconds: request.idle_pool_seconds.map(BoundedInteger::get),
            connection_limit: request.connection_limit.map(BoundedInteger::as_u32),
            ..Self::default()
        }
    }
}

/// How to drop a pool.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DropPoolQuery {
    /// Revokes its leases.
    #[param(default = false)]
    #[serde(default)]
    pub force: bool,
}

/// How many databases are in which state; `waiting` counts callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "named as the states are")]
pub struct Counts {
    pub ready: u64,
    pub leased: u64,
    pub spare: u64,
    pub creating: u64,
    pub retiring: u64,
    pub kept: u64,
    pub blocked: u64,
    pub waiting: u64,
}

impl Counts {
    /// The databases and waiters of a pool in a snapshot.
    #[must_use]
    pub fn of(pool: &domain::Pool, snapshot: &Snapshot) -> Self {
        let mut counts = Self::default();
        for database in snapshot.databases.iter().filter(|database| database.pool == pool.name) {
            *match database.state {
                DatabaseState::Ready => &mut counts.ready,
                DatabaseState::Leased => &mut counts.leased,
                DatabaseState::Spare => &mut counts.spare,
                DatabaseState::Creating => &mut counts.creating,
                DatabaseState::Retiring => &mut counts.retiring,
                DatabaseState::Kept => &mut counts.kept,
                DatabaseState::Blocked => &mut counts.blocked,
            } += 1;
        }
        counts.waiting = snapshot.tickets.iter().map(|ticket| u64::from(ticket.pool == pool.name)).sum();
        counts
    }
}

/// How long the longest waiter of a pool has waited, in seconds.
#[must_use]
pub fn longest_wait(pool: &domain::Pool, snapshot: &Snapshot) -> f64 {
    let tickets = snapshot.tickets.iter().filter(|ticket| ticket.pool == pool.name);
    tickets.map(|ticket| ticket.waited_seconds).fold(0.0, f64::max)
}

/// A database that three steps in a row could not work on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Blocked {
    /// Its name.
    pub database: String,
    /// What was to be done with it.
    pub reason: Option<String>,
    /// How many attempts failed.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// A pool with its settings, its counts and its templates.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name, which its databases begin with.
    pub pool: String,
    /// Databases that stand ready at rest.
    pub warm: u32,
    /// Most slots.
    pub max: u32,
    /// Clones behind the slots at rest.
    pub spares: u32,
    /// The role that owns the objects of its databases.
    pub owner: String,
    /// How clones are made.
    // A text, because a request refuses unknown values of the type, and an answer of a newer daemon may have one.
    #[schema(value_type = StrategyChoice)]
    pub strategy: String,
    /// Extensions that every template has.
    pub extensions: Vec<String>,
    /// Roles that every template may refer to.
    pub roles: Vec<String>,
    /// The current template and the newest others stay, so many in all, at least one; one in use stays too.
    pub keep_templates: u32,
    /// The daemon drops a template of this age, except the current one and one used in the last ten minutes.
    pub template_max_age_seconds: u64,
    /// A pool without lease, waiter, announced run and `PUT` for this long keeps its templates alone, without ready databases and spares.
    #[serde(default)]
    pub idle_pool_seconds: u64,
    /// What the login of a lease may do beyond its own database.
    pub login: LoginRights,
    /// Most connections of one lease's login at once; 0 for no limit.
    pub connection_limit: u32,
    /// Whether the daemon builds its templates.
    pub sourced: bool,
    /// Whether the pool is being dropped.
    pub dropping: bool,
    /// How many databases are in which state.
    pub counts: Counts,
    /// How long the longest waiter has waited.
    pub longest_wait_seconds: f64,
    /// Its templates.
    pub templates: Vec<Template>,
    /// Databases that steps could not work on.
    pub blocked: Vec<Blocked>,
}

impl Pool {
    /// A pool with what a snapshot says about it.
    #[must_use]
    pub fn new(pool: &domain::Pool, snapshot: &Snapshot) -> Self {
        let settings = &pool.settings;
        let blocked = |database: &&pgdibs_core::database::Database| {
            database.pool == pool.name && database.state == DatabaseState::Blocked
        };
        let blocked = snapshot.databases.iter().filter(blocked).map(|database| Blocked {
            database: database.name.to_string(),
            reason: database.reason.clone(),
            attempts: database.attempts,
            last_error: database.last_error.clone(),
        });
        Self {
            pool: pool.name.to_string(),
            warm: settings.warm,
            max: settings.max,
            spares: settings.spares,
            owner: settings.owner.to_string(),
            strategy: settings.strategy.as_str().to_owned(),
            extensions: settings.extensions.clone(),
            roles: settings.roles.iter().map(ToString::to_string).collect(),
            keep_templates: settings.keep_templates,
            template_max_age_seconds: settings.template_max_age_seconds,
            idle_pool_seconds: settings.idle_pool_seconds,
            login: settings.login.into(),
            connection_limit: settings.connection_limit,
            sourced: pool.sourced,
            dropping: pool.dropping,
            counts: Counts::of(pool, snapshot),
            longest_wait_seconds: longest_wait(pool, snapshot),
            templates: snapshot.templates.iter().filter(|t| t.pool == pool.name).map(Template::from).collect(),
            blocked: blocked.collect(),
        }
    }
}

/// All pools.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pools {
    /// In the order of their names.
    pub pools: Vec<Pool>,
}
