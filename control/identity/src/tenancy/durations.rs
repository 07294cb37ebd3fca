//! Compact durations such as `30s`, `5m`, `1h30m` and `1.5s`, and the reachability policy made of three of them.

use std::time::Duration;

use plexsphere_kernel::seams::ReachabilityPolicy;

/// The longest text that is read.
const MAX_TEXT: usize = 64;
/// The most digits behind the point that count.
const MAX_FRACTION: usize = 9;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

const MIN_INTERVAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(3_600);

/// Reads a signless compact duration: numbers with optional fractions, each with a unit of `ns us µs ms s m h`; or `0`.
/// `None` for anything else, and for more than about 584 years.
#[must_use]
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > MAX_TEXT {
        return None;
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (amount, behind) = part(rest)?;
        nanos = nanos.checked_add(amount)?;
        rest = behind;
    }
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// One number with its unit, in nanoseconds, and what follows.
fn part(text: &str) -> Option<(u128, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at_checked(digits(text))?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(digits(rest))?,
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Two-letter units first: `ms` begins like `m`.
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", NANOS_PER_SECOND),
        ("m", 60 * NANOS_PER_SECOND),
        ("h", 3_600 * NANOS_PER_SECOND),
    ];
    let (unit, rest) = UNITS.iter().find_map(|(word, unit)| Some((*unit, rest.strip_prefix(word)?)))?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..fraction.len().min(MAX_FRACTION)).unwrap_or("");
    let parts = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some((whole.checked_mul(unit)?.checked_add(fraction.checked_mul(unit)? / parts)?, rest))
}

/// Renders as seconds: `300s` when whole, else with the shortest fraction, `1.5s`. Reads back to the same value.
#[must_use]
pub(crate) fn render(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        return format!("{}s", duration.as_secs());
    }
    let fraction = format!("{:09}", duration.subsec_nanos());
    format!("{}.{}s", duration.as_secs(), fraction.trim_end_matches('0'))
}

/// Reads a policy: three durations, or three zeros for the default. `None` when a rule is broken: the interval lies in
/// 10 s to 1 h, `stale_after` is at least three of it, `unreachable_after` at least two of that, both at most 1 h.
#[must_use]
pub(crate) fn policy(
    heartbeat_interval: &str,
    stale_after: &str,
    unreachable_after: &str,
) -> Option<ReachabilityPolicy> {
    let policy = ReachabilityPolicy {
        heartbeat_interval: parse(heartbeat_interval)?,
        stale_after: parse(stale_after)?,
        unreachable_after: parse(unreachable_after)?,
    };
    let ReachabilityPolicy { heartbeat_interval: interval, stale_after: stale, unreachable_after: unreachable } =
        policy;
    if interval.is_zero() && stale.is_zero() && unreachable.is_zero() {
        return Some(ReachabilityPolicy::default());
    }
    let fits = (MIN_INTERVAL..=MAX).contains(&interval)
        && stale >= interval * 3
        && stale <= MAX
        && unreachable >= stale * 2
        && unreachable <= MAX;
    fits.then_some(policy)
}
