//! Callers: concurrent test sessions. Each compares every leased database with the template, changes it, and checks that its
//! rows exist as long as its lease. A seed determines their choices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgdibs::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::api::Api;
use super::contents;
use super::ledger::{Ledger, Operation, Violation};
use crate::session::Session;
use crate::wait::{DEADLINE, StopOnDrop};

/// The shared settings of the callers of one test.
pub struct Load<'a> {
    pub api: &'a Api,
    pub pool: &'a str,
    /// The lines of a clean database.
    pub expected: &'a [String],
    pub ledger: &'a Ledger,
    pub seed: u64,
    /// The maximum of seconds between two operations of a caller.
    pub pause: f64,
}

impl Load<'_> {
    /// Runs `work` while `callers` callers are active, and joins them.
    pub fn during<T>(&self, callers: u64, work: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        let round = self.ledger.next_round();
        std::thread::scope(|scope| {
            // The drop stops the callers even if `work` panics.
            let _stop_callers = StopOnDrop(&stop);
            for number in 0..callers {
                let random = StdRng::seed_from_u64(self.seed.wrapping_add(round * 1000 + number));
                let stop = &stop;
                let name = format!("caller {number}");
                scope.spawn(move || Caller { load: self, name, random, stop, left_open: None }.work());
            }
            work()
        })
    }
}

/// Changes of a tenant in addition to its row in `witness`; each changes the compared lines.
const CHANGES: [&str; 9] = [
    "drop schema audit cascade",
    "select setval('invoice', 99999)",
    "create table mine as select * from account",
    "truncate account cascade",
    "update account set balance = balance + 1",
    "select lo_create(7), lo_unlink(4242)",
    "select pg_advisory_lock(1), nextval('invoice')",
    "create temporary table passing (n int); drop view rich; alter type mood add value 'furious'",
    "alter default privileges in schema public grant all on tables to public; revoke all on account from observer",
];

struct Caller<'a> {
    load: &'a Load<'a>,
    name: String,
    random: StdRng,
    stop: &'a AtomicBool,
    /// A session that stays open after the end of its lease.
    left_open: Option<Session>,
}

