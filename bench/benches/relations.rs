//! The relation engine at a million tuples with Groups nested ten deep: checks, lookups, the next state, and the first.
//!
//! Before criterion's own measurements it prints what criterion does not: the quantiles of single checks, bytes per tuple,
//! and how long a graph takes to build and a write to become visible.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a bench that does not run must say so at once"
)]

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plexsphere_rebac::engine::{self, Limits, Question, ResourcesQuestion, SubjectsQuestion};
use plexsphere_rebac::{
    Caveat, CaveatInputs, Change, Generations, Graph, NameId, ObjectId, ObjectKey, Schema, Scope, SubjectKey, Tuple,
};
use plexsphere_wire::DomainId;
use uuid::Uuid;

const DOMAINS: u64 = 10;
const PROJECTS: u64 = 1_000;
const NODES_PER_PROJECT: u64 = 240;
/// Groups in a row, each a member of the one before.
const NESTED: u64 = 10;
/// Rows of Groups that operate a Project.
const ROWS_PER_PROJECT: u64 = 3;
/// Users of the innermost Group of a row, and of each other.
const INNERMOST: u64 = 40;
const OTHERS: u64 = 4;
const CHECKS: usize = 200_000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

struct World {
    schema: &'static Schema,
    tuples: Vec<Tuple>,
}

impl World {
    fn key(&self, kind: &str, number: u64) -> ObjectKey {
        // Spread as version-7 ids are: by time in front, by chance behind.
        let behind = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let id = Uuid::from_u64_pair(0x019a_0000_0000_7000 + number, behind | 1);
        ObjectKey { kind: self.schema.kind_id(kind).expect("a kind"), id: ObjectId::new(id) }
    }

    fn name(&self, name: &str) -> NameId {
        self.schema.name_id(name).expect("a name")
    }

    fn put(&mut self, object: ObjectKey, relation: &str, subject: SubjectKey) {
        let relation = self.name(relation);
        assert!(self.schema.admits(object.kind, relation, subject.form()), "a tuple of the schema");
        self.tuples.push(Tuple { object, relation, subject, caveat: None });
    }

    fn group(&self, project: u64, row: u64, depth: u64) -> ObjectKey {
        self.key("group", (project * ROWS_PER_PROJECT + row) * NESTED + depth)
    }

    /// A user of the innermost Group of a row.
    fn user(&self, project: u64, row: u64, user: u64) -> ObjectKey {
        self.key("user", (project * ROWS_PER_PROJECT + row) * INNERMOST + user)
    }

    fn build() -> Self {
        let mut world = Self { schema: Schema::built_in(), tuples: Vec::new() };
        let platform = ObjectKey { id: ObjectId::SINGLETON, ..world.key("platform", 0) };
        let (member, read) = (world.name("member"), world.name("read"));
        for domain in 0..DOMAINS {
            let domain = world.key("domain", domain);
            world.put(domain, "parent", SubjectKey::object(platform));
            world.put(platform, "tenant", SubjectKey::userset(domain, read));
        }
        for project in 0..PROJECTS {
            let (key, domain) = (world.key("project", project), world.key("domain", project % DOMAINS));
            world.put(key, "parent", SubjectKey::object(domain));
            for node in project * NODES_PER_PROJECT..(project + 1) * NODES_PER_PROJECT {
                let (resource, node) = (world.key("resource", node), world.key("node", node));
                world.put(resource, "parent", SubjectKey::object(key));
                world.put(node, "parent", SubjectKey::object(resource));
                world.put(key, "node", SubjectKey::object(node));
            }
            for row in 0..ROWS_PER_PROJECT {
                let outermost = world.group(project, row, 0);
                world.put(key, "operator", SubjectKey::userset(outermost, member));
                for depth in 0..NESTED {
                    let group = world.group(project, row, depth);
                    world.put(group, "parent", SubjectKey::object(domain));
                    if depth > 0 {
                        let around = world.group(project, row, depth - 1);
                        world.put(around, "member", SubjectKey::userset(group, member));
                    }
                    let users = if depth + 1 == NESTED { INNERMOST } else { OTHERS };
                    for user in 0..users {
                        let user = world.user(project, row, user);
                        world.put(group, "member", SubjectKey::object(user));
                    }
                }
            }
        }
        world
    }

    /// Half of them granted ten Groups and three objects deep, half of strangers to the Project.
    fn questions(&self, count: usize) -> Vec<(SubjectKey, NameId, ObjectKey)> {
        let mut numbers = Numbers(7);
        let act = self.name("act");
        (0..count)
            .map(|question| {
                let project = numbers.below(PROJECTS);
                let of =
                    if question % 2 == 0 { project } else { (project + 1 + numbers.below(PROJECTS - 1)) % PROJECTS };
                // The last users are in the innermost Group only.
                let user = OTHERS + numbers.below(INNERMOST - OTHERS);
                let user = self.user(of, numbers.below(ROWS_PER_PROJECT), user);
                let node = self.key("node", project * NODES_PER_PROJECT + numbers.below(NODES_PER_PROJECT));
                (SubjectKey::object(user), act, node)
            })
            .collect()
    }
}

