//! Failpoints: the names of the places between two steps at which a test kills the daemon or holds it. `pgdibs-failpoint` acts there.

macro_rules! points {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// A place between two steps. The loop of the fault tests goes through [`Point::ALL`], so none can be forgotten.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "their names say where they are")]
        pub enum Point {
            $($variant),*
        }

        impl Point {
            /// Every point, in the order of the lives they are in.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Where it is, as `what:when`.
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
    // The start, before anything is planned.
    StartListening = "start:listening",
    StartConnected = "start:connected",
    StartCatalogMade = "start:catalog-made",
    StartMigrated = "start:migrated",
    StartPoolsMade = "start:pools-made",
    StartServing = "start:serving",
    StartElected = "start:elected",
    StartPredecessorsEnded = "start:predecessors-ended",
    StartAsLeader = "start:as-leader",
    LookSwept = "look:swept",
    LookPlanned = "look:planned",
    // A template's life.
    BuildAsked = "build:asked",
    BuildRolesMade = "build:roles-made",
    BuildLoginMade = "build:login-made",
    BuildCreated = "build:created",
    BuildPrepared = "build:prepared",
    BuildNoted = "build:noted",
    BuildLost = "build:lost",
    SealAsked = "seal:asked",
    SealFenced = "seal:fenced",
    SealTidied = "seal:tidied",
    SealClosed = "seal:closed",
    SealRenamed = "seal:renamed",
    SealPublished = "seal:published",
    TemplateRetired = "template:retired",
    TemplateClosed = "template:closed",
    TemplateDropped = "template:dropped",
    // A database's life.
    CloneOrdering = "clone:ordering",
    CloneOrdered = "clone:ordered",
    CloneLoginMade = "clone:login-made",
    CloneCreated = "clone:created",
    CloneDressed = "clone:dressed",
    CloneDone = "clone:done",
    AdoptNoted = "adopt:noted",
    FillRenamed = "fill:renamed",
    FillDone = "fill:done",
    ReturnClosed = "return:closed",
    ReturnFenced = "return:fenced",
    ReturnRenamed = "return:renamed",
    ReturnDone = "return:done",
    RetireMarked = "retire:marked",
    ForgetClosed = "forget:closed",
    DropClosed = "drop:closed",
    DropFenced = "drop:fenced",
    DropDone = "drop:done",
    DropLoginsDropped = "drop:logins-dropped",
    DropForgotten = "drop:forgotten",
    // A lease's life.
    AcquireWaiting = "acquire:waiting",
    AcquireHalfOfBatch = "acquire:half-of-batch",
    AcquireTaken = "acquire:taken",
    AcquireGranted = "acquire:granted",
    AcquireAnswering = "acquire:answering",
    AcquireLastByte = "acquire:last-byte",
    KeepPromised = "keep:promised",
    ResetReserved = "reset:reserved",
    ResetClosed = "reset:closed",
    ResetFenced = "reset:fenced",
    ResetRenamed = "reset:renamed",
    ResetDone = "reset:done",
    ReleaseMarked = "release:marked",
    ReleaseAnswering = "release:answering",
    RunEnded = "run:ended",
    ExpireMarked = "expire:marked",
}

#[cfg(test)]
mod tests {
    use super::Point;

    #[test]
    fn points_have_names_of_their_own() {
        let mut names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
