//! A set of sequences that lie close together, a bit each.

/// Sequences from the first seen on.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The word, of 64 sequences, in which the first bit lies.
    first_word: u64,
    words: Vec<u64>,
}

impl Sequences {
    pub(super) fn insert(&mut self, sequence: u64) {
        let word = sequence / 64;
        if self.words.is_empty() {
            self.first_word = word;
        }
        if word < self.first_word {
            let room = usize::try_from(self.first_word - word).unwrap_or(0);
            self.words.splice(0..0, std::iter::repeat_n(0, room));
            self.first_word = word;
        }
        let place = usize::try_from(word - self.first_word).unwrap_or(usize::MAX);
        if place >= self.words.len() {
            self.words.resize(place + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(place) {
            *bits |= 1 << (sequence % 64);
        }
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        let place = (sequence / 64).checked_sub(self.first_word).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.words.get(place)).is_some_and(|bits| bits >> (sequence % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_also_below_its_first() {
        let mut set = Sequences::default();
        for sequence in [1_000, 1_001, 70, 5_000, 0] {
            set.insert(sequence);
        }
        let held: Vec<u64> = (0..6_000).filter(|sequence| set.contains(*sequence)).collect();
        assert_eq!(held, [0, 70, 1_000, 1_001, 5_000]);
        assert!(!Sequences::default().contains(0));
    }
}
