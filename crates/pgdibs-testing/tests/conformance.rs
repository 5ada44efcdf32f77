//! The conformance suite on the fake backend.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pgdibs_core::lease::Credentials;
use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_testing::conformance::{ConformanceServer, Suite};
use pgdibs_testing::fake::{FakeBackend, Session};

/// Polls a future of the fake backend once; they are all ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future of the fake backend is pending"),
    }
}

struct FakeServer(FakeBackend);

impl ConformanceServer for FakeServer {
    type Session = Session;

    async fn connect(&self, credentials: &Credentials, database: &str) -> Result<Session, String> {
        self.0.connect(credentials, database)
    }

    async fn disconnect(&self, session: Session) {
        self.0.disconnect(session);
    }

    async fn write(&self, session: &mut Session, row: &str) -> Result<(), String> {
        self.0.write(*session, row)
    }

    async fn read(&self, session: &mut Session) -> Result<Vec<String>, String> {
        self.0.read(*session)
    }

    async fn connect_externally(&self, database: &str) {
        assert!(self.0.open_externally(database), "there is no database {database}");
        let session = self.0.connect_as_superuser(database).expect("an open database");
        self.0.disconnect(session);
    }

    async fn create_externally(&self, database: &str) {
        self.0.create_externally(database).expect("an unused name");
    }

    async fn drop_externally(&self, database: &str) {
        self.0.drop_externally(database);
    }

    async fn rename_externally(&self, database: &str, to: &str) {
        self.0.rename_externally(database, to).expect("an unused name");
    }

    async fn logins(&self) -> Vec<String> {
        self.0.logins().into_iter().filter(|name| RoleName::is_generated_login(name)).collect()
    }

    async fn has_owner(&self, role: &RoleName) -> bool {
        self.0.owners().iter().any(|owner| owner == role.as_str())
    }
}

fn suite() -> Suite<FakeBackend, FakeServer> {
    let backend = FakeBackend::new();
    Suite::new(backend.clone(), FakeServer(backend), PoolName::parse("suite").expect("a valid name"))
}

macro_rules! check {
    ($module:ident, $name:ident) => {
        #[test]
        fn $name() {
            let suite = suite();
            ready(pgdibs_testing::conformance::$module::$name(&suite));
        }
    };
}

pgdibs_testing::for_each_conformance_check!(check);
