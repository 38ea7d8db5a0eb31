//! When connections are renewed that rest on certificates.

use std::time::Duration;

/// The mean age at which a connection is renewed, however long its certificates last: what a list
/// revokes ends with the connection.
const AGE: Duration = Duration::from_hours(24);

/// The share by which ages differ, so that not all connections are renewed at once.
const SPREAD: f64 = 0.1;

/// The share of what is left of a certificate after which a connection is renewed. By then its
/// files have been replaced; if not, the rest is divided again.
const SHARE: f64 = 0.5;

/// The shortest time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How long messages wait at most for those before them to find their places. A full mailbox may
/// take longer; then the renewal is tried again.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(1);

/// How long a connection that was replaced is read on at least. Answers are waited for in any case;
/// a message that its receiver sends back, since its shard moves, is not known before.
pub(super) const RETIRED_MIN: Duration = Duration::from_mins(1);

/// How long from now a connection is renewed, if its certificates last for `left`. `random` is from
/// 0 to 1.
pub(super) fn renew_after(left: Duration, random: f64) -> Duration {
    let spread = 1.0 + SPREAD * (2.0 * random - 1.0);
    AGE.mul_f64(spread)
        .min(left.mul_f64(SHARE * spread))
        .max(PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_hours(365 * 24);

    #[test]
    fn a_day_or_so_with_certificates_that_last() {
        assert_eq!(renew_after(YEAR, 0.0), AGE.mul_f64(0.9));
        assert_eq!(renew_after(YEAR, 0.5), AGE);
        assert_eq!(renew_after(YEAR, 1.0), AGE.mul_f64(1.1));
    }

    #[test]
    fn always_before_the_end_of_a_certificate() {
        for left in [10, 60, 3600, 48 * 3600].map(Duration::from_secs) {
            for random in [0.0, 0.3, 1.0] {
                let after = renew_after(left, random);
                assert!(
                    after >= left.mul_f64(0.45) && after < left.mul_f64(0.6),
                    "{after:?}"
                );
            }
        }
    }

    #[test]
    fn never_in_a_circle() {
        assert_eq!(renew_after(Duration::ZERO, 0.0), PAUSE);
    }
}
