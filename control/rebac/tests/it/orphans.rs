use plexsphere_kernel::tasks::Task as _;
use plexsphere_rebac::OrphanSweeper;

use crate::world::{TREE, World, world};

async fn tuples(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM rebac.tuples").fetch_one(&world.db.pool()).await.unwrap()
}

#[tokio::test]
async fn a_tuple_of_what_is_gone_goes_when_it_has_been_one_for_a_whole_period() {
    let world = world().await;
    world.grant(&TREE).await;
    world.grant(&["user:9#parent@platform:plexsphere", "user:8#parent@domain:1", "domain:1#admin@user:9"]).await;
    world.grant(&["node:4#operator@user:8", "platform:plexsphere#admin@user:9"]).await;
    let whole = tuples(&world).await;
    let sweeper = OrphanSweeper::new(world.database.clone());
    for _ in 0..2 {
        assert_eq!(sweeper.run().await.unwrap().done, 0, "what stands stays");
    }
    // One grant to nobody, one on nothing, and one of a user whose place is missing and comes back.
    world.grant(&["project:2#viewer@user:77", "project:78#viewer@user:9"]).await;
    world.revoke(&["user:8#parent@domain:1"]).await;
    assert_eq!(sweeper.run().await.unwrap().done, 0, "its place has time to come back");
    world.grant(&["user:8#parent@domain:1"]).await;
    let replica = world.replica().await;
    assert_eq!(sweeper.run().await.unwrap().done, 2);
    assert_eq!(tuples(&world).await, whole);
    assert_eq!(replica.fresh().await.unwrap().tuples(), usize::try_from(whole).unwrap());
    assert_eq!(sweeper.run().await.unwrap().done, 0);
}
