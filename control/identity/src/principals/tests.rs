use std::time::Duration;

use plexsphere_wire::{Timestamp, TokenId};

use super::cache::{Cache, TTL};
use super::model::{ApiTokenText, expiry};

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_790_000_000)
}

#[test]
fn a_token_reads_back_what_it_renders_and_nothing_else() {
    let token = ApiTokenText::mint(TokenId::mint(now())).unwrap();
    let text = token.render("dev");
    assert_eq!(text.len(), "psk_dev_".len() + 26 + 1 + 52);
    let back = ApiTokenText::parse(&text).unwrap();
    assert_eq!((back.id, back.secret()), (token.id, token.secret()));
    let upper = text.to_uppercase();
    let longer = format!("{}a", text.as_str());
    let other = text.replace("psk_", "pat_");
    let no_env = text.replace("_dev_", "__");
    for bad in ["", "psk_", "psk_dev_", &upper, &longer, &other, &no_env, &text[..text.len() - 1]] {
        assert!(ApiTokenText::parse(bad).is_none(), "{bad}");
    }
    assert!(!format!("{token:?}").contains(&text[text.len() - 20..]));
}

#[test]
fn a_token_made_by_a_token_never_outlives_it() {
    assert_eq!(expiry(now(), 100, Some(now().plus(Duration::from_secs(7)))), now().plus(Duration::from_secs(7)));
    assert_eq!(expiry(now(), 5, Some(now().plus(Duration::from_secs(7)))), now().plus(Duration::from_secs(5)));
    assert_eq!(expiry(now(), 5, None), now().plus(Duration::from_secs(5)));
}

#[test]
fn what_was_loaded_before_an_eviction_is_not_remembered_after_it() {
    let cache: Cache<u8, u8> = Cache::new();
    let epoch = cache.epoch();
    cache.put(epoch, 1, 10, now());
    assert_eq!(cache.get(&1, now()), Some(10));
    assert_eq!(cache.get(&1, now().plus(TTL)), None);
    cache.evict(&1);
    cache.put(epoch, 1, 10, now());
    assert_eq!(cache.get(&1, now()), None);
}
