//! Requests as they are written: bodies and query strings, checked while they are read and turned into the domain's words.

use std::time::Duration;

use pgdibs_core::lease::LeaseId;
use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_core::pool::{PoolPatch, StrategyChoice};
use pgdibs_core::request::Acquire;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::bounded::{
    BoundedInteger, ConfiguredOnly, FingerprintField, MultilineText, Named, Note, PoolField, SecretField, Some100, Wait,
};
use super::problem::{Code, Problem};

/// Seconds that a lease lives without renewal when its holder names none.
const DEFAULT_TTL_SECONDS: u64 = 60;

/// Seconds that a database is kept when nobody says for how long.
const DEFAULT_KEEP_SECONDS: u64 = 3600;

/// The address that is handed out unless `via` names another.
const DEFAULT_VIA: &str = "default";

/// `ttl_seconds`.
pub(super) type Ttl = BoundedInteger<1, 3600>;

/// `PUT /v1/pools/{pool}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolBody {
    warm: Option<BoundedInteger<0, 1000>>,
    max: Option<BoundedInteger<1, 1000>>,
    spares: Option<BoundedInteger<0, 1000>>,
    strategy: Option<StrategyField>,
    extensions: Option<Some100<Named, 0>>,
    roles: Option<Some100<RoleField, 0>>,
    keep_templates: Option<BoundedInteger<0, 1000>>,
    template_max_age_seconds: Option<BoundedInteger<0, 315_360_000>>,
    connection_limit: Option<BoundedInteger<0, 10_000>>,
    #[serde(rename = "owner")]
    _owner: Option<ConfiguredOnly>,
    #[serde(rename = "login")]
    _login: Option<ConfiguredOnly>,
    #[serde(rename = "source")]
    _source: Option<ConfiguredOnly>,
    #[serde(rename = "sourced")]
    _sourced: Option<ConfiguredOnly>,
}

impl PoolBody {
    pub(super) fn patch(self) -> PoolPatch {
        PoolPatch {
            warm: self.warm.map(BoundedInteger::as_u32),
            max: self.max.map(BoundedInteger::as_u32),
            spares: self.spares.map(BoundedInteger::as_u32),
            owner: None,
            strategy: self.strategy.map(|field| field.0),
            extensions: self.extensions.map(|list| list.0.into_iter().map(|name| name.0).collect()),
            roles: self.roles.map(|list| list.0.into_iter().map(|role| role.0).collect()),
            keep_templates: self.keep_templates.map(BoundedInteger::as_u32),
            template_max_age_seconds: self.template_max_age_seconds.map(|seconds| seconds.0),
            login: None,
            connection_limit: self.connection_limit.map(BoundedInteger::as_u32),
            sourced: None,
        }
    }
}

#[derive(Debug)]
struct StrategyField(StrategyChoice);

impl<'de> Deserialize<'de> for StrategyField {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        StrategyChoice::parse(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "must be \"auto\", \"file_copy\" or \"wal_log\", not \"{}\"",
                pgdibs_core::name::shown(&text)
            ))
        })
    }
}

#[derive(Debug)]
struct RoleField(RoleName);

impl<'de> Deserialize<'de> for RoleField {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        RoleName::parse("roles", &text).map(Self).map_err(|error| D::Error::custom(error.rule))
    }
}

/// `DELETE /v1/pools/{pool}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolDropQuery {
    #[serde(default)]
    pub(super) force: bool,
}

/// `PUT /v1/pools/{pool}/templates/{fingerprint}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateBody {
    holder: Option<Note>,
    wait_seconds: Option<Wait>,
    via: Option<Named>,
}

impl TemplateBody {
    pub(super) fn holder(&self) -> &str {
        self.holder.as_ref().map_or("", |note| &note.0)
    }

    pub(super) fn wait(&self) -> Duration {
        wait(self.wait_seconds)
    }

    pub(super) fn via(&self) -> &str {
        self.via.as_ref().map_or(DEFAULT_VIA, |name| &name.0)
    }
}

/// `POST …/seal` and `POST …/renew`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildTokenBody {
    pub(super) token: SecretField,
}

/// `POST …/abandon`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AbandonBody {
    pub(super) token: SecretField,
    #[serde(default)]
    pub(super) detail: MultilineText,
}

/// One wish in `POST /v1/leases/batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcquireBody {
    pool: PoolField,
    fingerprint: Option<FingerprintField>,
    run: Option<Named>,
    worker: Option<Named>,
    alias: Option<Named>,
    holder: Option<Note>,
    ttl_seconds: Option<Ttl>,
    #[serde(default)]
    fresh: bool,
    via: Option<Named>,
}

/// `POST /v1/leases`. The fields of a wish stand here again because serde cannot refuse unknown fields across a flattened struct.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaseBody {
    pool: PoolField,
    fingerprint: Option<FingerprintField>,
    run: Option<Named>,
    worker: Option<Named>,
    alias: Option<Named>,
    holder: Option<Note>,
    ttl_seconds: Option<Ttl>,
    wait_seconds: Option<Wait>,
    #[serde(default)]
    fresh: bool,
    via: Option<Named>,
}

impl LeaseBody {
    pub(super) fn wait(&self) -> Duration {
        wait(self.wait_seconds)
    }

    pub(super) fn acquire_request(self) -> AcquireRequest {
        let Self { pool, fingerprint, run, worker, alias, holder, ttl_seconds, wait_seconds: _, fresh, via } = self;
        AcquireBody { pool, fingerprint, run, worker, alias, holder, ttl_seconds, fresh, via }.acquire_request()
    }
}