impl Caller<'_> {
    fn work(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let result = match self.random.random_range(0..20) {
                0 => self.abandon_one(),
                1 => self.acquire_two(),
                _ => self.one_lease(),
            };
            if let Err(violation) = result {
                self.load.ledger.record_violation(violation);
            }
        }
    }

    /// Repeats a call until a daemon answers, as a client does during a restart. Only connection errors and answers with
    /// Retry-After are retried.
    fn call(&self, method: &Method, path: &str, body: &Value) -> Result<(u16, Value), Violation> {
        let began = Instant::now();
        loop {
            let last = match self.load.api.try_call(method.clone(), path, Some(body)) {
                Ok(answer) if answer.retry_after.is_some() => {
                    self.load.ledger.record_error(&answer.body);
                    answer.body.to_string()
                }
                Ok(answer) => return Ok((answer.status, answer.body)),
                Err(error) => error,
            };
            if began.elapsed() > DEADLINE {
                return Err(Violation::Answer(format!("{}: no answer to {method} {path}: {last}", self.name)));
            }
            pause(0.02);
        }
    }

    fn expect(&self, status: u16, answer: (u16, Value)) -> Result<Value, Violation> {
        if answer.0 == status { Ok(answer.1) } else { Err(Violation::Answer(format!("{}: {answer:?}", self.name))) }
    }

    /// Connects to the database of a live lease, with retries while the server starts.
    fn enter(&self, lease: &Value) -> Result<Session, Violation> {
        let began = Instant::now();
        let (url, path) = (lease["url"].as_str().unwrap_or_default(), format!("/v1/leases/{}", text(lease, "id")));
        loop {
            let error = match Session::try_open(url) {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            // The server rejects a login during a reset or a start, or after the end of the lease.
            if let Ok(seen) = self.load.api.try_call(Method::GET, &path, None)
                && (seen.status == 404 || (seen.status == 200 && seen.body["state"] != "live"))
            {
                return Err(Violation::Lost(format!("{}: {lease} has ended: {}", self.name, seen.body)));
            }
            if began.elapsed() > DEADLINE {
                return Err(Violation::Lost(format!("{}: {error}: {lease}", self.name)));
            }
            pause(0.02);
        }
    }

    /// Connects, compares the database with the template, and changes it.
    fn enter_clean(&mut self, lease: &Value) -> Result<Session, Violation> {
        loop {
            let mut session = self.enter(lease)?;
            let Ok(seen) = contents::describe(&mut session, true) else { continue };
            if seen != self.load.expected {
                let difference = contents::difference(self.load.expected, &seen);
                return Err(Violation::Dirty(format!("{}: {lease}\n{difference}", self.name)));
            }
            let change = CHANGES[self.random.random_range(0..CHANGES.len())];
            let note = format!("insert into witness (note) values ('{} in {}'); {change}", self.name, lease["id"]);
            if session.try_run(&note).is_ok() {
                return Ok(session);
            }
            // The server crashed during the change, which may be committed or not.
            return self.enter(lease);
        }
    }

    /// A committed row exists as long as the lease.
    fn write_and_read_back(&self, lease: &Value, session: &mut Session) -> Result<(), Violation> {
        let row = format!("{:016x}", rand::random::<u64>());
        while session.try_run(&format!("insert into witness (note) values ('{row}')")).is_err() {
            *session = self.enter(lease)?;
        }
        loop {
            match session.try_text(&format!("select count(*) > 0 from witness where note = '{row}'")) {
                Ok(exists) if exists == "true" => return Ok(()),
                Ok(_) => return Err(Violation::Lost(format!("{}: its rows are missing in {lease}", self.name))),
                Err(_) => *session = self.enter(lease)?,
            }
        }
    }

    fn acquire_request(&mut self, worker: &str) -> Value {
        let run = format!("{:016x}", self.random.random::<u64>());
        let (pool, holder) = (self.load.pool, &self.name);
        json!({"pool": pool, "fingerprint": "first", "run": run, "worker": worker, "holder": holder, "wait_seconds": 5})
    }

    fn acquire(&mut self, acquire_request: &Value) -> Result<Value, Violation> {
        let answer = self.call(&Method::POST, "/v1/leases", acquire_request)?;
        if !matches!(answer.0, 200 | 201) {
            return Err(Violation::Answer(format!("{}: {answer:?}", self.name)));
        }
        self.load.ledger.count_operation(Operation::Granted);
        Ok(answer.1)
    }

    fn one_lease(&mut self) -> Result<(), Violation> {
        let worker = format!("gw{}", self.random.random_range(0..4));
        let acquire_request = self.acquire_request(&worker);
        let mut lease = self.acquire(&acquire_request)?;
        let mut session = self.enter_clean(&lease)?;
        for _ in 0..self.random.random_range(0..4) {
            pause(self.random.random_range(0.0..=self.load.pause));
            match self.random.random_range(0..6) {
                0 => (lease, session) = self.reset(&lease, session)?,
                1 => self.keep(&lease)?,
                _ => {
                    self.write_and_read_back(&lease, &mut session)?;
                    let path = format!("/v1/leases/{}/renew", text(&lease, "id"));
                    let (status, seen) = self.call(&Method::POST, &path, &json!({}))?;
                    if (status, &seen["state"]) != (200, &json!("live")) {
                        return Err(Violation::Lost(format!("{}: {lease}: {seen}", self.name)));
                    }
                }
            }
        }
        if self.random.random_bool(0.5) {
            drop(session);
        } else {
            // The session outlives its lease.
            self.left_open = Some(session);
        }
        if self.random.random_bool(0.8) {
            let answer = self.call(&Method::DELETE, &format!("/v1/leases/{}", text(&lease, "id")), &json!({}))?;
            self.expect(204, answer)?;
        } else {
            let answer =
                self.call(&Method::DELETE, &format!("/v1/runs/{}", text(&acquire_request, "run")), &json!({}))?;
            self.expect(200, answer)?;
        }
        self.load.ledger.count_operation(Operation::Released);
        if self.random.random_bool(0.3) { self.assert_login_closed(&lease) } else { Ok(()) }
    }

    /// The login of an ended lease cannot connect.
    fn assert_login_closed(&self, lease: &Value) -> Result<(), Violation> {
        let began = Instant::now();
        while Session::try_open(lease["url"].as_str().unwrap_or_default()).is_ok() {
            if began.elapsed() > DEADLINE {
                return Err(Violation::Dirty(format!(
                    "{}: the login of an ended lease can connect to {lease}",
                    self.name
                )));
            }
            pause(0.02);
        }
        Ok(())
    }

    fn reset(&mut self, lease: &Value, mut session: Session) -> Result<(Value, Session), Violation> {
        let path = format!("/v1/leases/{}", text(lease, "id"));
        let answer = self.call(&Method::GET, &path, &Value::Null)?;
        let before = self.expect(200, answer)?;
        let generation = before["generation"].as_u64().unwrap_or(0);
        let body = json!({"generation": generation, "wait_seconds": 5});
        let answer = self.call(&Method::POST, &format!("{path}/reset"), &body)?;
        let after = self.expect(200, answer)?;
        if after["generation"].as_u64() != Some(generation + 1) || after["url"] != lease["url"] {
            return Err(Violation::Answer(format!("{}: a reset of {lease} returned {after}", self.name)));
        }
        if session.try_run("select 1").is_ok() {
            return Err(Violation::Dirty(format!(
                "{}: a session on the old database of {lease} is still open",
                self.name
            )));
        }
        self.load.ledger.count_operation(Operation::Reset);
        let session = self.enter_clean(&after)?;
        Ok((after, session))
    }

    fn keep(&self, lease: &Value) -> Result<(), Violation> {
        let body = json!({"seconds": 1, "reason": "inspection"});
        let answer = self.call(&Method::POST, &format!("/v1/leases/{}/keep", text(lease, "id")), &body)?;
        self.expect(200, answer)?;
        self.load.ledger.count_operation(Operation::Kept);
        Ok(())
    }

    /// A killed client: it neither renews nor releases, and its lease expires.
    fn abandon_one(&mut self) -> Result<(), Violation> {
        let mut acquire_request = self.acquire_request("gw9");
        acquire_request["ttl_seconds"] = json!(2);
        let lease = self.acquire(&acquire_request)?;
        self.load.ledger.count_operation(Operation::Abandoned);
        // During slow faults the lease may already have expired, so a rejected login is no violation.
        if let Ok(mut session) = Session::try_open(lease["url"].as_str().unwrap_or_default())
            && let Ok(seen) = contents::describe(&mut session, true)
            && seen != self.load.expected
        {
            let difference = contents::difference(self.load.expected, &seen);
            return Err(Violation::Dirty(format!("{}: {lease}\n{difference}", self.name)));
        }
        Ok(())
    }

    /// Acquires a batch of two leases.
    fn acquire_two(&mut self) -> Result<(), Violation> {
        let mut acquire_request = self.acquire_request("gw0");
        if let Some(fields) = acquire_request.as_object_mut() {
            fields.remove("wait_seconds");
        }
        let mut other = acquire_request.clone();
        other["alias"] = json!("second");
        let both = json!({"leases": [acquire_request, other], "wait_seconds": 5});
        let answer = self.call(&Method::POST, "/v1/leases/batch", &both)?;
        if !matches!(answer.0, 200 | 201) {
            return Err(Violation::Answer(format!("{}: {answer:?}", self.name)));
        }
        for lease in answer.1["leases"].as_array().into_iter().flatten() {
            self.load.ledger.count_operation(Operation::Granted);
            let mut session = self.enter_clean(lease)?;
            self.write_and_read_back(lease, &mut session)?;
            let answer = self.call(&Method::DELETE, &format!("/v1/leases/{}", text(lease, "id")), &json!({}))?;
            self.expect(204, answer)?;
            self.load.ledger.count_operation(Operation::Released);
        }
        Ok(())
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The pause of a caller or between two polls; no test waits for its end.
fn pause(seconds: f64) {
    // The pauses define the load of a caller.
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
