//! The conformance suite on the fake backend.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pgdibs_core::lease::Credentials;
use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_testing::conformance::{ConformanceServer, Suite};
use pgdibs_testing::fake::{FakeBackend, Session};

/// Runs a future that never waits, as all of the fake's are.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the fake world never waits"),
    }
}

struct Hands(FakeBackend);

impl ConformanceServer for Hands {
    type Session = Session;

    async fn connect(&self, credentials: &Credentials, database: &str) -> Result<Session, String> {
        self.0.connect(credentials, database)
    }

    async fn disconnect(&self, session: Session) {
        self.0.disconnect(session);
    }

    async fn write(&self, session: &mut Session, mark: &str) -> Result<(), String> {
        self.0.write(*session, mark)
    }

    async fn read(&self, session: &mut Session) -> Result<Vec<String>, String> {
        self.0.read(*session)
    }

    async fn look_into(&self, database: &str) {
        assert!(self.0.open_by_hand(database), "there is no database {database}");
        let session = self.0.connect_as_superuser(database).expect("an open database");
        self.0.disconnect(session);
    }

    async fn create_by_hand(&self, database: &str) {
        self.0.create_by_hand(database).expect("a free name");
    }

    async fn drop_by_hand(&self, database: &str) {
        self.0.drop_by_hand(database);
    }

    async fn rename_by_hand(&self, database: &str, to: &str) {
        self.0.rename_by_hand(database, to).expect("a free name");
    }

    async fn logins(&self) -> Vec<String> {
        self.0.logins().into_iter().filter(|name| RoleName::is_login_of_ours(name)).collect()
    }

    async fn has_owner(&self, role: &RoleName) -> bool {
        self.0.owners().iter().any(|owner| owner == role.as_str())
    }
}

fn suite() -> Suite<FakeBackend, Hands> {
    let backend = FakeBackend::new();
    Suite::new(backend.clone(), Hands(backend), PoolName::parse("suite").expect("a valid name"))
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