/// What is wished for, and how the answer is to be given.
#[derive(Debug)]
pub(super) struct AcquireRequest {
    pub(super) acquire: Acquire,
    pub(super) fresh: bool,
    pub(super) via: String,
}

impl AcquireBody {
    fn acquire_request(self) -> AcquireRequest {
        AcquireRequest {
            acquire: Acquire {
                id: LeaseId::now_v7(),
                pool: self.pool.0,
                fingerprint: self.fingerprint.map(|field| field.0),
                run: self.run.map(|name| name.0),
                worker: self.worker.map(|name| name.0),
                alias: self.alias.map_or_else(|| "default".to_owned(), |name| name.0),
                holder: self.holder.map_or_else(String::new, |note| note.0),
                ttl_seconds: self.ttl_seconds.map_or(DEFAULT_TTL_SECONDS, |ttl| ttl.0),
                exact_slot: false,
            },
            fresh: self.fresh,
            via: self.via.map_or_else(|| DEFAULT_VIA.to_owned(), |name| name.0),
        }
    }
}

/// `POST /v1/leases/batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchBody {
    leases: Some100<AcquireBody, 1>,
    wait_seconds: Option<Wait>,
    /// Each worker `gwN` gets slot N and no other.
    #[serde(default)]
    exact_slot: bool,
    /// One login that is valid for all of them.
    #[serde(default)]
    shared_login: bool,
}

impl BatchBody {
    pub(super) fn wait(&self) -> Duration {
        wait(self.wait_seconds)
    }

    pub(super) fn acquire_requests(self) -> Vec<AcquireRequest> {
        let exact_slot = self.exact_slot;
        let exact = |mut acquire_request: AcquireRequest| {
            acquire_request.acquire.exact_slot = exact_slot;
            acquire_request
        };
        self.leases.0.into_iter().map(AcquireBody::acquire_request).map(exact).collect()
    }

    pub(super) fn shares_login(&self) -> bool {
        self.shared_login
    }
}

/// `?via=` on the calls that answer with a lease.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViaQuery {
    via: Option<Named>,
}

impl ViaQuery {
    pub(super) fn via(&self) -> &str {
        self.via.as_ref().map_or(DEFAULT_VIA, |name| &name.0)
    }
}

/// `GET /v1/leases`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeasesQuery {
    pub(super) pool: Option<PoolField>,
    pub(super) run: Option<Named>,
    #[serde(default)]
    pub(super) state: LeaseFilter,
}

/// Which leases are listed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LeaseFilter {
    #[default]
    Live,
    Ended,
    All,
}

/// `POST /v1/leases/{id}/renew`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RenewBody {
    ttl_seconds: Option<Ttl>,
}

impl RenewBody {
    pub(super) fn ttl_seconds(&self) -> Option<u64> {
        self.ttl_seconds.map(|ttl| ttl.0)
    }
}

/// `POST /v1/leases/{id}/reset`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetBody {
    wait_seconds: Option<Wait>,
    generation: Option<BoundedInteger<1, 2_147_483_647>>,
}

impl ResetBody {
    pub(super) fn wait(&self) -> Duration {
        wait(self.wait_seconds)
    }

    pub(super) fn generation(&self) -> Option<u32> {
        self.generation.map(BoundedInteger::as_u32)
    }
}

/// `POST /v1/leases/{id}/keep`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepBody {
    seconds: Option<BoundedInteger<1, 604_800>>,
    reason: Option<Note>,
}

impl KeepBody {
    pub(super) fn seconds(&self) -> u64 {
        self.seconds.map_or(DEFAULT_KEEP_SECONDS, |seconds| seconds.0)
    }

    pub(super) fn reason(&self) -> &str {
        self.reason.as_ref().map_or("", |note| &note.0)
    }
}

/// `PUT /v1/runs/{run}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunBody {
    pub(super) pool: PoolField,
    pub(super) fingerprint: Option<FingerprintField>,
    workers: Option<BoundedInteger<1, 1000>>,
    aliases: Option<BoundedInteger<1, 100>>,
}

impl RunBody {
    pub(super) fn workers(&self) -> u32 {
        self.workers.map_or(1, BoundedInteger::as_u32)
    }

    pub(super) fn aliases(&self) -> u32 {
        self.aliases.map_or(1, BoundedInteger::as_u32)
    }
}

/// `GET /v1/databases`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabasesQuery {
    pub(super) pool: Option<PoolField>,
}

fn wait(extract: Option<Wait>) -> Duration {
    extract.map_or(crate::service::DEFAULT_WAIT, |wait| wait.0)
}

/// The pool named in the path. A name that breaks the rule is malformed input, not a pool that is missing.
pub(super) fn pool_in_path(text: &str) -> Result<PoolName, Problem> {
    Ok(PoolName::parse(text)?)
}

/// The run named in the path.
pub(super) fn run_in_path(text: String) -> Result<String, Problem> {
    Named::check(text).map(|name| name.0).map_err(|rule| Problem::invalid("run", rule))
}

/// The lease named in the path. What is not even an id is no lease either.
pub(super) fn lease_in_path(text: &str) -> Result<LeaseId, Problem> {
    LeaseId::parse_str(text).map_err(|_| {
        Problem::new(
            Code::LeaseNotFound,
            format!("there is no lease \"{}\"; the id of a lease is a UUID", pgdibs_core::name::shown(text)),
        )
    })
}

/// A request that says everything in its path.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoBody {}
