"""Protections against the faults of docs/faults.md, in its order. Data only."""

from __future__ import annotations

from protection import CORE, DAEMON, SERVER, Protection

FAULTS: tuple[Protection, ...] = (
    # The daemon.
    Protection(
        "renewals-after-a-sleep",
        f"{DAEMON}/driver.rs",
        "            // Renewals may be waiting in the sockets.\n            self.expiry.start_anew();\n",
        "",
        "test(stopped_for_three_ttls)",
        "after a sleep of the daemon every lease starts a full time to live",
    ),
    Protection(
        "accept-goes-on",
        f"{DAEMON}/http/serve.rs",
        "tokio::time::sleep(ACCEPT_PAUSE).await;",
        "break;",
        "test(no_file_descriptors_left)",
        "a connection that cannot be accepted does not end the listener",
    ),
    Protection(
        "one-office",
        f"{SERVER}/office.rs",
        "if !got {",
        "if false {",
        "test(one_in_office_that_sleeps) | test(a_lock_in_the_wrong_database)",
        "only the session that has the lock reconciles",
    ),
    # Postgres.
    Protection(
        "unreachable-is-told",
        f"{DAEMON}/driver.rs",
        "self.tell(|report| report.unreachable = Some(error.to_string()));",
        "",
        "test(an_immediate_stop) | test(a_fast_stop) | test(a_killed_postmaster) | test(a_line_that_hangs)",
        "a server that is away is told by `/readyz`",
    ),
    Protection(
        "disk-of-clones-under-way",
        f"{CORE}/plan/slots.rs",
        "room.takes_disk(snapshot, share.template);",
        "",
        "test(no_more_clones_are_started_than)",
        "clones under way count against the disk's floor",
        "lib",
    ),
    # Databases that do not let themselves be dropped.
    Protection(
        "prepared-transactions",
        f"{SERVER}/steps/cure.rs",
        "if databases.is_empty() || !world.connections.facts.prepares_transactions {",
        "if databases.is_empty() || world.connections.facts.prepares_transactions {",
        "test(a_prepared_transaction)",
        "prepared transactions are rolled back before the rename",
    ),
    Protection(
        "subscriptions",
        f"{SERVER}/steps/cure.rs",
        "What::Subscription => ddl::drop_subscription(&obstacle.name).run(&mut inside).await?,",
        "What::Subscription => {}",
        "test(a_subscription)",
        "subscriptions are dropped before their database",
    ),
    Protection(
        "sessions-are-ended",
        f"{SERVER}/steps/fence.rs",
        "pg_terminate_backend(a.pid)",
        "(a.pid is null)",
        "test(an_active_slot) | test(a_client_stuck_in_copy)",
        "sessions of a used database are ended",
    ),
    Protection(
        "held-up-drops-are-told",
        f"{DAEMON}/driver.rs",
        "if hang {",
        "if false {",
        "test(a_live_lease_stuck_in_copy)",
        "it is told for which session drops wait",
    ),
    Protection(
        "template-flag",
        f"{SERVER}/steps/drop.rs",
        "ddl::is_template(name, false).then(ddl::allow_connections(name, false))",
        "ddl::allow_connections(name, false)",
        "test(a_template_flag)",
        "the template flag is cleared before a drop",
    ),
    Protection(
        "closed-before-sessions-end",
        f"{SERVER}/steps/swap.rs",
        "        closing = closing.then(ddl::allow_connections(&database.name, false));\n",
        "",
        "test(a_superuser_who_keeps_reconnecting)",
        "a used database is closed to everybody before its sessions are ended",
    ),
    Protection(
        "three-attempts",
        f"{SERVER}/steps/mod.rs",
        "const ATTEMPTS: i32 = 3;",
        "const ATTEMPTS: i32 = 1000;",
        "test(a_session_that_cannot_be_ended)",
        "after three failures a database is blocked, and another serves",
    ),
    Protection(
        "half-dropped-is-damage",
        f"{CORE}/plan/slots.rs",
        "    if found.invalid {",
        "    if false {",
        "test(an_interrupted_drop)",
        "a database whose drop was interrupted is of no use and goes",
        "e2e",
    ),
    # Hands.
    # Clients.
    Protection(
        "a-reset-happens-once",
        f"{SERVER}/requests/leases.rs",
        ".bind(leave.and_then(|generation| i32::try_from(generation).ok()))",
        ".bind(None::<i32>)",
        "test(lost_replies)",
        "a reset that is asked for again happens once",
    ),
    Protection(
        "times-move-with-the-clock",
        f"{DAEMON}/driver.rs",
        "self.world.move_times(jump).await?;",
        "",
        "test(a_clock_that_jumps)",
        "when the server's clock is set, the times that count move with it",
    ),
    # The loops.
)
