//! Property tests of the planner on arbitrary snapshots: it does not panic, is deterministic, and ends no lease without cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgdibs_core::database::{Database, DatabaseId, DatabaseState};
use pgdibs_core::lease::{Credentials, Lease, LeaseId, LeaseState};
use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName};
use pgdibs_core::plan::{RetireReason, Step, plan};
use pgdibs_core::pool::{Pool, PoolSettings};
use pgdibs_core::request::{TicketId, TicketKind};
use pgdibs_core::snapshot::{AnnouncedRun, Limits, PlannerContext, ServerDatabase, Snapshot, Ticket};
use pgdibs_core::template::{Template, TemplateId, TemplateState, Timestamp};
use proptest::prelude::*;

const MAX_TTL: Duration = Duration::from_secs(100);

const GIB: u64 = 1 << 30;

fn pool(index: usize) -> PoolName {
    PoolName::parse(["one", "two"][index % 2]).unwrap()
}

fn pools() -> impl Strategy<Value = Vec<Pool>> {
    let one = (0..6_u32, 1..8_u32, 0..4_u32, 0..3_u32, any::<[bool; 3]>(), prop::option::of(1..7_i64));
    prop::collection::vec(one, 0..=2).prop_map(|given| {
        let made = given.into_iter().enumerate().map(
            |(index, (warm, max, spares, keep_templates, [dropping, sourced, unused], current))| {
                let name = pool(index);
                let settings =
                    PoolSettings { warm: warm.min(max), max, spares, keep_templates, ..PoolSettings::of(&name) };
                let unused_seconds = if unused { settings.idle_pool_seconds } else { 0 };
                let current_template = current.map(TemplateId);
                Pool { name, settings, sourced, dropping, unused_seconds, current_template }
            },
        );
        made.collect()
    })
}

fn templates() -> impl Strategy<Value = Vec<Template>> {
    let states = [TemplateState::Building, TemplateState::Ready, TemplateState::Retiring, TemplateState::Failed];
    let one = (
        0..2_usize,
        prop::sample::select(states.to_vec()),
        prop::option::of(1..30_u32),
        any::<[bool; 5]>(),
        any::<u64>(),
        (prop::sample::select(vec![None, Some(13 << 20), Some(GIB), Some(10 * GIB)]), prop::option::of(0..11 * GIB)),
    );
    prop::collection::vec(one, 0..5).prop_map(|given| {
        let made = given.into_iter().enumerate().map(
            |(index, (at, state, oid, flags, unused_seconds, (size_bytes, clone_bytes)))| {
                let fingerprint = Fingerprint::parse(&format!("v{index}")).unwrap();
                let name = match state {
                    TemplateState::Building | TemplateState::Failed => {
                        DatabaseName::build(&pool(at), 100 + index as i64)
                    }
                    _ => DatabaseName::template(&pool(at), &fingerprint),
                };
                Template {
                    id: TemplateId(1 + index as i64),
                    pool: pool(at),
                    fingerprint,
                    state,
                    name,
                    oid,
                    holder: "builder".to_owned(),
                    seal_requested: flags[0],
                    builder_silent: flags[1],
                    build_started_at: Timestamp(0),
                    built_seconds: None,
                    built_at: flags[2].then_some(Timestamp(index as i64)),
                    size_bytes,
                    relations: None,
                    last_used_at: Timestamp(0),
                    unused_seconds,
                    leased: flags[4],
                    strategy: None,
                    measured: Vec::new(),
                    clone_seconds: None,
                    clone_bytes,
                    collations_changed: false,
                    clone_error: None,
                    input_changes: None,
                    detail: None,
                    due: flags[3],
                }
            },
        );
        made.collect()
    })
}

fn databases() -> impl Strategy<Value = Vec<Database>> {
    let states = prop::sample::select(DatabaseState::ALL.to_vec());
    let one = (
        0..2_usize,
        1..7_i64,
        states,
        prop::option::weighted(0.8, 1..200_u32),
        prop::option::of(0..6_u32),
        any::<[bool; 2]>(),
        0..5_u32,
    );
    prop::collection::vec(one, 0..10).prop_map(|given| {
        let made = given.into_iter().enumerate().map(|(index, (at, template, state, oid, slot, flags, attempts))| {
            let id = 10 + index as i64;
            let name =
                slot.map_or_else(|| DatabaseName::spare(&pool(at), id), |slot| DatabaseName::slot(&pool(at), slot));
            Database {
                id: DatabaseId(id),
                pool: pool(at),
                template: TemplateId(template),
                state,
                name,
                oid,
                slot,
                keep_until: None,
                keep_lease: None,
                keep_expired: flags[0],
                reason: None,
                attempts,
                due: flags[1],
                last_error: None,
                created_at: Timestamp(0),
                ready_at: None,
            }
        });
        made.collect()
    })
}

