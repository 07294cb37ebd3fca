//! Keys that rest in OpenBao, on a real server.

use std::sync::Arc;

use plexsphere_kernel::custody::openbao::{OpenBao, Transit};
use plexsphere_kernel::seams::SigningKeys as _;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{EnvelopeSigner as _, Fault, SignerFault};
use plexsphere_signing::{Custody, KeyState, RotateError, Signing, SigningRetireSweeper, SigningSelfcheck};
use plexsphere_testkit::{TestOpenBao, openbao, openbao_own};
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::{Envelope, attach_signature, parse_public_key};
use serde_json::{Value, json};

use crate::rig::{Rig, destroy, now, rotate, unsigned};

/// A rig whose new keys rest in this server, and the folder of its token.
struct Bao {
    rig: Rig,
    server: TestOpenBao,
    folder: tempfile::TempDir,
}

impl Bao {
    async fn over(server: TestOpenBao) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), server.token()).unwrap();
        let transit = Transit::new(client(&server, &folder), server.transit_mount());
        let rig = Rig::of(|opening| {
            opening.custody = Custody::Transit;
            opening.transit = Some(transit);
        });
        Self { rig: rig.await, server, folder }
    }

    fn transit(&self) -> Transit {
        Transit::new(client(&self.server, &self.folder), self.server.transit_mount())
    }

    /// The key of a Domain as OpenBao shows it.
    async fn key(&self, domain: DomainId) -> Value {
        let path = format!("{}/keys/plexsphere-signing-{domain}", self.server.transit_mount());
        client(&self.server, &self.folder).read::<Value>(&path).await.unwrap()["data"].clone()
    }

    async fn seal(&self) {
        client(&self.server, &self.folder).write("sys/seal", &json!({})).await.unwrap();
    }
}

fn client(server: &TestOpenBao, folder: &tempfile::TempDir) -> OpenBao {
    OpenBao::new(&server.url(), &folder.path().join("token")).unwrap()
}

/// Signs an envelope under `kid` and verifies it with the stored public half.
async fn signs(signing: &Signing, domain: DomainId, kid: &str) -> Result<(), SignerFault> {
    let bytes = unsigned(domain, kid).canonical_bytes().unwrap();
    let signature = signing.sign(domain, kid, &bytes).await?;
    let keys = signing.keys(domain).await.unwrap();
    let key = keys.iter().find(|key| key.kid == kid).unwrap();
    let envelope = Envelope::parse(&attach_signature(&bytes, &signature)).unwrap();
    envelope.verify(&parse_public_key(&key.public_key).unwrap()).unwrap();
    Ok(())
}

#[tokio::test]
async fn a_key_rests_in_openbao_alone_and_signs_what_its_public_half_verifies() {
    let bao = Bao::over(openbao().await).await;
    let domain = bao.rig.domain().await;
    let kid = bao.rig.kid(domain).await;
    signs(&bao.rig.signing, domain, &kid).await.unwrap();
    let key = bao.key(domain).await;
    assert_eq!((&key["type"], &key["exportable"]), (&json!("ed25519"), &json!(false)));
    assert_eq!(key["latest_version"], 1);
    let row: (String, Option<Vec<u8>>, Option<i32>) =
        sqlx::query_as("SELECT custody, wrapped_seed, transit_version FROM signing.keys")
            .fetch_one(&bao.rig.database.pool())
            .await
            .unwrap();
    assert_eq!(row, ("transit".to_owned(), None, Some(1)));
    let check = SigningSelfcheck::new(Arc::clone(&bao.rig.signing));
    assert_eq!(check.run().await.unwrap().health, plexsphere_kernel::tasks::Health::Good);
}

#[tokio::test]
async fn a_rotation_moves_a_domain_from_one_custody_to_the_other_and_back() {
    let bao = Bao::over(openbao().await).await;
    let wrapped = bao.rig.another_of(|opening| opening.transit = Some(bao.transit())).await;
    let domain = DomainId::mint(now());
    let mut tx = bao.rig.db.begin().await.unwrap();
    wrapped.ensure(&mut tx, domain, now()).await.unwrap();
    tx.commit().await.unwrap();
    let first = bao.rig.kid(domain).await;
    let second = rotate(&bao.rig, domain, false).await.unwrap();
    // The old key signs its own rotation; the new one, from OpenBao, what comes later.
    signs(&bao.rig.signing, domain, &first).await.unwrap();
    bao.rig.announce(domain, &second.kid, 1).await;
    signs(&bao.rig.signing, domain, &second.kid).await.unwrap();
    let back = plexsphere_signing::Rotation {
        domain,
        actor: plexsphere_kernel::Subject::System(uuid::Uuid::from_u128(1)),
        correlation_id: plexsphere_wire::CorrelationId::mint(now()),
        force: true,
        longest_session: std::time::Duration::ZERO,
    };
    let third = wrapped.rotate(back).await.unwrap();
    bao.rig.announce(domain, &third.kid, 2).await;
    signs(&wrapped, domain, &third.kid).await.unwrap();
    let custodies: Vec<_> = wrapped.keys(domain).await.unwrap().iter().map(|key| key.custody).collect();
    assert_eq!(custodies, [Custody::Wrapped, Custody::Transit, Custody::Wrapped]);
    // Whoever pins the key in OpenBao is told under it.
    assert!(wrapped.announce(domain, &second.kid).await.unwrap().is_some());
}

