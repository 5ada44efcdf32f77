//! Callers: what test sessions do, several at a time. Each compares every database that it gets with the template, then dirties
//! it, and makes sure that what it wrote is there for as long as its lease lives. Their choices come from a seed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgdibs::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::ledger::{Complaint, Deed, Ledger};
use super::{Api, DEADLINE, Session, StopOnDrop, contents};

/// What the callers of one test have in common.
pub(crate) struct Load<'a> {
    pub(crate) api: &'a Api,
    pub(crate) pool: &'a str,
    /// The lines of a clean database.
    pub(crate) expected: &'a [String],
    pub(crate) ledger: &'a Ledger,
    pub(crate) seed: u64,
    /// Seconds between two things that a caller does, at most.
    pub(crate) pause: f64,
}

impl Load<'_> {
    /// Runs something while that many callers are busy; they finish what they are at before this returns.
    pub(crate) fn during<T>(&self, callers: u64, work: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        let round = self.ledger.next_round();
        std::thread::scope(|scope| {
            // Dropped also when the work fails: the callers stop in any case.
            let _stopping = StopOnDrop(&stop);
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

/// What a tenant leaves behind, beside its row in `witness`: each is a line that differs.
const DIRT: [&str; 9] = [
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
    /// A session that it did not close when its lease ended.
    left_open: Option<Session>,
}

impl Caller<'_> {
    fn work(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let result = match self.random.random_range(0..20) {
                0 => self.abandon_one(),
                1 => self.take_two(),
                _ => self.one_lease(),
            };
            if let Err(complaint) = result {
                self.load.ledger.complain(complaint);
            }
        }
    }

    /// Asks until somebody answers; what a client does while its daemon is restarted. Only what the contract calls worth a retry
    /// is tried again.
    fn ask(&self, method: &Method, path: &str, body: &Value) -> Result<(u16, Value), Complaint> {
        let began = Instant::now();
        loop {
            let last = match self.load.api.try_call(method.clone(), path, Some(body)) {
                Ok(answer) if answer.retry_after.is_some() => {
                    self.load.ledger.note_refusal(&answer.body);
                    answer.body.to_string()
                }
                Ok(answer) => return Ok((answer.status, answer.body)),
                Err(error) => error,
            };
            if began.elapsed() > DEADLINE {
                return Err(Complaint::Answer(format!("{}: none to {method} {path} but {last}", self.name)));
            }
            pause(0.02);
        }
    }

    fn expect(&self, status: u16, answer: (u16, Value)) -> Result<Value, Complaint> {
        if answer.0 == status { Ok(answer.1) } else { Err(Complaint::Answer(format!("{}: {answer:?}", self.name))) }
    }

    /// A session on the database of a live lease. It may take a while: the server may be starting.
    fn enter(&self, lease: &Value) -> Result<Session, Complaint> {
        let began = Instant::now();
        let (url, path) = (lease["url"].as_str().unwrap_or_default(), format!("/v1/leases/{}", text(lease, "id")));
        loop {
            let error = match Session::try_open(url) {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            // A login that is refused is either a moment of a reset or of a start, or the end.
            if let Ok(seen) = self.load.api.try_call(Method::GET, &path, None)
                && (seen.status == 404 || (seen.status == 200 && seen.body["state"] != "live"))
            {
                return Err(Complaint::Lost(format!("{}: {lease} is over: {}", self.name, seen.body)));
            }
            if began.elapsed() > DEADLINE {
                return Err(Complaint::Lost(format!("{}: {error}: {lease}", self.name)));
            }
            pause(0.02);
        }
    }

    /// Nobody was here before, and everything is as in the template. Then it is dirtied.
    fn take_over(&mut self, lease: &Value) -> Result<Session, Complaint> {
        loop {
            let mut session = self.enter(lease)?;
            let Ok(seen) = contents::lines(&mut session, true) else { continue };
            if seen != self.load.expected {
                let difference = contents::difference(self.load.expected, &seen);
                return Err(Complaint::Dirty(format!("{}: {lease}\n{difference}", self.name)));
            }
            let dirt = DIRT[self.random.random_range(0..DIRT.len())];
            let note = format!("insert into witness (note) values ('{} in {}'); {dirt}", self.name, lease["id"]);
            if session.try_run(&note).is_ok() {
                return Ok(session);
            }
            // The server died in the middle. What was not answered may be there or not, so nothing can be said of this one.
            return self.enter(lease);
        }
    }

    /// A row that was written and answered is there for as long as the lease lives.
    fn write_and_look(&self, lease: &Value, session: &mut Session) -> Result<(), Complaint> {
        let mark = format!("{:016x}", rand::random::<u64>());
        while session.try_run(&format!("insert into witness (note) values ('{mark}')")).is_err() {
            *session = self.enter(lease)?;
        }
        loop {
            match session.try_text(&format!("select count(*) > 0 from witness where note = '{mark}'")) {
                Ok(there) if there == "true" => return Ok(()),
                Ok(_) => return Err(Complaint::Lost(format!("{}: its rows are gone from {lease}", self.name))),
                Err(_) => *session = self.enter(lease)?,
            }
        }
    }

    fn acquire_request(&mut self, worker: &str) -> Value {
        let run = format!("{:016x}", self.random.random::<u64>());
        let (pool, holder) = (self.load.pool, &self.name);
        json!({"pool": pool, "fingerprint": "first", "run": run, "worker": worker, "holder": holder, "wait_seconds": 5})
    }

    fn acquire(&mut self, acquire_request: &Value) -> Result<Value, Complaint> {
        let answer = self.ask(&Method::POST, "/v1/leases", acquire_request)?;
        if !matches!(answer.0, 200 | 201) {
            return Err(Complaint::Answer(format!("{}: {answer:?}", self.name)));
        }
        self.load.ledger.note(Deed::Granted);
        Ok(answer.1)
    }

    fn one_lease(&mut self) -> Result<(), Complaint> {
        let worker = format!("gw{}", self.random.random_range(0..4));
        let acquire_request = self.acquire_request(&worker);
        let mut lease = self.acquire(&acquire_request)?;
        let mut session = self.take_over(&lease)?;
        for _ in 0..self.random.random_range(0..4) {
            pause(self.random.random_range(0.0..=self.load.pause));
            match self.random.random_range(0..6) {
                0 => (lease, session) = self.reset(&lease, session)?,
                1 => self.keep(&lease)?,
                _ => {
                    self.write_and_look(&lease, &mut session)?;
                    let path = format!("/v1/leases/{}/renew", text(&lease, "id"));
                    let (status, seen) = self.ask(&Method::POST, &path, &json!({}))?;
                    if (status, &seen["state"]) != (200, &json!("live")) {
                        return Err(Complaint::Lost(format!("{}: {lease}: {seen}", self.name)));
                    }
                }
            }
        }
        if self.random.random_bool(0.5) {
            drop(session);
        } else {
            // The session is still there when its lease ends.
            self.left_open = Some(session);
        }
        if self.random.random_bool(0.8) {
            let answer = self.ask(&Method::DELETE, &format!("/v1/leases/{}", text(&lease, "id")), &json!({}))?;
            self.expect(204, answer)?;
        } else {
            let answer =
                self.ask(&Method::DELETE, &format!("/v1/runs/{}", text(&acquire_request, "run")), &json!({}))?;
            self.expect(200, answer)?;
        }
        self.load.ledger.note(Deed::Released);
        if self.random.random_bool(0.3) { self.must_be_shut(&lease) } else { Ok(()) }
    }

    /// The login of a lease that is over opens nothing.
    fn must_be_shut(&self, lease: &Value) -> Result<(), Complaint> {
        let began = Instant::now();
        while Session::try_open(lease["url"].as_str().unwrap_or_default()).is_ok() {
            if began.elapsed() > DEADLINE {
                return Err(Complaint::Dirty(format!(
                    "{}: the login of a lease that is over opens {lease}",
                    self.name
                )));
            }
            pause(0.02);
        }
        Ok(())
    }

    fn reset(&mut self, lease: &Value, mut session: Session) -> Result<(Value, Session), Complaint> {
        let path = format!("/v1/leases/{}", text(lease, "id"));
        let answer = self.ask(&Method::GET, &path, &Value::Null)?;
        let before = self.expect(200, answer)?;
        let generation = before["generation"].as_u64().unwrap_or(0);
        let body = json!({"generation": generation, "wait_seconds": 5});
        let answer = self.ask(&Method::POST, &format!("{path}/reset"), &body)?;
        let after = self.expect(200, answer)?;
        if after["generation"].as_u64() != Some(generation + 1) || after["url"] != lease["url"] {
            return Err(Complaint::Answer(format!("{}: a reset of {lease} gave {after}", self.name)));
        }
        if session.try_run("select 1").is_ok() {
            return Err(Complaint::Dirty(format!("{}: a session on the old database of {lease} goes on", self.name)));
        }
        self.load.ledger.note(Deed::Reset);
        let session = self.take_over(&after)?;
        Ok((after, session))
    }

    fn keep(&self, lease: &Value) -> Result<(), Complaint> {
        let body = json!({"seconds": 1, "reason": "a look later"});
        let answer = self.ask(&Method::POST, &format!("/v1/leases/{}/keep", text(lease, "id")), &body)?;
        self.expect(200, answer)?;
        self.load.ledger.note(Deed::Kept);
        Ok(())
    }

    /// A client that is killed: it neither renews nor releases. Its lease ends by itself.
    fn abandon_one(&mut self) -> Result<(), Complaint> {
        let mut acquire_request = self.acquire_request("gw9");
        acquire_request["ttl_seconds"] = json!(2);
        let lease = self.acquire(&acquire_request)?;
        self.load.ledger.note(Deed::Abandoned);
        // Its time may be over already when faults are slow, so whoever cannot enter has nothing to complain of.
        if let Ok(mut session) = Session::try_open(lease["url"].as_str().unwrap_or_default())
            && let Ok(seen) = contents::lines(&mut session, true)
            && seen != self.load.expected
        {
            let difference = contents::difference(self.load.expected, &seen);
            return Err(Complaint::Dirty(format!("{}: {lease}\n{difference}", self.name)));
        }
        Ok(())
    }

    /// Two databases at once, all or none.
    fn take_two(&mut self) -> Result<(), Complaint> {
        let mut acquire_request = self.acquire_request("gw0");
        if let Some(fields) = acquire_request.as_object_mut() {
            fields.remove("wait_seconds");
        }
        let mut other = acquire_request.clone();
        other["alias"] = json!("second");
        let both = json!({"leases": [acquire_request, other], "wait_seconds": 5});
        let answer = self.ask(&Method::POST, "/v1/leases/batch", &both)?;
        if !matches!(answer.0, 200 | 201) {
            return Err(Complaint::Answer(format!("{}: {answer:?}", self.name)));
        }
        for lease in answer.1["leases"].as_array().into_iter().flatten() {
            self.load.ledger.note(Deed::Granted);
            let mut session = self.take_over(lease)?;
            self.write_and_look(lease, &mut session)?;
            let answer = self.ask(&Method::DELETE, &format!("/v1/leases/{}", text(lease, "id")), &json!({}))?;
            self.expect(204, answer)?;
            self.load.ledger.note(Deed::Released);
        }
        Ok(())
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// A caller thinks, or a loop looks again. Nothing waits for this to pass.
fn pause(seconds: f64) {
    // Load is what happens in time; without it every caller would hammer.
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