/// Leases whose database and reserved spare may be missing or belong to another lease.
fn leases() -> impl Strategy<Value = Vec<Lease>> {
    let one = (0..2_usize, prop::option::of(10..22_i64), prop::option::of(10..22_i64), 0..6_u32, 1..7_i64);
    prop::collection::vec(one, 0..5).prop_map(|given| {
        let made = given.into_iter().enumerate().map(|(index, (at, database, reset_to, slot, template))| Lease {
            id: LeaseId::from_u128(1 + index as u128),
            state: LeaseState::Live,
            pool: pool(at),
            fingerprint: Fingerprint::parse("v0").unwrap(),
            template: TemplateId(template),
            database: database.map(DatabaseId),
            database_name: DatabaseName::slot(&pool(at), slot).to_string(),
            slot,
            credentials: Some(Credentials { user: "u".to_owned(), password: "p".into() }),
            run: None,
            worker: None,
            alias: "default".to_owned(),
            holder: String::new(),
            generation: 1,
            ttl_seconds: 60,
            renewals: 0,
            reset_to: reset_to.map(DatabaseId),
            acquired_at: Timestamp(0),
            expires_at: Timestamp(0),
            ended_at: None,
            ended_reason: None,
        });
        made.collect()
    })
}

fn tickets() -> impl Strategy<Value = Vec<Ticket>> {
    let kinds = prop::sample::select(vec![TicketKind::Acquire, TicketKind::Exact, TicketKind::Reset]);
    prop::collection::vec((0..2_usize, 1..7_i64, 0..1200_u32, kinds), 0..5).prop_map(|given| {
        let made = given.into_iter().enumerate().map(|(index, (at, template, count, kind))| Ticket {
            id: TicketId(1 + index as i64),
            pool: pool(at),
            template: TemplateId(template),
            count,
            kind,
            holder: pgdibs_core::request::TicketHolder::default(),
            waited_seconds: 1.0,
        });
        made.collect()
    })
}

/// Databases on the server: with or without a row, under their own or another name.
fn server() -> impl Strategy<Value = BTreeMap<u32, ServerDatabase>> {
    let names = "(one|two)_(gw[0-6]|spare_1[0-9]|old_1|template_0123456789ab|build_10[0-4])|postgres|elsewhere";
    let out = prop::bool::weighted(0.1);
    let one = (names, any::<bool>(), prop::bool::weighted(0.1), any::<bool>(), 0..3_u32, 0..3_u64, out);
    prop::collection::btree_map(1..30_u32, one, 0..20).prop_map(|given| {
        let made = given.into_iter().map(|(oid, (name, owned, invalid, open, sessions, sessions_ever, locked_out))| {
            (oid, ServerDatabase { name, owned, invalid, open, sessions, sessions_ever, locked_out })
        });
        made.collect()
    })
}

type Rows = (Vec<Pool>, Vec<Template>, Vec<Database>, Vec<Lease>, Vec<Ticket>, BTreeMap<u32, ServerDatabase>);