/// As many as a lookup of the largest Project in here looks at, and no limit of time for a machine under load.
const LOOKUP: Limits = Limits { edges: 1_000_000, time: Duration::from_secs(10), ..Limits::USUAL };

/// A platform with this many tenants.
const TENANTS: u64 = 10_000;

/// Whether a stranger reads the platform. The way to the reason of the denial goes past every tenant, because who may read
/// one is tied to the platform.
fn tenants() -> (Graph, Question<'static>) {
    static INPUTS: std::sync::LazyLock<CaveatInputs> = std::sync::LazyLock::new(CaveatInputs::default);
    let schema = Schema::built_in();
    let name = |name: &str| schema.name_id(name).expect("a name of the schema");
    let key = |kind: &str, id: u64| ObjectKey {
        kind: schema.kind_id(kind).expect("a kind of the schema"),
        id: if kind == "platform" { ObjectId::SINGLETON } else { ObjectId::new(Uuid::from_u128(u128::from(id) + 1)) },
    };
    let platform = key("platform", 0);
    let tuple = |object, relation: &str, subject| Tuple { object, relation: name(relation), subject, caveat: None };
    let tenant = |id: u64| {
        let domain = key("domain", id);
        [
            tuple(domain, "parent", SubjectKey::object(platform)),
            tuple(platform, "tenant", SubjectKey::userset(domain, name("read"))),
            tuple(domain, "admin", SubjectKey::object(key("user", id))),
        ]
    };
    let graph = Graph::build(schema, (0..TENANTS).flat_map(tenant).collect(), Generations::new());
    let stranger = SubjectKey::object(key("user", TENANTS + 1));
    let question = Question { subject: stranger, name: name("read"), object: platform, inputs: &INPUTS };
    (graph, question)
}

/// A grant that holds from one network only, four objects below the one that it is on, and an asker from there.
fn conditional(world: &World) -> (Tuple, CaveatInputs) {
    let subject = SubjectKey::object(world.key("user", 98_000_000));
    let prefixes = vec!["10.0.0.0/8".parse().expect("a prefix")];
    let caveat = Some(std::sync::Arc::new(Caveat::FromCidr { allowed_cidrs: prefixes }));
    let tuple = Tuple { object: world.key("project", 7), relation: world.name("operator"), subject, caveat };
    (tuple, CaveatInputs { client_ip: "10.1.2.3".parse().ok(), ..CaveatInputs::default() })
}

