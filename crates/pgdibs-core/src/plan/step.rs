//! What a plan consists of: the steps, and the reasons that they carry.

use std::fmt;

use crate::database::DatabaseId;
use crate::lease::{End, LeaseId};
use crate::name::PoolName;
use crate::template::TemplateId;

/// How the reconciler carries a step out, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A few statements on the reconciler's own connection, before anything else: callers may be waiting for it.
    Urgent,
    /// A few statements on the reconciler's own connection.
    Fast,
    /// A task of its own, on a connection of its own.
    Slow {
        /// How many steps of its kind run at once.
        at_once: usize,
    },
}

/// One thing to do. Fast steps are a few statements on the reconciler's own connection; slow ones (see [`Step::is_slow`])
/// run on connections of their own, several at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ends a lease, closes its login and lets its database retire.
    EndLease {
        /// The lease.
        lease: LeaseId,
        /// How it ends.
        end: End,
        /// Its renewal counter at the time of the plan. A lease that was renewed since then does not expire: the step is stale.
        renewals: u64,
        /// Why, in words for people.
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
    /// Fences a used database and renames it out of its slot; a spare enters in the same transaction if there is one.
    Return {
        /// The used database.
        used: DatabaseId,
        /// The spare that enters its slot.
        spare: Option<DatabaseId>,
    },
    /// Ends the sessions of a database that a `Return` or `Reset` could not end at once, apart from other steps, and keeps everybody
    /// out: a session that does not react delays nothing but its own database. The swap follows when it has none left.
    Fence {
        /// The used database.
        database: DatabaseId,
    },
    /// Lets a spare enter an empty slot.
    Fill {
        /// The spare.
        spare: DatabaseId,
        /// The slot.
        slot: u32,
    },
    /// Marks an unused database for retirement. One that a reset has reserved is not taken away, unless it is
    /// damaged (half dropped, connected to, locked out): then the reservation is freed with it.
    Retire {
        /// The database.
        database: DatabaseId,
        /// Why.
        reason: RetireReason,
    },
    /// Writes rows for clones to come.
    NewDatabases {
        /// The template they will be clones of.
        template: TemplateId,
        /// How many.
        count: u32,
    },
    /// Makes the login and the clone of a row.
    Clone {
        /// The row.
        database: DatabaseId,
    },
    /// Drops a retired database, then its login, then its row.
    Drop {
        /// The database.
        database: DatabaseId,
    },
    /// Takes note of a database whose creator died after `create database`; it is then retired.
    AdoptHalfMade {
        /// The row.
        database: DatabaseId,
        /// The identity found under its name.
        oid: u32,
    },
    /// Deletes a row whose database is gone from the server, or is no longer ours by name.
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
    /// Takes a build away from a builder that fell silent.
    LoseBuild {
        /// The template.
        template: TemplateId,
        /// Why, in words for people.
        reason: String,
    },
    /// Marks an unused template for retirement.
    RetireTemplate {
        /// The template.
        template: TemplateId,
        /// Why.
        reason: TemplateRetireReason,
    },
    /// Drops the database of a retired or failed template. The row of a retired one goes as well unless databases still
    /// refer to it (a kept one may outlive its template); the row of a failed one once it is old or its pool is dropped.
    DropTemplate {
        /// The template.
        template: TemplateId,
    },
    /// Deletes the row of a dropped pool that holds nothing any more.
    ForgetPool {
        /// The pool.
        pool: PoolName,
    },
}

/// Why an unused database is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetireReason {
    /// Somebody connected to it before it was granted.
    LookedInto,
    /// More of its kind than the pool wants.
    Surplus,
    /// Its slot is needed for a template that a ticket waits for, or is one more than the pool may have.
    MakeRoom,
    /// Its template retires.
    TemplateRetired,
    /// The time for which it was kept is over.
    KeptLongEnough,
    /// Its pool is being dropped, and what is kept goes with it.
    PoolDropped,
    /// A drop of it was interrupted (`datconnlimit = -2`): no session can connect, and only another drop helps.
    HalfDropped,
    /// Its login is missing or has no LOGIN, so the URL of a lease would not work.
    LockedOut,
}

