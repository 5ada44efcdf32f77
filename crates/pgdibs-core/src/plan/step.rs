//! The steps of a plan, and their reasons.

use std::fmt;

use crate::database::DatabaseId;
use crate::lease::{End, LeaseId};
use crate::name::PoolName;
use crate::template::TemplateId;

/// How the reconciler executes a step; it starts the classes in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A few statements on the reconciler's connection; callers may be waiting for them.
    Urgent,
    /// A few statements on the reconciler's connection.
    Fast,
    /// A task with its own connection.
    Slow {
        /// The maximum of concurrent steps of the same kind.
        at_once: usize,
    },
}

/// One step of a plan; see [`Step::class`] for how it runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Ends a lease and retires its database; the fence before the return closes its login.
    EndLease {
        /// The lease.
        lease: LeaseId,
        /// How it ends.
        end: End,
        /// Its renewal counter in the snapshot. If the lease was renewed since then, it does not expire and the step is stale.
        renewals: u64,
        /// Why, for display.
        reason: String,
    },
    /// Swaps the reserved spare under a live lease.
    Reset {
        /// The lease, whose row names the spare.
        lease: LeaseId,
        /// The used database.
        used: DatabaseId,
        /// The spare that enters its slot.
        spare: DatabaseId,
    },
    /// Fences a used database and renames it out of its slot; a spare, if any, enters the slot in the same transaction.
    Return {
        /// The used database.
        used: DatabaseId,
        /// The spare that enters its slot.
        spare: Option<DatabaseId>,
    },
    /// Closes a database and ends the sessions that a `Return` or `Reset` could not end at once. It runs apart from other steps, so
    /// that a session that does not react delays only its own database. The swap follows after the last session.
    Fence {
        /// The used database.
        database: DatabaseId,
    },
    /// Renames a spare into an empty slot.
    Fill {
        /// The spare.
        spare: DatabaseId,
        /// The slot.
        slot: u32,
    },
    /// Renames a ready database into a lower slot, which is empty or holds another ready database; that one gets the slot it leaves.
    Move {
        /// The database.
        database: DatabaseId,
        /// The lower slot.
        slot: u32,
        /// The ready database there.
        displaced: Option<DatabaseId>,
    },
    /// Retires an unused database. A spare that a reset has reserved retires only if it is damaged (see
    /// [`RetireReason::is_damage`]), and then loses its reservation.
    Retire {
        /// The database.
        database: DatabaseId,
        /// Why.
        reason: RetireReason,
    },
    /// Inserts the rows of future clones.
    NewDatabases {
        /// Their template.
        template: TemplateId,
        /// Their number.
        count: u32,
    },
    /// Creates the login and the clone of a row.
    Clone {
        /// The row.
        database: DatabaseId,
        /// Whether a caller waits for it when it begins.
        awaited: bool,
    },
    /// Drops a retired database, then its login, then its row.
    Drop {
        /// The database.
        database: DatabaseId,
    },
    /// Records the oid of a database whose daemon died after `create database`, and retires it.
    Adopt {
        /// The row.
        database: DatabaseId,
        /// The oid of the database with its name.
        oid: u32,
    },
    /// Deletes a row whose database no longer exists under its name.
    Forget {
        /// The row.
        database: DatabaseId,
        /// Why.
        reason: ForgetReason,
    },
    /// Creates the database, the roles and the login for a build.
    CreateBuild {
        /// The template.
        template: TemplateId,
    },
    /// Seals a build and publishes it by rename.
    Seal {
        /// The template.
        template: TemplateId,
    },
    /// Marks a build as failed after its builder stopped renewing.
    FailBuild {
        /// The template.
        template: TemplateId,
        /// Why, for display.
        reason: String,
    },
    /// Retires an unused template.
    RetireTemplate {
        /// The template.
        template: TemplateId,
        /// Why.
        reason: TemplateRetireReason,
    },
    /// Drops the database of a retired or failed template. Deletes the row of a retired one if no database refers to it (a kept
    /// one can outlive its template), and the row of a failed one if it is old or its pool is being dropped.
    DropTemplate {
        /// The template.
        template: TemplateId,
    },
    /// Deletes the row of a dropped pool without templates and databases.
    ForgetPool {
        /// The pool.
        pool: PoolName,
    },
}

