use plexsphere_kernel::EnvelopeSigner as _;
use plexsphere_signing::KeyState;
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::EventType;

use crate::rig::{Rig, destroy, now, rotate, unsigned};
use crate::sessions::token;

/// A key with what it signed while it was current and announced: an envelope, and a `signing_key_rotated`.
struct Key {
    kid: String,
    signed: [(Vec<u8>, [u8; 64]); 2],
}

async fn current(rig: &Rig, domain: DomainId) -> Key {
    let kid = rig.kid(domain).await;
    let mut rotation = unsigned(domain, &kid);
    rotation.event = EventType::SigningKeyRotated;
    rotation.payload = format!(r#"{{"key_id":"{kid}"}}"#);
    let sign = async |bytes: Vec<u8>| {
        let signature = rig.signing.sign(domain, &kid, &bytes).await.unwrap();
        (bytes, signature)
    };
    let envelope = sign(unsigned(domain, &kid).canonical_bytes().unwrap()).await;
    let rotation = sign(rotation.canonical_bytes().unwrap()).await;
    Key { kid, signed: [envelope, rotation] }
}

/// What a key may do: sign envelopes, sign sessions, announce the newest key; and what is believed: its envelopes, its
/// announcements.
async fn may(rig: &Rig, domain: DomainId, key: &Key) -> [bool; 5] {
    let signing = &rig.signing;
    let envelope = unsigned(domain, &key.kid).canonical_bytes().unwrap();
    let verify = async |(bytes, signature): &(Vec<u8>, [u8; 64])| {
        signing.verify(domain, &key.kid, bytes, signature, now()).await.is_ok()
    };
    [
        signing.sign(domain, &key.kid, &envelope).await.is_ok(),
        signing.sign_session(domain, &token(domain, &key.kid)).await.is_ok(),
        signing.announce(domain, &key.kid).await.unwrap().is_some(),
        verify(&key.signed[0]).await,
        verify(&key.signed[1]).await,
    ]
}

#[tokio::test]
async fn each_state_signs_and_is_believed_in_what_its_row_of_the_table_says_and_nothing_else() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("the signer refused");
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let mut keys = vec![current(&rig, domain).await];
    for sequence in 1..=3 {
        let rotated = rotate(&rig, domain, true).await.unwrap();
        // Until the rotation is on the stream the old key signs envelopes, and the new one sessions alone.
        let (old, new) = (
            keys.last().unwrap(),
            Key { kid: rotated.kid.clone(), signed: [(Vec::new(), [0; 64]), (Vec::new(), [0; 64])] },
        );
        assert_eq!(may(&rig, domain, old).await, [true, false, false, true, true], "previous, still announced");
        assert_eq!(may(&rig, domain, &new).await[..3], [false, true, false], "current, not yet announced");
        rig.announce(domain, &rotated.kid, sequence).await;
        keys.push(current(&rig, domain).await);
    }
    destroy(&rig, domain, &keys[0].kid).await.unwrap();
    let table = [
        (KeyState::Destroyed, [false, false, false, false, false]),
        (KeyState::Retired, [false, false, true, false, true]),
        (KeyState::Previous, [false, false, true, true, true]),
        (KeyState::Current, [true, true, false, true, true]),
    ];
    assert_eq!(rig.states(domain).await, table.map(|(state, _)| state));
    for (key, (state, row)) in keys.iter().zip(table) {
        assert_eq!(may(&rig, domain, key).await, row, "{state:?}");
    }
}