/// Makes most rows consistent: most leases have a leased database, and most oids exist on the server under the name of the row.
fn consistent((pools, templates, mut databases, mut leases, tickets, mut server): Rows, random: &[u8]) -> Rows {
    let mut random = random.iter().copied().cycle();
    let mut usually = move || random.next().is_some_and(|byte| byte % 4 != 0);
    for (lease, database) in leases.iter_mut().zip(&mut databases) {
        if usually() {
            lease.database = Some(database.id);
            lease.pool = database.pool.clone();
            lease.template = database.template;
            database.state = DatabaseState::Leased;
            database.slot = Some(lease.slot);
            database.name = DatabaseName::slot(&database.pool, lease.slot);
            lease.database_name = database.name.to_string();
            lease.reset_to = lease.reset_to.filter(|_| !usually());
        }
    }
    let named = templates.iter().map(|template| (template.oid, template.name.as_str()));
    let named = named.chain(databases.iter().map(|database| (database.oid, database.name.as_str())));
    for (oid, name) in named.filter_map(|(oid, name)| Some((oid?, name))) {
        if usually() {
            let sessions_ever = server.get(&oid).map_or(0, |found| found.sessions_ever);
            let name = name.to_owned();
            let (open, locked_out) = (usually(), !usually());
            let found =
                ServerDatabase { name, owned: true, invalid: false, open, sessions: 0, sessions_ever, locked_out };
            server.insert(oid, found);
        }
    }
    (pools, templates, databases, leases, tickets, server)
}

fn snapshots() -> impl Strategy<Value = (Snapshot, PlannerContext)> {
    let limits =
        (prop::option::of(0..8_u32), prop::option::of(0..4_u64), prop::option::of(prop_oneof![0..4_u64, 0..50 * GIB]));
    // The limit of a request: 1000 workers with 100 aliases.
    let runs = prop::collection::vec((0..2_usize, 0..=100_000_u32, 0..=100_000_u32), 0..3);
    let watched = (
        prop::collection::btree_map(1..6_u128, 0..200_u64, 0..4),
        prop::collection::btree_map(1..6_u128, 0..3_u32, 0..4),
    );
    let peaks = prop::collection::btree_map(1..7_i64, 0..=100_000_u32, 0..3);
    let busy = prop::collection::btree_set(10..22_i64, 0..3);
    let rows = (pools(), templates(), databases(), leases(), tickets(), server());
    let rows = (rows, prop::collection::vec(any::<u8>(), 20)).prop_map(|(rows, random)| consistent(rows, &random));
    (rows, limits, runs, watched, peaks, busy).prop_map(
        |(
            (pools, templates, databases, leases, tickets, server),
            (slots, locks, free),
            runs,
            (overdue, sessions),
            peaks,
            busy,
        )| {
            let runs = runs.into_iter().enumerate().map(|(index, (at, wanted, held))| AnnouncedRun {
                run: format!("r{index}"),
                pool: pool(at),
                fingerprint: None,
                wanted,
                held,
            });
            let limits = Limits {
                slots_by_connections: slots,
                lock_entries: locks,
                free_disk_bytes: free,
                disk_floor_bytes: 2,
                clones_files: true,
            };
            let snapshot = Snapshot {
                pools,
                templates,
                databases,
                leases,
                tickets,
                runs: runs.collect(),
                server,
                limits,
                server_address: String::new(),
                taken_at: Timestamp::default(),
                next_change: None,
            };
            let context = PlannerContext {
                busy_databases: busy.into_iter().map(DatabaseId).collect(),
                busy_templates: BTreeSet::new(),
                overdue: overdue
                    .into_iter()
                    .map(|(id, seconds)| (LeaseId::from_u128(id), Duration::from_secs(seconds)))
                    .collect(),
                sessions: sessions.into_iter().map(|(id, count)| (LeaseId::from_u128(id), count)).collect(),
                max_ttl: MAX_TTL,
                recent_peak: peaks.into_iter().map(|(id, count)| (TemplateId(id), count)).collect(),
            };
            (snapshot, context)
        },
    )
}

/// Whether the database of this lease exists under its name and is valid.
fn database_exists(snapshot: &Snapshot, lease: &Lease) -> bool {
    let row = lease.database.and_then(|id| snapshot.database(id));
    let Some(oid) = row.and_then(|row| row.oid) else { return false };
    snapshot.server.get(&oid).is_some_and(|found| found.name == row.unwrap().name.as_str() && !found.invalid)
}