/// Why an unused database is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetireReason {
    /// It had a session before it was leased.
    Tampered,
    /// The pool has more of its kind than its settings and the demand require.
    Surplus,
    /// Nothing has used its pool for `idle_pool_seconds`, so the pool keeps its templates alone.
    PoolUnused,
    /// A ticket needs its slot, or its disk space, for another template; or the pool has more slots than it may have.
    Evicted,
    /// Its template is retiring.
    TemplateRetired,
    /// Its `keep_until` has passed.
    KeepExpired,
    /// Its pool is being dropped.
    PoolDropped,
    /// A drop of it was interrupted (`datconnlimit = -2`): Postgres rejects every connection and only allows another drop.
    Invalid,
    /// Its login is missing or has no LOGIN, so a lease could not connect.
    LockedOut,
}

impl RetireReason {
    /// Whether no lease can use the database, so that a reset that has reserved it must reserve another.
    #[must_use]
    pub fn is_damage(self) -> bool {
        matches!(self, Self::Invalid | Self::Tampered | Self::LockedOut)
    }
}

impl fmt::Display for RetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tampered => "it had a session before it was leased; pgdibs leases only databases that nothing has connected to, and replaces it",
            Self::Surplus => "the pool has more idle databases than warm, spares and the recent demand require",
            Self::PoolUnused => "nothing has used the pool for idle_pool_seconds; it is warm again for the next run or lease",
            Self::Evicted => "a waiting request needs its slot or its disk space, or the pool has more slots than max and max_connections allow",
            Self::TemplateRetired => "its template was retired",
            Self::KeepExpired => "the time for which it was kept is over",
            Self::PoolDropped => "its pool was dropped",
            Self::Invalid => "a drop of it outside pgdibs was interrupted (datconnlimit = -2), so it can only be dropped",
            Self::LockedOut => "its login is missing or has no LOGIN; pgdibs replaces it",
        })
    }
}

/// Why a row is deleted without a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForgetReason {
    /// No database with its oid exists.
    Vanished,
    /// The database with its oid has another name; pgdibs leaves it alone.
    RenamedExternally,
    /// It was never created and is no longer needed.
    NotNeeded,
}

impl fmt::Display for ForgetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vanished => "it was dropped outside pgdibs",
            Self::RenamedExternally => {
                "it was renamed outside pgdibs, which now leaves it alone; drop it if it is not needed"
            }
            Self::NotNeeded => "it is no longer needed and was not cloned yet",
        })
    }
}

/// Why a template is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateRetireReason {
    /// The pool has `keep_templates` newer ones, or the current one and newer ones.
    Outnumbered,
    /// Unused for `template_max_age_seconds`.
    TooOld,
    /// The daemon built another one of its pool's source before a lease was requested of it.
    Superseded,
    /// Its pool is being dropped.
    PoolDropped,
    /// Its database was dropped or renamed outside pgdibs.
    Vanished,
    /// The server sorts otherwise than when it was built. The template fails, so that its row shows the reason.
    CollationsChanged,
}

impl TemplateRetireReason {
    /// Whether something outside pgdibs made the template unusable, so that it has to be built again.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Vanished | Self::CollationsChanged)
    }
}

impl fmt::Display for TemplateRetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outnumbered => "the pool has keep_templates others that are newer or current",
            Self::TooOld => "unused for longer than template_max_age_seconds",
            Self::Superseded => "the inputs changed before anyone leased it",
            Self::PoolDropped => "its pool was dropped",
            Self::Vanished => "its database was dropped or renamed outside pgdibs; build it again",
            Self::CollationsChanged => {
                "the server's collations have other versions than when it was built (an upgrade of its image or its libraries), so its text may be sorted otherwise and its unique indexes may miss rows; build it again"
            }
        })
    }
}

