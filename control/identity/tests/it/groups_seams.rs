//! Groups as sign-in and Invitations fill them.

use plexsphere_identity::{Actor, GroupRefusal};
use plexsphere_kernel::{Clock as _, Subject};
use plexsphere_wire::{DomainId, GroupId, IdpBindingId, PrincipalId};
use uuid::Uuid;

use crate::callers::user;
use crate::groups::{NOBODY, add, binding, filled, made, manual};
use crate::tuples::tuples_on;
use crate::world::{World, world};

fn actor(world: &World) -> Actor {
    Actor::background(Subject::System(Uuid::from_u128(1)), world.clock.now())
}

#[tokio::test]
async fn a_sign_in_brings_a_persons_memberships_in_line_and_nobody_elses() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (bound, shared) = (binding(&world, Some(&domain)).await, binding(&world, None).await);
    let (person, other) = (user(&world, Some(&domain)).await, user(&world, Some(&domain)).await);
    let ops = made(&world, filled(&domain, "ops", &bound, "ops")).await;
    let dev = made(&world, filled(&domain, "dev", &bound, "Dev")).await;
    let elsewhere = made(&world, filled(&domain, "shared", &shared, "ops")).await;
    let by_hand = made(&world, manual(&domain, "hand")).await;
    for (group, source) in [(&ops, "idp"), (&elsewhere, "idp"), (&by_hand, "manual")] {
        assert_eq!(add(&world, group, "user", other, source).await.status, 201);
    }
    for group in [&elsewhere, &by_hand] {
        let source = if group == &by_hand { "manual" } else { "idp" };
        assert_eq!(add(&world, group, "user", person, source).await.status, 201);
    }
    let place: (DomainId, IdpBindingId) = (domain.parse().unwrap(), bound.parse().unwrap());
    let person_id = PrincipalId::from_uuid(person);
    let pool = world.database.pool();
    let groups_of = async || -> Vec<String> {
        sqlx::query_scalar(
            "SELECT g.slug FROM identity.memberships m JOIN identity.groups g ON g.id = m.group_id
             WHERE m.principal_id = $1 ORDER BY 1",
        )
        .bind(person)
        .fetch_all(&world.database.pool())
        .await
        .unwrap()
    };
    for (claims, expected, rows) in [
        (vec!["ops", "Dev", "unknown"], vec!["dev", "hand", "ops", "shared"], 2),
        (vec!["ops", "Dev"], vec!["dev", "hand", "ops", "shared"], 2),
        (vec!["dev", "OPS"], vec!["hand", "shared"], 4),
        (vec![], vec!["hand", "shared"], 4),
    ] {
        let claims: Vec<String> = claims.into_iter().map(str::to_owned).collect();
        let mut tx = world.db.begin().await.unwrap();
        world.identity.groups().sync(&mut tx, &actor(&world), place, person_id, &claims).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(groups_of().await, expected, "{claims:?}");
        assert_eq!(world.rows("group.member-sync").await.len(), rows, "{claims:?}");
        let tuples = tuples_on(&pool, &format!("group:{dev}")).await;
        let has = tuples.contains(&format!("member@user:{person}"));
        assert_eq!(has, expected.contains(&"dev"), "{tuples:?}");
    }
    let theirs = format!("SELECT count(*) FROM identity.memberships WHERE principal_id = '{other}'");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(theirs)).fetch_one(&pool).await.unwrap();
    assert_eq!(count, 3);
}

#[tokio::test]
async fn an_invitation_enlists_a_person_by_hand_and_a_refusal_leaves_its_transaction_good() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let bound = binding(&world, Some(&domain)).await;
    let hand: GroupId = made(&world, manual(&domain, "hand")).await.parse().unwrap();
    let idp: GroupId = made(&world, filled(&domain, "idp", &bound, "ops")).await.parse().unwrap();
    let foreign: GroupId = made(&world, manual(&other, "hand")).await.parse().unwrap();
    let home: DomainId = domain.parse().unwrap();
    let person = PrincipalId::from_uuid(user(&world, Some(&domain)).await);
    let stranger = PrincipalId::from_uuid(user(&world, Some(&other)).await);
    let (groups, actor) = (world.identity.groups(), actor(&world));
    let mut tx = world.db.begin().await.unwrap();
    for group in [foreign, NOBODY.parse().unwrap()] {
        let refused = groups.enlist(&mut tx, &actor, (home, group), person).await;
        assert!(matches!(refused, Err(GroupRefusal::NotFound)));
    }
    let refused = groups.enlist(&mut tx, &actor, (home, idp), person).await;
    assert!(matches!(refused, Err(GroupRefusal::SourceDiffers)));
    let refused = groups.enlist(&mut tx, &actor, (home, hand), stranger).await;
    assert!(matches!(refused, Err(GroupRefusal::Stranger)));
    assert!(groups.enlist(&mut tx, &actor, (home, hand), person).await.unwrap());
    assert!(!groups.enlist(&mut tx, &actor, (home, hand), person).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships").await, 1);
    assert_eq!(world.rows("group.member-add").await.len(), 1);
    let tuples = tuples_on(&world.database.pool(), &format!("group:{hand}")).await;
    assert!(tuples.contains(&format!("member@user:{person}")), "{tuples:?}");
}
