//! The faults of the soak test: one entry for each kind; each lasts a few seconds.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use pgdibs_failpoint::Failpoint;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::clients::send;
use pgdibs_testing::end_to_end::{Daemon, Link, Place, Proxy, Session, Stage, signal, until};

/// The objects that a fault affects.
pub(super) struct Scene<'a> {
    pub(super) stage: &'a Stage,
    pub(super) daemon: Option<Daemon>,
    pub(super) proxy: &'a Proxy,
    pub(super) random: StdRng,
}

/// One kind of fault.
pub(super) struct RandomFault {
    pub(super) name: &'static str,
    pub(super) act: fn(&mut Scene<'_>),
}

pub(super) const RANDOM_FAULTS: &[RandomFault] = &[
    RandomFault { name: "daemon killed", act: |scene| scene.restart(Signal::SIGKILL) },
    RandomFault { name: "daemon killed at a step", act: |scene| scene.kill_at_a_step() },
    RandomFault { name: "daemon ended with SIGTERM", act: |scene| scene.restart(Signal::SIGTERM) },
    RandomFault { name: "daemon stopped", act: |scene| scene.stop_for_a_while() },
    RandomFault { name: "a second daemon", act: |scene| scene.second_daemon() },
    RandomFault { name: "server crashed", act: |scene| scene.server_down(|stage| stage.cluster.crash()) },
    RandomFault { name: "server restarted", act: |scene| scene.server_down(|stage| stage.cluster.stop()) },
    RandomFault { name: "postmaster killed", act: |scene| scene.server_down(|stage| stage.cluster.kill_postmaster()) },
    RandomFault { name: "backend killed", act: |scene| scene.kill_a_backend() },
    RandomFault { name: "sessions of the daemon ended", act: |scene| scene.end_daemon_sessions() },
    RandomFault { name: "connections used up", act: |scene| scene.use_all_connections() },
    RandomFault { name: "connections cut", act: |scene| scene.proxy.cut_once() },
    RandomFault { name: "connections stalled", act: |scene| scene.link(Link::Stalled) },
    RandomFault { name: "connections slow", act: |scene| scene.link(Link::Slow(Duration::from_millis(80))) },
    RandomFault { name: "connections dead", act: |scene| scene.freeze() },
    RandomFault { name: "spare dropped", act: |scene| scene.externally(&["drop database \"{}\""]) },
    RandomFault {
        name: "spare renamed",
        act: |scene| {
            scene.externally(&["alter database \"{}\" rename to \"foreign_{}\"", "drop database \"foreign_{}\""])
        },
    },
    RandomFault {
        name: "drop of a spare interrupted",
        act: |scene| scene.externally(&["update pg_database set datconnlimit = -2 where datname = '{}'"]),
    },
    RandomFault { name: "spare entered", act: |scene| scene.enter_a_spare() },
    RandomFault { name: "ready database entered", act: |scene| scene.enter_a_ready_one() },
    RandomFault {
        name: "prepared transaction left",
        act: |scene| {
            scene.leave_behind(|_, tenant| {
                tenant.run("begin; insert into witness (note) values ('prepared'); prepare transaction 'left'");
            })
        },
    },
    RandomFault {
        name: "stuck in COPY",
        act: |scene| scene.leave_behind(|_, tenant| tenant.begin_copy_in("copy witness (note) from stdin")),
    },
    RandomFault {
        name: "subscription left",
        act: |scene| {
            scene.leave_behind(|boss, _| {
        boss.run("create subscription left_over connection 'dbname=nowhere' publication p with (connect = false, slot_name = 'far')");
    })
        },
    },
    RandomFault {
        name: "template flag left",
        act: |scene| {
            scene.leave_behind(|boss, _| {
                let name = boss.text("select current_database()");
                boss.run(&format!("alter database \"{name}\" is_template true"));
            })
        },
    },
    RandomFault { name: "clients hang up", act: |scene| scene.hang_up() },
];

/// The duration of a fault.
fn last(time: Duration) {
    // The test observes the callers during this time.
    std::thread::sleep(time);
}

impl Scene<'_> {
    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a daemon")
    }

    /// Ends the fault: opens the link and starts the server.
    pub(super) fn settle(&mut self) {
        self.proxy.set(Link::Open);
        self.proxy.close_frozen();
    }

    fn restart(&mut self, how: Signal) {
        let daemon = self.daemon();
        daemon.signal(how);
        let _status = daemon.ended();
        self.daemon = Some(self.stage.start(&[]));
    }

    /// The callers trigger most failpoints; some may not be reached for a while.
    fn kill_at_a_step(&mut self) {
        let met = |point: &&Failpoint| {
            let group = point.name().split(':').next().unwrap_or_default();
            ["start", "reconcile", "clone", "fill", "return", "acquire", "reset", "release", "drop"].contains(&group)
                && **point != Failpoint::DropClosed
        };
        let points: Vec<&Failpoint> = Failpoint::ALL.iter().filter(met).collect();
        let point = points.choose(&mut self.random).expect("a point").name();
        let armed = format!("{point}@{}=kill", self.random.random_range(1..4));
        self.daemon().signal(Signal::SIGTERM);
        let _status = self.daemon().ended();
        let mut dying = self.stage.start(&[("PGDIBS_TEST_FAILPOINT", &armed)]);
        let began = std::time::Instant::now();
        // A start passes its failpoints only once, so the daemon may survive.
        while dying.has_ended().is_none() && began.elapsed() < Duration::from_secs(5) {
            last(Duration::from_millis(10));
        }
        dying.signal(Signal::SIGKILL);
        let _status = dying.ended();
        self.daemon = Some(self.stage.start(&[]));
    }

    fn stop_for_a_while(&mut self) {
        let time = Duration::from_millis(self.random.random_range(300..4000));
        self.daemon().signal(Signal::SIGSTOP);
        last(time);
        self.daemon().signal(Signal::SIGCONT);
    }

    fn second_daemon(&mut self) {
        let place = Place::on(&self.stage.cluster.url());
        let mut second = place.daemon(&[]);
        last(Duration::from_millis(self.random.random_range(0..1000)));
        second.signal(*[Signal::SIGKILL, Signal::SIGTERM].choose(&mut self.random).expect("two"));
        let _status = second.ended();
    }

    fn server_down(&mut self, how: fn(&Stage)) {
        how(self.stage);
        last(Duration::from_millis(self.random.random_range(0..1500)));
        self.stage.cluster.start_again();
    }

    fn boss(&self) -> Session {
        until("a session of the superuser", || {
            Session::try_open(&self.stage.cluster.url()).map_err(|error| error.to_string())
        })
    }

    fn kill_a_backend(&mut self) {
        let pids = self.boss().list(
            "select pid::text from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()",
        );
        if let Some(pid) = pids.choose(&mut self.random).and_then(|pid| pid.parse().ok()) {
            signal(pid, Signal::SIGKILL);
        }
        drop(self.boss());
    }

    fn end_daemon_sessions(&mut self) {
        self.boss().run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgdibs%'");
    }

    fn use_all_connections(&mut self) {
        let mut boss = self.boss();
        boss.run("do $$ begin create role hog login password 'h'; exception when duplicate_object then null; end $$");
        let url = self.stage.cluster.url_of("hog", "h", "postgres");
        let began = std::time::Instant::now();
        let mut hogs = Vec::new();
        while began.elapsed() < Duration::from_millis(1500) {
            match Session::try_open(&url) {
                Ok(session) => hogs.push(session),
                Err(_) => last(Duration::from_millis(50)),
            }
        }
    }

    fn link(&mut self, how: Link) {
        self.proxy.set(how);
        last(Duration::from_millis(self.random.random_range(200..3000)));
        self.proxy.set(Link::Open);
    }

    fn freeze(&mut self) {
        self.proxy.freeze();
    }

    fn a_database(&self, state: &str) -> Option<String> {
        let mut catalog = Session::try_open(&self.stage.cluster.superuser_url("pgdibs")).ok()?;
        let sql = format!(
            "select name from databases where state = '{state}' and pool = '{}' order by random() limit 1",
            self.stage.pool
        );
        catalog.try_text(&sql).ok().filter(|name| name != "-")
    }

    /// Changes a spare by its name, which no other state has; if the spare has moved on, the statement fails without effect.
    fn externally(&mut self, statements: &[&str]) {
        let Some(name) = self.a_database("spare") else { return };
        let mut boss = self.boss();
        for statement in statements {
            if boss.try_run(&statement.replace("{}", &name)).is_err() {
                return;
            }
        }
    }

    fn enter_a_spare(&mut self) {
        let Some(name) = self.a_database("spare") else { return };
        if self.boss().try_run(&format!("alter database \"{name}\" allow_connections true")).is_ok()
            && let Ok(mut inside) = Session::try_open(&self.stage.cluster.superuser_url(&name))
        {
            let _may_have_ended = inside.try_run("create table externally (n int)");
        }
    }

    /// The database may be leased by now, so this only connects and disconnects.
    fn enter_a_ready_one(&mut self) {
        if let Some(name) = self.a_database("ready") {
            let _or_not = Session::try_open(&self.stage.cluster.superuser_url(&name));
        }
    }

    /// A holder that leaves objects or sessions in its database.
    fn leave_behind(&mut self, leave: fn(&mut Session, &mut Session)) {
        let run = format!("leave_behind-{:x}", self.random.random::<u64>());
        let acquire_request = json!({"pool": self.stage.pool, "fingerprint": "first", "run": run, "holder": "tenant with leftovers", "wait_seconds": 5});
        let lease = until("the tenant has a lease", || {
            let answer = self.stage.api.try_call(pgdibs::Method::POST, "/v1/leases", Some(&acquire_request))?;
            if matches!(answer.status, 200 | 201) { Ok(answer.body) } else { Err(answer.body.to_string()) }
        });
        let mut boss = self.stage.cluster.superuser(text(&lease, "database"));
        let mut tenant = Session::open(text(&lease, "url"));
        leave(&mut boss, &mut tenant);
        until("the tenant releases its lease", || {
            let answer =
                self.stage.api.try_call(pgdibs::Method::DELETE, &format!("/v1/leases/{}", text(&lease, "id")), None)?;
            if answer.status == 204 { Ok(()) } else { Err(answer.body.to_string()) }
        });
    }

    fn hang_up(&mut self) {
        let acquire_request =
            json!({"pool": self.stage.pool, "fingerprint": "first", "holder": "impatient client", "wait_seconds": 60});
        let waiters: Vec<TcpStream> =
            (0..20).map(|_| send(&self.stage.api, "POST", "/v1/leases", &acquire_request)).collect();
        last(Duration::from_millis(self.random.random_range(0..500)));
        drop(waiters);
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
