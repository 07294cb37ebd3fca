//! Groups within Groups against a naive model of what may lie in what.

use std::collections::HashSet;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::groups::{add, made, manual, remove};
use crate::world::{World, world};

const GROUPS: usize = 13;
const DEEPEST: usize = 10;

/// Edges from the outer Group to the inner one.
type Edges = HashSet<(usize, usize)>;

/// Groups on the longest way inwards from `group`, itself counted; `None` when the way comes back.
fn inwards(edges: &Edges, group: usize, seen: &mut Vec<usize>) -> Option<usize> {
    if seen.contains(&group) {
        return None;
    }
    seen.push(group);
    let mut longest = 0;
    for (_, inner) in edges.iter().filter(|(outer, _)| *outer == group) {
        longest = longest.max(inwards(edges, *inner, seen)?);
    }
    seen.pop();
    Some(longest + 1)
}

fn is_sound(edges: &Edges) -> bool {
    (0..GROUPS).all(|group| inwards(edges, group, &mut Vec::new()).is_some_and(|depth| depth <= DEEPEST))
}

async fn groups(world: &World) -> Vec<String> {
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let mut ids = Vec::new();
    for index in 0..GROUPS {
        ids.push(made(world, manual(&domain, &format!("g{index}"))).await);
    }
    ids
}

async fn stored(world: &World, ids: &[String]) -> Edges {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT group_id::text, principal_id::text FROM identity.memberships WHERE principal_kind = 'group'",
    )
    .fetch_all(&world.database.pool())
    .await
    .unwrap();
    let index = |id: &String| ids.iter().position(|known| known == id).unwrap();
    rows.iter().map(|(outer, inner)| (index(outer), index(inner))).collect()
}

/// The same numbers in every run.
fn random() -> impl FnMut(usize) -> usize {
    let mut source = StdRng::seed_from_u64(7);
    move |below| source.random_range(0..below)
}

#[tokio::test]
async fn what_may_lie_in_what_is_what_a_naive_model_says() {
    let world = world().await;
    let ids = groups(&world).await;
    let (mut edges, mut random) = (Edges::new(), random());
    let (mut refused, mut deepest) = (0, 0);
    for step in 0..300 {
        let (outer, inner) = (random(GROUPS), random(GROUPS));
        // Mostly from lower to higher numbers, so that long chains come about and not only cycles.
        let (outer, inner) = if step % 4 == 0 { (outer, inner) } else { (outer.min(inner), outer.max(inner)) };
        if step % 7 == 0 && edges.remove(&(outer, inner)) {
            assert_eq!(remove(&world, &ids[outer], "group", &ids[inner]).await.status, 204);
            continue;
        }
        let mut wanted = edges.clone();
        let fresh = wanted.insert((outer, inner));
        let sound = is_sound(&wanted);
        let expected = match (fresh, sound) {
            (true, true) => (201, ""),
            (false, _) => (409, "membership_conflict"),
            (true, false) => (400, "invalid_membership"),
        };
        let answer = add(&world, &ids[outer], "group", &ids[inner], "manual").await;
        assert_eq!(answer.refusal(), expected, "{step}: {outer} ⊃ {inner} beside {edges:?}");
        if sound {
            edges = wanted;
        } else {
            refused += 1;
        }
        let depth = (0..GROUPS).filter_map(|group| inwards(&edges, group, &mut Vec::new())).max().unwrap();
        deepest = deepest.max(depth);
    }
    assert_eq!(stored(&world, &ids).await, edges);
    assert!(refused > 20 && deepest == DEEPEST, "the walk met both limits: {refused} {deepest}");
}

#[tokio::test]
async fn however_many_nestings_race_no_cycle_and_no_depth_comes_of_it() {
    let world = world().await;
    let ids = groups(&world).await;
    let mut random = random();
    let pairs: Vec<(usize, usize)> = (0..120).map(|_| (random(GROUPS), random(GROUPS))).collect();
    let answers =
        join_all(pairs.iter().map(|(outer, inner)| add(&world, &ids[*outer], "group", &ids[*inner], "manual")));
    let mut made = 0;
    for answer in answers.await {
        match answer.refusal() {
            (201, _) => made += 1,
            (400, "invalid_membership") | (409, "membership_conflict") => {}
            other => panic!("{other:?}"),
        }
    }
    let edges = stored(&world, &ids).await;
    assert_eq!(edges.len(), made);
    assert!(made > 10 && is_sound(&edges), "{edges:?}");
}