fn check(snapshot: &Snapshot, context: &PlannerContext, step: &Step) -> Result<(), TestCaseError> {
    let row = step.database().and_then(|id| snapshot.database(id));
    prop_assert_eq!(step.database().is_some(), row.is_some(), "{:?} refers to a missing row", step);
    if let Some(id) = step.template() {
        prop_assert!(snapshot.template(id).is_some(), "{:?} refers to a missing row", step);
    }
    if let Some(id) = step.database() {
        prop_assert!(!context.busy_databases.contains(&id), "{:?} on a busy database", step);
    }
    match step {
        Step::Drop { .. } => {
            let state = row.unwrap().state;
            prop_assert!(
                matches!(state, DatabaseState::Retiring | DatabaseState::Blocked),
                "{:?} of a {:?}",
                step,
                state
            );
        }
        Step::Retire { reason, .. } => {
            let row = row.unwrap();
            prop_assert_ne!(row.state, DatabaseState::Leased, "{:?}", step);
            if row.state == DatabaseState::Kept {
                let expired = matches!(reason, RetireReason::KeepExpired) && row.keep_expired;
                prop_assert!(
                    expired || matches!(reason, RetireReason::PoolDropped | RetireReason::Invalid),
                    "{:?}",
                    step
                );
            }
        }
        Step::Move { slot, displaced, .. } => {
            let is_ready = |row: &Database| row.state == DatabaseState::Ready;
            prop_assert!(is_ready(row.unwrap()) && row.unwrap().slot > Some(*slot), "{:?} of {:?}", step, row);
            let other = displaced.map(|id| snapshot.database(id).unwrap());
            prop_assert!(other.is_none_or(|other| is_ready(other) && other.slot == Some(*slot)), "{:?}", step);
        }
        Step::Clone { .. } => {
            let row = row.unwrap();
            prop_assert!(row.oid.is_none() && !snapshot.limits.below_disk_floor(), "{:?} {:?}", step, row);
        }
        Step::EndLease { lease, .. } => {
            let lease = snapshot.leases.iter().find(|found| found.id == *lease).unwrap();
            let overdue = context.overdue.get(&lease.id).copied();
            let connected = context.sessions.get(&lease.id).is_some_and(|&count| count > 0);
            let by_time = overdue.is_some_and(|overdue| !connected || overdue >= MAX_TTL);
            prop_assert!(by_time || !database_exists(snapshot, lease), "{:?} of {:?}", step, lease);
        }
        _ => {}
    }
    Ok(())
}

/// The clones in progress and those of the plan leave the disk above its floor, and one of a large template that copies its contents runs alone.
fn check_disk(snapshot: &Snapshot, context: &PlannerContext, steps: &[Step]) -> Result<(), TestCaseError> {
    let started = steps.iter().filter(|step| matches!(step, Step::Clone { .. })).filter_map(Step::database);
    let started: Vec<DatabaseId> = started.collect();
    if started.is_empty() {
        return Ok(());
    }
    let running = snapshot.databases.iter().filter(|d| d.oid.is_none() && context.busy_databases.contains(&d.id));
    let running: Vec<DatabaseId> = running.map(|d| d.id).collect();
    let template = |id: &DatabaseId| snapshot.template(snapshot.database(*id)?.template);
    let needed: u64 = started.iter().chain(&running).filter_map(template).map(|t| snapshot.bytes_of_clone(t)).sum();
    let left = snapshot.limits.bytes_above_floor();
    prop_assert!(left.is_none_or(|left| needed <= left), "{} of {:?} bytes: {:?}", needed, left, steps);
    for copied in started.iter().filter_map(template).filter(|t| t.is_large() && t.shares_blocks() != Some(true)) {
        let is_creating = |d: &DatabaseState| matches!(d, DatabaseState::Creating | DatabaseState::Blocked);
        let row = |id: &&DatabaseId| {
            snapshot.database(**id).is_some_and(|d| d.template == copied.id && is_creating(&d.state))
        };
        prop_assert_eq!(
            started.iter().chain(&running).filter(row).count(),
            1,
            "clones of {:?}: {:?}",
            copied.id,
            steps
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn plan_of_any_snapshot_is_deterministic_and_spares_leases((snapshot, context) in snapshots()) {
        let steps = plan(&snapshot, &context);
        prop_assert_eq!(&steps, &plan(&snapshot, &context), "the plan of the same snapshot differs");
        let mut seen = BTreeSet::new();
        for step in &steps {
            check(&snapshot, &context, step)?;
            if let Some(id) = step.database() {
                prop_assert!(seen.insert(id), "two steps on one database: {:?}", steps);
            }
        }
        check_disk(&snapshot, &context, &steps)?;
        // The sums must not overflow: requests contain arbitrary numbers.
        let _ = pgdibs_core::plan::in_use(&snapshot);
    }
}
