//! Waiting for what happens elsewhere, without guessing how long it takes.

use std::time::{Duration, Instant};

/// How long [`eventually!`](crate::eventually) waits: `PLEXSPHERE_TEST_PATIENCE` in seconds, else 20 s.
#[must_use]
pub fn patience() -> Duration {
    let named = std::env::var("PLEXSPHERE_TEST_PATIENCE").ok();
    Duration::from_secs(named.and_then(|text| text.trim().parse().ok()).unwrap_or(20))
}

/// Small growing pauses, until patience runs out. What [`eventually!`](crate::eventually) is made of.
#[derive(Debug)]
pub struct Pauses {
    until: Instant,
    next: Duration,
}

impl Pauses {
    /// Starts to wait.
    #[must_use]
    pub fn new() -> Self {
        Self { until: Instant::now() + patience(), next: Duration::from_millis(1) }
    }

    /// Pauses; `false` when patience has run out. Real time counts, also in a runtime whose clock is paused.
    pub async fn pause(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_millis(100));
        true
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self::new()
    }
}

/// Evaluates a condition, which may contain `.await`, until it is true; panics with `what` when patience runs out.
///
/// ```
/// # use plexsphere_testkit::eventually;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut seen = 0;
/// eventually!({ seen += 1; seen == 3 }, "it is looked at three times");
/// # });
/// ```
#[macro_export]
macro_rules! eventually {
    ($condition:expr, $($what:tt)+) => {{
        let mut pauses = $crate::Pauses::new();
        while !$condition {
            if !pauses.pause().await {
                panic!("not within {:?}: {}", $crate::patience(), format_args!($($what)+));
            }
        }
    }};
}