impl Step {
    /// How the reconciler executes it: the only place that decides urgency and concurrency.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::EndLease { .. } | Self::Reset { .. } | Self::Return { .. } | Self::Fill { .. } => Class::Urgent,
            Self::Move { .. }
            | Self::Retire { .. }
            | Self::NewDatabases { .. }
            | Self::Adopt { .. }
            | Self::Forget { .. }
            | Self::FailBuild { .. }
            | Self::RetireTemplate { .. }
            | Self::ForgetPool { .. } => Class::Fast,
            // Each waits for a session that does not end; only its own database waits with it.
            Self::Fence { .. } => Class::Slow { at_once: 2 },
            // More than the number of cores, because each waits for checkpoints half of its time. `pgdibs-bench` with 8 callers on 2
            // busy cores: 8 give a fifth more cycles than 4, and 12 give no more than 8.
            Self::Clone { awaited: true, .. } => Class::Slow { at_once: 8 },
            // Fewer, because they take the processor and the disk from tests.
            Self::Clone { awaited: false, .. } => Class::Slow { at_once: 4 },
            // Concurrent drops share a checkpoint. With fewer drops than clones, drops fall behind.
            Self::Drop { .. } => Class::Slow { at_once: 8 },
            // Each runs expressions of its builder, which can take minutes, on a connection that clones and drops share.
            Self::Seal { .. } => Class::Slow { at_once: 4 },
            Self::CreateBuild { .. } | Self::DropTemplate { .. } => Class::Slow { at_once: usize::MAX },
        }
    }

    /// Whether no caller will ever wait for it, so that it may yield to all others. A refill is none of these: the next caller may come while
    /// it runs, and then waits for it.
    #[must_use]
    pub fn is_background(&self) -> bool {
        matches!(self, Self::Drop { .. } | Self::DropTemplate { .. })
    }

    /// Whether it can take longer than a few milliseconds and runs as a separate task.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        matches!(self.class(), Class::Slow { .. })
    }

    /// The database it works on, if it works on one.
    #[must_use]
    pub fn database(&self) -> Option<DatabaseId> {
        match self {
            Self::Reset { used, .. } | Self::Return { used, .. } => Some(*used),
            Self::Fill { spare, .. } => Some(*spare),
            Self::Fence { database }
            | Self::Move { database, .. }
            | Self::Retire { database, .. }
            | Self::Clone { database, .. }
            | Self::Drop { database }
            | Self::Adopt { database, .. }
            | Self::Forget { database, .. } => Some(*database),
            Self::EndLease { .. }
            | Self::NewDatabases { .. }
            | Self::CreateBuild { .. }
            | Self::Seal { .. }
            | Self::FailBuild { .. }
            | Self::RetireTemplate { .. }
            | Self::DropTemplate { .. }
            | Self::ForgetPool { .. } => None,
        }
    }

    /// The template it works on, if it works on one.
    #[must_use]
    pub fn template(&self) -> Option<TemplateId> {
        match self {
            Self::CreateBuild { template }
            | Self::Seal { template }
            | Self::FailBuild { template, .. }
            | Self::RetireTemplate { template, .. }
            | Self::DropTemplate { template } => Some(*template),
            Self::EndLease { .. }
            | Self::Reset { .. }
            | Self::Return { .. }
            | Self::Fence { .. }
            | Self::Fill { .. }
            | Self::Move { .. }
            | Self::Retire { .. }
            | Self::NewDatabases { .. }
            | Self::Clone { .. }
            | Self::Drop { .. }
            | Self::Adopt { .. }
            | Self::Forget { .. }
            | Self::ForgetPool { .. } => None,
        }
    }
}
