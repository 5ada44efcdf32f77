//! Failpoints: the names of the places between two steps where a test kills or holds the daemon. `pgdibs-failpoint` acts on them.

macro_rules! points {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// A place between two steps. The fault tests loop over [`Failpoint::ALL`], so they cover every failpoint.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each name states the place")]
        pub enum Failpoint {
            $($variant),*
        }

        impl Failpoint {
            /// Every failpoint, grouped by what it interrupts and in the order of execution.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in `PGDIBS_TEST_FAILPOINT`: `operation:event`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

points! {
    // Start-up, before the first plan.
    StartListening = "start:listening",
    StartConnected = "start:connected",
    StartCatalogMade = "start:catalog-made",
    StartMigrated = "start:migrated",
    StartPoolsMade = "start:pools-made",
    StartServing = "start:serving",
    StartElected = "start:elected",
    StartPredecessorsEnded = "start:predecessors-ended",
    StartAsLeader = "start:as-leader",
    ReconcileGarbageCollected = "reconcile:garbage-collected",
    ReconcilePlanned = "reconcile:planned",
    // Templates.
    BuildRequested = "build:requested",
    BuildRolesMade = "build:roles-made",
    BuildLoginMade = "build:login-made",
    BuildCreated = "build:created",
    BuildPrepared = "build:prepared",
    BuildRecorded = "build:recorded",
    BuildFailed = "build:failed",
    SealRequested = "seal:requested",
    SealFenced = "seal:fenced",
    SealCompacted = "seal:compacted",
    SealClosed = "seal:closed",
    SealRenamed = "seal:renamed",
    SealPublished = "seal:published",
    TemplateRetired = "template:retired",
    TemplateClosed = "template:closed",
    TemplateDropped = "template:dropped",
    // Databases. The row of a clone exists before its database does.
    CloneRowCommitted = "clone:row-committed",
    CloneLoginMade = "clone:login-made",
    CloneCreated = "clone:created",
    CloneConfigured = "clone:configured",
    CloneDone = "clone:done",
    AdoptRecorded = "adopt:recorded",
    FillRenamed = "fill:renamed",
    FillDone = "fill:done",
    MoveRenamed = "move:renamed",
    MoveDone = "move:done",
    ReturnClosed = "return:closed",
    ReturnFenced = "return:fenced",
    ReturnRenamed = "return:renamed",
    ReturnDone = "return:done",
    RetireCommitted = "retire:committed",
    ForgetClosed = "forget:closed",
    DropClosed = "drop:closed",
    DropFenced = "drop:fenced",
    DropDone = "drop:done",
    DropLoginsDropped = "drop:logins-dropped",
    DropForgotten = "drop:forgotten",
    // Leases.
    AcquireWaiting = "acquire:waiting",
    AcquireHalfOfBatch = "acquire:half-of-batch",
    AcquireCommitted = "acquire:committed",
    AcquireGranted = "acquire:granted",
    AcquireAnswering = "acquire:answering",
    AcquireLastByte = "acquire:last-byte",
    KeepRecorded = "keep:recorded",
    ResetReserved = "reset:reserved",
    ResetClosed = "reset:closed",
    ResetFenced = "reset:fenced",
    ResetRenamed = "reset:renamed",
    ResetDone = "reset:done",
    ReleaseCommitted = "release:committed",
    ReleaseAnswering = "release:answering",
    RunEnded = "run:ended",
    ExpireCommitted = "expire:committed",
}

#[cfg(test)]
mod tests {
    use super::Failpoint;

    #[test]
    fn failpoint_names_are_unique() {
        let names: std::collections::BTreeSet<&str> = Failpoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
    }
}
