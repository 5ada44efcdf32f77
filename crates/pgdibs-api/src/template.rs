//! Templates: a pool's schema, built once, of which every database is a clone.

use pgdibs_core::{inputs, pool, template as domain};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bounded::{BoundedMap, Label, MultilineText, Secret, Text, WaitSeconds};
use crate::limits::{DEFAULT_VIA, DEFAULT_WAIT};
use crate::run_report::FingerprintInputs;
use crate::time::rfc3339;

/// "I need this template".
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateRequest {
    /// Free text about the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Text>,
    /// How long to wait for another builder.
    #[schema(default = json!(DEFAULT_WAIT.as_secs()))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<WaitSeconds>,
    /// Which advertised address to hand out.
    #[schema(default = json!(DEFAULT_VIA))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Label>,
    /// What the fingerprint is made of. The daemon keeps it when the caller becomes the builder, and compares it with the next template's.
    #[serde(default, skip_serializing_if = "BoundedMap::is_empty")]
    pub fingerprint_inputs: FingerprintInputs,
}

/// Proves that the caller is the builder.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildTokenRequest {
    /// The token of the build.
    pub token: Secret,
}

/// Ends a build that failed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AbandonRequest {
    /// The token of the build.
    pub token: Secret,
    /// Why the build failed.
    #[serde(default)]
    pub detail: MultilineText,
}

/// Whether clones can be made of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// Its builder works on it.
    Building,
    /// Clones are made of it.
    Ready,
    /// Its build failed; `detail` says why.
    Failed,
    /// It is being dropped.
    Retiring,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl TemplateState {
    /// The state on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Retiring => "retiring",
            Self::Unknown => "unknown",
        }
    }
}

impl From<domain::TemplateState> for TemplateState {
    fn from(state: domain::TemplateState) -> Self {
        match state {
            domain::TemplateState::Building => Self::Building,
            domain::TemplateState::Ready => Self::Ready,
            domain::TemplateState::Failed => Self::Failed,
            domain::TemplateState::Retiring => Self::Retiring,
        }
    }
}

/// How Postgres copies a template: `CREATE DATABASE … STRATEGY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// File by file, with two checkpoints.
    FileCopy,
    /// Block by block, through the write-ahead log.
    WalLog,
    /// A value that a newer daemon has added.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Strategy {
    /// The strategy on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileCopy => "file_copy",
            Self::WalLog => "wal_log",
            Self::Unknown => "unknown",
        }
    }
}

impl From<pool::Strategy> for Strategy {
    fn from(strategy: pool::Strategy) -> Self {
        match strategy {
            pool::Strategy::FileCopy => Self::FileCopy,
            pool::Strategy::WalLog => Self::WalLog,
        }
    }
}

/// How long clones took with one strategy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Measured {
    /// The strategy.
    pub strategy: Strategy,
    /// How many clones were measured.
    pub clones: u32,
    /// Their mean, in seconds.
    pub mean_seconds: f64,
}

/// How the inputs of a template's fingerprint differ from those of the template that its pool built before. With three empty lists the
/// build was forced, or the earlier template had been dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputChanges {
    /// The fingerprint of the earlier template.
    pub since: String,
    /// Inputs that have changed.
    pub changed: Vec<String>,
    /// Inputs that the earlier template did not have.
    pub added: Vec<String>,
    /// Inputs that only the earlier template had.
    pub removed: Vec<String>,
    /// How many more differ: each list has 20 names at most.
    pub more: u32,
}

impl From<&inputs::InputChanges> for InputChanges {
    fn from(changes: &inputs::InputChanges) -> Self {
        let inputs::InputChanges { since, changed, added, removed, more } = changes.clone();
        Self { since: since.to_string(), changed, added, removed, more }
    }
}

/// A template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// The pool that it belongs to.
    pub pool: String,
    /// Names the schema within its pool.
    pub fingerprint: String,
    /// Whether clones can be made of it.
    pub state: TemplateState,
    /// The name of its database.
    pub database: String,
    /// Free text about its builder.
    pub holder: String,
    /// When its build began.
    #[schema(format = DateTime)]
    pub since: String,
    /// How long the build took.
    pub built_seconds: Option<f64>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// How the next clone is made: files for a large template, otherwise as both strategies were measured.
    pub strategy: Option<Strategy>,
    /// How long clones took.
    pub measured: Vec<Measured>,
    /// How long a clone takes: the mean of the faster strategy, or the first clone; of a large template the last one.
    pub clone_seconds: Option<f64>,
    /// How much disk a clone takes: measured where clones share the blocks of the template, otherwise its size.
    pub clone_bytes: Option<u64>,
    /// Whether clones share the blocks of the template, which a server of Postgres 18 can do on XFS and Btrfs. Null until a clone of a
    /// large template has shown it.
    pub shares_blocks: Option<bool>,
    /// When it was sealed.
    #[schema(format = DateTime)]
    pub built_at: Option<String>,
    /// When a database of it was last granted.
    #[schema(format = DateTime)]
    pub last_used_at: String,
    /// Why its build failed.
    pub detail: Option<String>,
    /// Why it was built: which inputs differ from those of the template before. Null if the inputs of one of them are unknown.
    #[serde(default)]
    pub input_changes: Option<InputChanges>,
}

/// The output of a build.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateLog {
    /// The pool that the template belongs to.
    pub pool: String,
    /// Names the schema within its pool.
    pub fingerprint: String,
    /// Whether the build succeeded.
    pub state: TemplateState,
    /// What the programs of the daemon printed, with passwords masked and the middle of a long output cut; of a client's build, why it failed.
    pub log: String,
}

impl From<&domain::Template> for Template {
    fn from(template: &domain::Template) -> Self {
        let measured = template.measured.iter().map(|&(strategy, clones, milliseconds)| Measured {
            strategy: strategy.into(),
            clones,
            mean_seconds: milliseconds / 1000.0,
        });
        Self {
            pool: template.pool.to_string(),
            fingerprint: template.fingerprint.to_string(),
            state: template.state.into(),
            database: template.name.to_string(),
            holder: template.holder.clone(),
            since: rfc3339(template.build_started_at),
            built_seconds: template.built_seconds,
            size_bytes: template.size_bytes,
            strategy: template.auto_strategy().map(Strategy::from),
            measured: measured.collect(),
            clone_seconds: template.seconds_of_clone(),
            clone_bytes: template.disk_of_clone(),
            shares_blocks: template.shares_blocks(),
            built_at: template.built_at.map(rfc3339),
            last_used_at: rfc3339(template.last_used_at),
            detail: template.detail.clone(),
            input_changes: template.input_changes.as_ref().map(InputChanges::from),
        }
    }
}

/// The empty database that a builder fills, and the token that proves who builds.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// Shown with seal, renew and abandon.
    pub token: String,
    /// Where to build: `postgresql://user:password@host:port/database`.
    pub url: String,
    /// The host in that URL.
    pub host: String,
    /// The port in that URL.
    pub port: u16,
    /// The login of this build alone.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The database to fill.
    pub database: String,
    /// When the build is given to another caller unless it is renewed.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

/// A template that the caller has to build.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateBuild {
    /// The template.
    #[serde(flatten)]
    pub template: Template,
    /// Where to build it.
    pub build: Build,
}
