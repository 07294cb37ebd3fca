//! Which unknown keys are worth waiting for. Pure: takes `now`.

use std::collections::HashMap;
use std::time::Duration;

use plexsphere_wire::DomainId;

/// How long a miss is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// The most misses remembered at a time. While so many are, nothing is waited for: that is a flood, and the one consumer
/// of an edge has others to serve.
const MAX_MISSES: usize = 16;

/// The keys that were waited for in vain.
#[derive(Debug, Default)]
pub(super) struct KeyMisses {
    until: HashMap<(DomainId, String), Duration>,
}

impl KeyMisses {
    /// Whether the directory is given a moment to learn of this key.
    pub(super) fn may_wait(&mut self, domain: DomainId, kid: &str, now: Duration) -> bool {
        self.until.retain(|_, until| now < *until);
        self.until.len() < MAX_MISSES && !self.until.contains_key(&(domain, kid.to_owned()))
    }

    /// Notes that the directory did not learn of it.
    pub(super) fn note(&mut self, domain: DomainId, kid: &str, now: Duration) {
        if self.until.len() < MAX_MISSES {
            self.until.insert((domain, kid.to_owned()), now + MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use plexsphere_wire::Timestamp;

    use super::*;

    #[test]
    fn a_key_is_waited_for_once_a_minute_and_so_many_keys_at_a_time() {
        let domain = DomainId::mint(Timestamp::from_unix_seconds(1_700_000_000));
        let at = Duration::from_secs;
        let mut misses = KeyMisses::default();
        assert!(misses.may_wait(domain, "k-1", at(1)));
        misses.note(domain, "k-1", at(1));
        assert!(!misses.may_wait(domain, "k-1", at(60)));
        assert!(misses.may_wait(domain, "k-2", at(60)));
        assert!(misses.may_wait(domain, "k-1", at(61)));
        for number in 0..1_000 {
            misses.note(domain, &format!("k-{number}"), at(100));
        }
        assert_eq!(misses.until.len(), MAX_MISSES);
        assert!(!misses.may_wait(domain, "k-new", at(100)), "a flood of keys is not waited for");
        assert!(misses.may_wait(domain, "k-new", at(160)));
    }
}
