//! Differences of the coarse clock, which starts over after 49 days.

/// How many milliseconds `then` was before `now`. A time after `now`, which another thread has just
/// noted, is no time ago.
pub(crate) fn millis_since(now: u32, then: u32) -> u32 {
    let millis = now.wrapping_sub(then);
    if millis > u32::MAX / 2 { 0 } else { millis }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_to_come_is_no_time_ago() {
        assert_eq!(millis_since(7, 5), 2);
        assert_eq!(millis_since(5, 7), 0);
        assert_eq!(millis_since(1, u32::MAX), 2);
        assert_eq!(millis_since(u32::MAX, 1), 0);
    }
}
