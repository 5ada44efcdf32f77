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

/// A login that a request asks for. [`LoginRights`] would accept unknown ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "named as those of LoginRights")]
pub enum LoginRequest {
    Plain,
    CreateDb,
    Superuser,
}

impl From<LoginRequest> for domain::LoginRights {
    fn from(login: LoginRequest) -> Self {
        match login {
            LoginRequest::Plain => Self::Plain,
            LoginRequest::CreateDb => Self::CreateDb,
            LoginRequest::Superuser => Self::Superuser,
        }
    }
}

/// The role that the sessions of a lease act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActAs {
    /// The pool's owner role.
    Owner,
    /// The login.
    Login,
}

impl From<ActAs> for domain::ActAs {
    fn from(act_as: ActAs) -> Self {
        match act_as {
            ActAs::Owner => Self::Owner,
            ActAs::Login => Self::Login,
        }
    }
}

/// An extension: its name, or its name and its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected the name of an extension of 1 to 63 characters, or an object with `name` and `schema`"
)]
pub enum ExtensionRequest {
    /// In schema `public`, or in the one that the extension demands.
    Name(BoundedText<1, 63>),
    /// In this schema, which is created if there is none.
    InSchema(ExtensionInSchema),
}

/// An extension in a schema of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "their names say what they are")]
pub struct ExtensionInSchema {
    pub name: BoundedText<1, 63>,
    pub schema: BoundedText<1, 63>,
}

impl From<ExtensionRequest> for domain::Extension {
    fn from(request: ExtensionRequest) -> Self {
        match request {
            ExtensionRequest::Name(name) => Self { name: name.into_string(), schema: None },
            ExtensionRequest::InSchema(one) => {
                Self { name: one.name.into_string(), schema: Some(one.schema.into_string()) }
            }
        }
    }
}

/// An extension of a pool: its name, or its name and its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(missing_docs, reason = "as in a request")]
pub enum Extension {
    Name(String),
    InSchema { name: String, schema: String },
}

impl From<&domain::Extension> for Extension {
    fn from(one: &domain::Extension) -> Self {
        match one.schema.clone() {
            None => Self::Name(one.name.clone()),
            Some(schema) => Self::InSchema { name: one.name.clone(), schema },
        }
    }
}

type Extensions = BoundedList<ExtensionRequest, 0, 100>;
type Roles = BoundedList<RoleField, 0, 100>;

/// Settings of a pool: what is left out keeps its value. `owner` and the source of a pool are set in the configuration file only.
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
    /// Extensions that every template gets: names, or objects with `name` and `schema`.
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
    /// What the login of a lease may do beyond its own database. More than the daemon's `max_login` is refused.
    #[schema(value_type = Option<LoginRights>, default = "plain")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginRequest>,
    /// The role that the sessions of a lease act as.
    #[schema(default = "owner")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ActAs>,
    /// The locale of templates that are built from now on, such as `C.UTF-8`; empty for that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<BoundedText<0, 100>>,
    /// Their encoding, such as `UTF8`; empty for that of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<BoundedText<0, 100>>,
    /// Their ICU locale, such as `de-AT`, from Postgres 15 on; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_locale: Option<BoundedText<0, 100>>,
    #[schema(ignore)]
    #[serde(rename = "owner", alias = "source", alias = "sourced", default, skip_serializing)]
    _configured_only: Option<ConfiguredOnly>,
}

impl From<PoolRequest> for domain::PoolPatch {
    fn from(request: PoolRequest) -> Self {
        Self {
            warm: request.warm.map(BoundedInteger::as_u32),
            max: request.max.map(BoundedInteger::as_u32),
            spares: request.spares.map(BoundedInteger::as_u32),
            strategy: request.strategy.map(Into::into),
            extensions: request.extensions.map(|list| list.into_vec().into_iter().map(Into::into).collect()),
            roles: request.roles.map(|list| list.into_vec().into_iter().map(|role| role.0).collect()),
            keep_templates: request.keep_templates.map(BoundedInteger::as_u32),
            template_max_age_seconds: request.template_max_age_seconds.map(BoundedInteger::get),
            idle_pool_seconds: request.idle_pool_seconds.map(BoundedInteger::get),
            connection_limit: request.connection_limit.map(BoundedInteger::as_u32),
            login: request.login.map(Into::into),
            act_as: request.act_as.map(Into::into),
            locale: request.locale.map(BoundedText::into_string),
            encoding: request.encoding.map(BoundedText::into_string),
            icu_locale: request.icu_locale.map(BoundedText::into_string),
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
    pub extensions: Vec<Extension>,
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
    /// The role that the sessions of a lease act as; those of a login that is not `plain` always act as the login.
    #[serde(default)]
    #[schema(value_type = ActAs)]
    pub act_as: String,
    /// Most connections of one lease's login at once; 0 for no limit.
    pub connection_limit: u32,
    /// The locale of templates that are built from now on; empty for that of the server.
    #[serde(default)]
    pub locale: String,
    /// Their encoding; empty for that of the server.
    #[serde(default)]
    pub encoding: String,
    /// Their ICU locale; empty for none.
    #[serde(default)]
    pub icu_locale: String,
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
            extensions: settings.extensions.iter().map(Into::into).collect(),
            roles: settings.roles.iter().map(ToString::to_string).collect(),
            keep_templates: settings.keep_templates,
            template_max_age_seconds: settings.template_max_age_seconds,
            idle_pool_seconds: settings.idle_pool_seconds,
            login: settings.login.into(),
            act_as: settings.act_as.as_str().to_owned(),
            connection_limit: settings.connection_limit,
            locale: settings.locale.locale.clone(),
            encoding: settings.locale.encoding.clone(),
            icu_locale: settings.locale.icu_locale.clone(),
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