#[tokio::test]
async fn destroyed_versions_are_forgotten_by_openbao_in_order_only() {
    let bao = Bao::over(openbao().await).await;
    let domain = bao.rig.domain().await;
    let first = bao.rig.kid(domain).await;
    let second = rotate(&bao.rig, domain, false).await.unwrap().kid;
    bao.rig.announce(domain, &second, 1).await;
    let third = rotate(&bao.rig, domain, true).await.unwrap().kid;
    bao.rig.announce(domain, &third, 2).await;
    destroy(&bao.rig, domain, &second).await.unwrap();
    let key = bao.key(domain).await;
    assert_eq!((&key["latest_version"], &key["min_available_version"]), (&json!(3), &json!(0)), "the first one lives");
    assert_eq!(bao.rig.signing.announce(domain, &second).await.unwrap(), None);
    assert!(bao.rig.signing.announce(domain, &first).await.unwrap().is_some());
    destroy(&bao.rig, domain, &first).await.unwrap();
    assert_eq!(bao.key(domain).await["min_available_version"], 3);
    signs(&bao.rig.signing, domain, &third).await.unwrap();
    let untrimmed = "SELECT count(*) FROM signing.keys WHERE state = 'destroyed' AND trimmed_at IS NULL";
    let pool = bao.rig.database.pool();
    assert_eq!(sqlx::query_scalar::<_, i64>(untrimmed).fetch_one(&pool).await.unwrap(), 0);
    // The current key, which has a successor in OpenBao at once.
    let fourth = destroy(&bao.rig, domain, &third).await.unwrap().unwrap();
    assert_eq!(bao.key(domain).await["min_available_version"], 4);
    signs(&bao.rig.signing, domain, &fourth).await.unwrap();
}

#[tokio::test]
async fn all_keys_of_a_deleted_domain_are_destroyed_with_it_and_forgotten_by_openbao_afterwards() {
    let bao = Bao::over(openbao().await).await;
    let domain = bao.rig.domain().await;
    let kid = bao.rig.kid(domain).await;
    rotate(&bao.rig, domain, false).await.unwrap();
    let mut tx = bao.rig.db.begin().await.unwrap();
    bao.rig.signing.forget(&mut tx, domain, now()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(signs(bao.rig.another().await.as_ref(), domain, &kid).await.is_err());
    SigningRetireSweeper::new(Arc::clone(&bao.rig.signing)).run().await.unwrap();
    let key = bao.key(domain).await;
    assert_eq!((&key["latest_version"], &key["min_available_version"]), (&json!(3), &json!(3)), "only an unused one");
}

#[tokio::test]
async fn while_openbao_is_sealed_nothing_is_signed_and_the_public_half_is_still_there() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("openbao did not sign");
    let mut bao = Bao::over(openbao_own().await).await;
    let domain = bao.rig.domain().await;
    let kid = bao.rig.kid(domain).await;
    bao.seal().await;
    let unavailable = |fault: &SignerFault| matches!(fault, SignerFault::Unavailable(_));
    assert!(signs(&bao.rig.signing, domain, &kid).await.is_err_and(|fault| unavailable(&fault)));
    assert!(bao.rig.signing.announce(domain, &kid).await.unwrap().is_none(), "none is due");
    // What a registration does.
    let mut tx = bao.rig.db.begin().await.unwrap();
    bao.rig.signing.ensure(&mut tx, domain, now()).await.unwrap();
    assert_eq!(bao.rig.signing.current(&mut tx, domain).await.unwrap().kid, kid);
    // What would need a fresh key waits.
    let fresh = bao.rig.signing.ensure(&mut tx, DomainId::mint(now()), now()).await;
    assert!(matches!(fresh, Err(Fault::Signer(fault)) if unavailable(&fault)));
    tx.rollback().await.unwrap();
    let rotated = rotate(&bao.rig, domain, false).await;
    assert!(matches!(rotated, Err(RotateError::Fault(Fault::Signer(fault))) if unavailable(&fault)));
    assert_eq!(bao.rig.states(domain).await, [KeyState::Current]);
    // The check says so and takes no replica out of service.
    let check = SigningSelfcheck::new(Arc::clone(&bao.rig.signing));
    assert_eq!(check.run().await.unwrap().health, plexsphere_kernel::tasks::Health::Good);
    bao.server.restart().await;
    signs(&bao.rig.signing, domain, &kid).await.unwrap();
}

#[tokio::test]
async fn a_server_with_another_key_of_the_same_name_signs_nothing_that_nodes_would_refuse() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("does not fit its public half");
    let bao = Bao::over(openbao().await).await;
    let domain = bao.rig.domain().await;
    let kid = bao.rig.kid(domain).await;
    let elsewhere = Bao::over(openbao().await).await;
    elsewhere.transit().next_version(&format!("plexsphere-signing-{domain}")).await.unwrap();
    let strange = bao.rig.another_of(|opening| opening.transit = Some(elsewhere.transit())).await;
    let signed = signs(&strange, domain, &kid).await;
    assert!(matches!(&signed, Err(SignerFault::Unavailable(why)) if why.contains("another key")), "{signed:?}");
    let none = bao.rig.another().await;
    assert!(matches!(signs(&none, domain, &kid).await, Err(SignerFault::Unavailable(_))));
    let checked = SigningSelfcheck::new(strange).run().await.unwrap();
    assert_ne!(checked.health, plexsphere_kernel::tasks::Health::Good);
}
