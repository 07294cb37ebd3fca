//! Where a Node stands in its stream, and whether frames come once and in order.

/// How a frame's sequence stands to the frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Above everything before.
    Next,
    /// Seen before.
    Repeated,
    /// Below the highest seen and not the same: the stream went back.
    Backwards,
    /// The frame carried no readable sequence.
    Missing,
}

/// The highest sequence seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    last: Option<u64>,
    first_of_connection: bool,
}

impl Cursor {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None, first_of_connection: false }
    }

    /// What `Last-Event-ID` says at the next connect; `None` asks for the tail.
    #[must_use]
    pub const fn last(&self) -> Option<u64> {
        self.last
    }

    /// A stream has opened.
    pub const fn connected(&mut self) {
        self.first_of_connection = true;
    }

    /// Takes the sequence of a frame. An announcement made for this connection is its first frame and may stand at the
    /// cursor itself, because it is no message of the stream.
    pub fn advance(&mut self, sequence: Option<u64>, announcement: bool) -> Order {
        let first = std::mem::take(&mut self.first_of_connection);
        let Some(sequence) = sequence else { return Order::Missing };
        match self.last {
            Some(last) if sequence == last && first && announcement => Order::Next,
            Some(last) if sequence == last => Order::Repeated,
            Some(last) if sequence < last => Order::Backwards,
            Some(_) | None => {
                self.last = Some(sequence);
                Order::Next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // I3
    #[test]
    fn frames_after_a_reconnect_continue_above_the_cursor() {
        let mut cursor = Cursor::new();
        cursor.connected();
        assert_eq!(cursor.advance(Some(41), false), Order::Next);
        assert_eq!(cursor.last(), Some(41));
        cursor.connected();
        assert_eq!(cursor.advance(Some(42), false), Order::Next);
        assert_eq!(cursor.advance(Some(42), false), Order::Repeated);
        assert_eq!(cursor.advance(Some(40), false), Order::Backwards);
        assert_eq!(cursor.advance(None, false), Order::Missing);
        assert_eq!(cursor.last(), Some(42));
    }

    #[test]
    fn an_announcement_may_stand_at_the_cursor_as_first_frame_only() {
        let mut cursor = Cursor::new();
        cursor.connected();
        cursor.advance(Some(7), false);
        cursor.connected();
        assert_eq!(cursor.advance(Some(7), true), Order::Next);
        assert_eq!(cursor.advance(Some(7), true), Order::Repeated);
    }
}
