use plexsphere_kernel::seams::DomainEntries as _;
use plexsphere_kernel::{EnvelopeSigner as _, SignerFault};
use plexsphere_signing::{DestroyError, KeyState};
use plexsphere_wire::envelope::EventType;

use crate::rig::{Rig, destroy, rotate, unsigned};

#[tokio::test]
async fn a_destroyed_current_key_signs_nothing_more_and_its_successor_is_announced_at_once_and_silently() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let old = rig.kid(domain).await;
    let new = destroy(&rig, domain, &old).await.unwrap().unwrap();
    assert_eq!(rig.states(domain).await, [KeyState::Destroyed, KeyState::Current]);
    assert_eq!(rig.kid(domain).await, new);
    let under_old = unsigned(domain, &old).canonical_bytes().unwrap();
    assert_eq!(rig.signing.sign(domain, &old, &under_old).await, Err(SignerFault::NotAnnounced));
    let under_new = unsigned(domain, &new).canonical_bytes().unwrap();
    rig.signing.sign(domain, &new, &under_new).await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM signing.keys WHERE kid = $1 AND wrapped_seed IS NOT NULL")
        .bind(&old)
        .fetch_one(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(kept, 0);
    let sent: i64 = sqlx::query_scalar("SELECT count(*) FROM kernel.outbox WHERE wire_type IS NOT NULL")
        .fetch_one(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(sent, 0, "nothing that the old key could sign is published");
    assert_eq!(rig.signing.announce(domain, &old).await.unwrap(), None);
    let entry = rig.signing.domain_entry(domain).await.unwrap().unwrap();
    assert_eq!(entry.keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), [new.as_str()]);
    assert!(rig.audit.0.lock().unwrap().contains(&"signing_key.destroy".to_owned()));
    assert!(matches!(destroy(&rig, domain, &old).await, Err(DestroyError::State(_))));
    assert!(matches!(destroy(&rig, domain, "did:web:elsewhere#x-1").await, Err(DestroyError::NoKey)));
}

#[tokio::test]
async fn a_key_that_is_destroyed_around_a_rotation_that_waits_leaves_a_key_that_signs() {
    let rig = Rig::new().await;
    let (first, second) = (rig.domain().await, rig.domain().await);
    // The previous key, which is still the announced one.
    let rotated = rotate(&rig, first, false).await.unwrap();
    assert_eq!(destroy(&rig, first, &rotated.previous_kid).await.unwrap(), None);
    assert_eq!(rig.kid(first).await, rotated.kid);
    // The current key, which is not announced yet: the rotation that names it must not make it so.
    let rotated = rotate(&rig, second, false).await.unwrap();
    let new = destroy(&rig, second, &rotated.kid).await.unwrap().unwrap();
    let mut tx = rig.db.begin().await.unwrap();
    rig.signing.announced_moved(&mut tx, second, &rotated.kid, 7).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rig.kid(second).await, new);
    let mut waiting = unsigned(second, &new);
    waiting.event = EventType::SigningKeyRotated;
    waiting.payload = format!(r#"{{"key_id":"{}"}}"#, rotated.kid);
    let signed = rig.signing.sign(second, &new, &waiting.canonical_bytes().unwrap()).await;
    assert_eq!(signed, Err(SignerFault::Destroyed), "nobody is told to believe the destroyed key");
    // Whoever pins an older key that lives is told of the new one, wherever its cursor stands.
    assert!(rig.signing.announce(second, &rotated.previous_kid).await.unwrap().is_some());
    let entry = rig.signing.domain_entry(second).await.unwrap().unwrap();
    assert!(entry.announced_seq > u64::from(u32::MAX));
}