fn ask(graph: &Graph, (subject, name, object): (SubjectKey, NameId, ObjectKey), inputs: &CaveatInputs) -> bool {
    let question = Question { subject, name, object, inputs };
    engine::check(graph, &question, Limits::USUAL).expect("within the limits").is_allowed()
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

/// How long this thread has run, where the system tells.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}

/// The quantiles of each kind of question, and all of them in a row.
fn quantiles(graph: &Graph, questions: &[(SubjectKey, NameId, ObjectKey)]) {
    let inputs = CaveatInputs::default();
    for (which, skip) in [("granted ten groups deep", 0), ("denied to a stranger", 1)] {
        let mut took: Vec<Duration> = Vec::with_capacity(questions.len() / 2);
        for question in questions.iter().skip(skip).step_by(2) {
            let began = Instant::now();
            let allowed = black_box(ask(graph, *question, &inputs));
            took.push(began.elapsed());
            assert_eq!(allowed, skip == 0, "the questions are what they say");
        }
        took.sort();
        let at = |share: usize| took[(took.len() - 1) * share / 1_000];
        println!("check, {which}: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    }
    let (began, worked) = (Instant::now(), processor_time());
    let allowed = questions.iter().filter(|question| ask(graph, **question, &inputs)).count();
    let rate = |took: Duration| questions.len() as f64 / took.as_secs_f64();
    let (passed, worked) = (began.elapsed(), processor_time().saturating_sub(worked));
    println!(
        "checks on one core, {allowed} of {} granted: {:.0} per second that passed",
        questions.len(),
        rate(passed)
    );
    if !worked.is_zero() {
        println!("the same by processor time, as on a machine with nothing else to do: {:.0} per second", rate(worked));
    }
}

fn writes(graph: &Graph, world: &World) {
    let held = arc_swap::ArcSwap::from_pointee(graph.clone());
    let domain = Scope(Some(DomainId::from_uuid(world.key("domain", 0).id.uuid())));
    let mut took = Vec::new();
    for number in 0..20_000 {
        let subject = SubjectKey::object(world.key("user", 10_000_000 + number));
        let object = world.group(number % PROJECTS, 0, 9);
        let tuple = Tuple { object, relation: world.name("member"), subject, caveat: None };
        let question = (subject, world.name("act"), world.key("node", (number % PROJECTS) * NODES_PER_PROJECT));
        let began = Instant::now();
        held.store(std::sync::Arc::new(held.load().with(&[Change::Put(tuple)], &[(domain, number + 1)])));
        let allowed = ask(&held.load(), question, &CaveatInputs::default());
        took.push(began.elapsed());
        assert!(allowed, "a write is visible to the next check");
    }
    took.sort();
    println!("a write, with the check that sees it: p50 {:?}, p99 {:?}", took[10_000], took[19_800]);
}

fn relations(criterion: &mut Criterion) {
    let world = World::build();
    let (before, copies) = (resident_bytes(), world.tuples.clone());
    let began = Instant::now();
    let graph = Graph::build(world.schema, copies, Generations::new());
    let (built, after) = (began.elapsed(), resident_bytes());
    let tuples = graph.tuples();
    println!("{tuples} tuples: built in {built:?}");
    println!(
        "bytes per tuple: {:.1} counted, {:.1} resident with what building left behind",
        graph.heap_bytes() as f64 / tuples as f64,
        after.saturating_sub(before) as f64 / tuples as f64,
    );
    let questions = world.questions(CHECKS);
    quantiles(&graph, &questions);
    writes(&graph, &world);

    let inputs = CaveatInputs::default();
    let direct: HashSet<(ObjectKey, NameId, SubjectKey)> =
        world.tuples.iter().map(|tuple| (tuple.object, tuple.relation, tuple.subject)).collect();
    let mut group = criterion.benchmark_group("relations");
    group.throughput(Throughput::Elements(1));
    let mut next = 0;
    let mut question = || {
        next = (next + 2) % questions.len();
        next
    };
    group.bench_function("baseline: is the very tuple in a hash set", |bencher| {
        bencher.iter(|| {
            let (subject, name, object) = questions[question()];
            black_box(direct.contains(&(object, name, subject)))
        });
    });
    group.bench_function("check, granted ten groups deep", |bencher| {
        bencher.iter(|| black_box(ask(&graph, questions[question()], &inputs)));
    });
    group.bench_function("check, denied to a stranger", |bencher| {
        bencher.iter(|| black_box(ask(&graph, questions[question() + 1], &inputs)));
    });
    let (tuple, from_there) = conditional(&world);
    let below = (tuple.subject, world.name("act"), world.key("node", 7 * NODES_PER_PROJECT));
    let with_condition = graph.with(&[Change::Put(tuple)], &[]);
    group.bench_function("check, granted under a condition that holds", |bencher| {
        assert!(ask(&with_condition, below, &from_there), "the grant holds");
        bencher.iter(|| black_box(ask(&with_condition, below, &from_there)));
    });
    group.bench_function("check, denied because a condition does not hold", |bencher| {
        assert!(!ask(&with_condition, below, &inputs), "nothing is known of the asker");
        bencher.iter(|| black_box(ask(&with_condition, below, &inputs)));
    });
    let (platform, stranger) = tenants();
    group.bench_function("check, denied on a platform with 10,000 tenants", |bencher| {
        let denied = engine::check(&platform, &stranger, Limits::USUAL).expect("a denial is no error");
        assert!(!denied.is_allowed(), "a stranger");
        bencher.iter(|| black_box(engine::check(&platform, &stranger, Limits::USUAL)));
    });
    group.bench_function("the next state after one write", |bencher| {
        let subject = SubjectKey::object(world.key("user", 99_000_000));
        let tuple = Tuple { object: world.group(5, 0, 9), relation: world.name("member"), subject, caveat: None };
        let change = [Change::Put(tuple)];
        bencher.iter(|| black_box(graph.with(&change, &[])));
    });
    group.bench_function("objects of a subject: 240 nodes", |bencher| {
        let (subject, name, node) = questions[0];
        let lookup = ResourcesQuestion { subject, name, kind: node.kind, inputs: &inputs };
        bencher.iter(|| {
            let found = engine::resources(&graph, &lookup, LOOKUP).expect("within the limits");
            assert_eq!(found.len() as u64, NODES_PER_PROJECT, "a project's nodes");
        });
    });
    group.bench_function("subjects of an object: 120 users", |bencher| {
        let (subject, name, object) = questions[0];
        let lookup = SubjectsQuestion { kind: subject.object.kind, name, object, inputs: &inputs };
        bencher.iter(|| {
            let found = engine::subjects(&graph, &lookup, LOOKUP).expect("within the limits");
            assert_eq!(found.len() as u64, INNERMOST * ROWS_PER_PROJECT, "a project's operators");
        });
    });
    group.finish();
}

criterion_group!(benches, relations);
criterion_main!(benches);
