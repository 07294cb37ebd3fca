//! A database of its own, replicas over it, and a clock that the test moves.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_kernel::{
    Clock, Database, MIGRATOR, ObjectRef, Principal, PrincipalScope, RelationTuple, Subject, SubjectRef, TupleWriter,
};
use plexsphere_rebac::{AuthorizerConfig, PgTupleWriter, RelationAuthorizer, Relations};
use plexsphere_testkit::TestDatabase;
use plexsphere_wire::{DomainId, PrincipalId, Timestamp};
use sqlx::migrate::Migrator;
use uuid::Uuid;

pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        let mut now = self.0.lock();
        *now = now.plus(Duration::from_secs(seconds));
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

pub(crate) struct World {
    pub(crate) db: TestDatabase,
    pub(crate) database: Database,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) writer: PgTupleWriter,
    pub(crate) domain: DomainId,
}

/// The kernel's and this context's migrations alone: it stands without the tables of any other.
pub(crate) fn migrator() -> &'static Migrator {
    static OWN: LazyLock<Migrator> = LazyLock::new(|| {
        let own = MIGRATOR.iter().filter(|migration| ["kernel", "rebac"].contains(&migration.description.as_ref()));
        Migrator::with_migrations(own.cloned().collect())
    });
    &OWN
}

pub(crate) async fn world() -> World {
    let db = TestDatabase::with(migrator()).await;
    let database = Database::new(db.pool_as("rebac").await);
    world_on(db, database)
}

pub(crate) fn world_on(db: TestDatabase, database: Database) -> World {
    let clock = Arc::new(TestClock(Mutex::new(Timestamp::from_unix_seconds(1_800_000_000))));
    World { db, database, writer: PgTupleWriter::new(clock.clone()), clock, domain: domain(1) }
}

/// Objects of tests have small numbers for ids, also the Domains.
pub(crate) fn domain(number: u128) -> DomainId {
    DomainId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn object(text: &str) -> ObjectRef {
    let (kind, id) = text.split_once(':').unwrap();
    let kind = KINDS.iter().find(|known| **known == kind).unwrap();
    let id = id.parse().map_or_else(|_| id.to_owned(), |number| Uuid::from_u128(number).to_string());
    ObjectRef { kind, id }
}

const KINDS: [&str; 11] = [
    "platform",
    "domain",
    "project",
    "resource",
    "node",
    "group",
    "user",
    "serviceaccount",
    "secret",
    "cloud",
    "cloud_credential",
];

/// `object#relation@subject`.
pub(crate) fn tuple(line: &str) -> RelationTuple {
    let (left, subject) = line.split_once('@').unwrap();
    let (left, relation) = left.split_once('#').unwrap();
    let subject = match subject.split_once('#') {
        Some((subject, userset)) => SubjectRef::userset(object(subject), userset),
        None => object(subject).into(),
    };
    RelationTuple::new(object(left), relation, subject)
}

pub(crate) fn user(number: u128) -> Principal {
    let subject = Subject::User(PrincipalId::from_uuid(Uuid::from_u128(number)));
    Principal { subject, scope: PrincipalScope::Platform }
}

impl World {
    pub(crate) async fn replica(&self) -> Arc<Relations> {
        Relations::open(self.database.clone(), self.clock.clone()).await.unwrap()
    }

    pub(crate) fn authorizer(&self, relations: &Arc<Relations>) -> RelationAuthorizer {
        RelationAuthorizer::new(Arc::clone(relations), self.clock.clone(), AuthorizerConfig::default())
    }

    /// Writes tuples at home in Domain 1, and those on the platform at home there.
    pub(crate) async fn grant(&self, lines: &[&str]) {
        let mut tx = self.database.begin().await.unwrap();
        let (platform, own): (Vec<_>, Vec<_>) =
            lines.iter().map(|line| tuple(line)).partition(|tuple| tuple.object.kind == "platform");
        self.writer.write(&mut tx, None, &platform).await.unwrap();
        self.writer.write(&mut tx, Some(self.domain), &own).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Writes tuples at home in another Domain.
    pub(crate) async fn grant_in(&self, home: u128, lines: &[&str]) {
        let mut tx = self.database.begin().await.unwrap();
        let tuples: Vec<_> = lines.iter().map(|line| tuple(line)).collect();
        self.writer.write(&mut tx, Some(domain(home)), &tuples).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Until this many sessions of the test's database wait for a lock.
    pub(crate) async fn waiting_for_locks(&self, sessions: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let pool = self.db.pool();
        plexsphere_testkit::eventually!(
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() >= sessions,
            "{sessions} sessions wait for a lock"
        );
    }

    pub(crate) async fn revoke(&self, lines: &[&str]) {
        let mut tx = self.database.begin().await.unwrap();
        let tuples: Vec<_> = lines.iter().map(|line| tuple(line)).collect();
        self.writer.remove(&mut tx, Some(self.domain), &tuples).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// A small tree: platform, Domain 1, Project 2, Resource 3, Node 4.
pub(crate) const TREE: [&str; 5] = [
    "domain:1#parent@platform:plexsphere",
    "platform:plexsphere#tenant@domain:1#read",
    "project:2#parent@domain:1",
    "resource:3#parent@project:2",
    "node:4#parent@resource:3",
];