impl RetireReason {
    /// Whether the database is of no use to anybody, so that a reset that has reserved it has to reserve another.
    #[must_use]
    pub fn is_damage(self) -> bool {
        matches!(self, Self::HalfDropped | Self::LookedInto | Self::LockedOut)
    }
}

impl fmt::Display for RetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LookedInto => "somebody connected to it before it was granted",
            Self::Surplus => "more databases than the pool wants",
            Self::MakeRoom => "its slot is needed for somebody who waits, or is more than the pool may have",
            Self::TemplateRetired => "its template was retired",
            Self::KeptLongEnough => "the time for which it was kept is over",
            Self::PoolDropped => "its pool was dropped",
            Self::HalfDropped => "somebody else's drop of it was interrupted",
            Self::LockedOut => "its login is missing or may not log in",
        })
    }
}

/// Why a row is deleted without a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForgetReason {
    /// No database with its oid exists.
    Vanished,
    /// The database with its oid carries another name, so somebody renamed it; it is theirs now.
    RenamedByHand,
    /// It was never created and is no longer wanted.
    NotWanted,
}

impl fmt::Display for ForgetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vanished => "somebody else dropped it",
            Self::RenamedByHand => "somebody else renamed it; pgdibs leaves it alone",
            Self::NotWanted => "it was not created yet and is no longer wanted",
        })
    }
}

/// Why a template is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateRetireReason {
    /// More newer ones than the pool keeps.
    Outnumbered,
    /// Unused for longer than the pool's age.
    TooOld,
    /// Its pool is being dropped.
    PoolDropped,
    /// Its database vanished or was renamed by hand.
    Vanished,
}

impl fmt::Display for TemplateRetireReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outnumbered => "newer templates take its place",
            Self::TooOld => "unused for too long",
            Self::PoolDropped => "its pool was dropped",
            Self::Vanished => "its database was dropped or renamed by somebody else",
        })
    }
}

impl Step {
    /// How the reconciler carries it out: the one place that decides order and concurrency.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::EndLease { .. } | Self::Reset { .. } | Self::Return { .. } | Self::Fill { .. } => Class::Urgent,
            Self::Retire { .. }
            | Self::NewDatabases { .. }
            | Self::AdoptHalfMade { .. }
            | Self::Forget { .. }
            | Self::LoseBuild { .. }
            | Self::RetireTemplate { .. }
            | Self::ForgetPool { .. } => Class::Fast,
            // Each waits for a session that does not end, and no caller whose database is free waits for it.
            Self::Fence { .. } => Class::Slow { at_once: 2 },
            // More than the machine has cores still pays, because each waits for checkpoints half of its time. Measured by `pgdibs-bench`
            // with 8 callers on 2 busy cores, against plain Postgres: a fifth more cycles with 8 than with 4, no more with 12.
            Self::Clone { .. } => Class::Slow { at_once: 8 },
            // Drops that wait for a checkpoint at the same time share it. Fewer than clones, and drops fall behind.
            Self::Drop { .. } => Class::Slow { at_once: 8 },
            // Each runs expressions of its builder, which may take minutes, on one of the connections that clones and drops share.
            Self::Seal { .. } => Class::Slow { at_once: 4 },
            Self::CreateBuild { .. } | Self::DropTemplate { .. } => Class::Slow { at_once: usize::MAX },
        }
    }

    /// Whether it may take longer than a few milliseconds, so that it runs beside the others.
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
            | Self::Retire { database, .. }
            | Self::Clone { database }
            | Self::Drop { database }
            | Self::AdoptHalfMade { database, .. }
            | Self::Forget { database, .. } => Some(*database),
            _ => None,
        }
    }

    /// The template it works on, if it works on one.
    #[must_use]
    pub fn template(&self) -> Option<TemplateId> {
        match self {
            Self::CreateBuild { template }
            | Self::Seal { template }
            | Self::LoseBuild { template, .. }
            | Self::RetireTemplate { template, .. }
            | Self::DropTemplate { template } => Some(*template),
            _ => None,
        }
    }
}
