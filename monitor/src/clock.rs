//! Clocks. Events carry the boot clock, which nobody can set; the wall clock is that plus an offset, which
//! is measured again and again so that a step of the wall clock is seen.

use crate::event::field::Inline;

/// From the boot clock to the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME`, in ns.
    pub offset_ns: i64,
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much, in ns; negative is back.
    pub by_ns: i64,
}

/// A smaller change is drift and measuring error.
const STEP_MIN_NS: i64 = 10_000_000;

impl Clock {
    /// Measures now.
    pub fn now() -> Self {
        // The tightest of a few: between two looks at one clock the other's lies in the middle.
        let measure = || {
            let (before, real, after) = (boot_ns(), read(libc::CLOCK_REALTIME), boot_ns());
            (after - before, real as i64 - (before + (after - before) / 2) as i64)
        };
        let best = (0..5).map(|_| measure()).min_by_key(|(width, _)| *width);
        Self { offset_ns: best.map_or(0, |(_, offset_ns)| offset_ns) }
    }

    /// Measures again; says so if the wall clock was set meanwhile.
    pub fn refresh(&mut self) -> Option<Step> {
        let by_ns = Self::now().offset_ns - self.offset_ns;
        self.offset_ns += by_ns;
        (by_ns.abs() >= STEP_MIN_NS).then_some(Step { by_ns })
    }

    /// The wall clock at a time of the boot clock, in ns since 1970.
    pub fn realtime_ns(&self, boot_ns: u64) -> u64 {
        boot_ns.wrapping_add_signed(self.offset_ns)
    }
}

/// `CLOCK_BOOTTIME` now, in ns.
pub fn boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The id of this boot.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A wall clock time as people write it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Of the Gregorian calendar.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// Week of ISO 8601, 1 to 53: week 1 has the year's first Thursday.
    pub week: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
}

impl Calendar {
    /// Of a time in ns since 1970.
    pub fn of(realtime_ns: u64) -> Self {
        let seconds = realtime_ns / 1_000_000_000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        // 1970 began with a Thursday.
        let thursday = days + 3 - (days + 3) % 7;
        let before = civil(thursday).0 - 1;
        let new_year = before * 365 + before / 4 - before / 100 + before / 400 - 719_162;
        let week = (thursday - new_year) / 7 + 1;
        Self { year, month, week, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }
}

/// A wall clock time as RFC 3339 text in UTC: `2026-11-24T12:00:00.123456789Z`.
pub fn rfc3339(realtime_ns: u64) -> Inline {
    let Calendar { year, month, week: _, day, hour, minute, second } = Calendar::of(realtime_ns);
    let ns = realtime_ns % 1_000_000_000;
    Inline::format(format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z"))
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar (H. Hinnant, "chrono-
/// Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_utc() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399_000_000_001, "2000-02-28T23:59:59.000000001Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_795_521_600_123_456_789, "2026-11-24T12:00:00.123456789Z"),
            (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(String::from_utf8_lossy(rfc3339(ns).as_bytes()), text);
        }
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        const DAY_NS: u64 = 86_400_000_000_000;
        for (day, year, week) in [
            (0, 1970, 1),
            // 2020-12-31, 2021-01-03 and 2021-01-04
            (18_627, 2020, 53),
            (18_630, 2021, 53),
            (18_631, 2021, 1),
            // 2024-12-29 and 2024-12-30
            (20_086, 2024, 52),
            (20_087, 2024, 1),
        ] {
            let calendar = Calendar::of(day * DAY_NS);
            assert_eq!((calendar.year, calendar.week), (year, week), "{calendar:?}");
        }
    }

    #[test]
    fn step_of_the_wall_clock_is_told_and_drift_is_not() {
        let mut clock = Clock::now();
        assert_eq!(clock.refresh(), None);
        clock.offset_ns -= 3_600_000_000_000;
        let step = clock.refresh().map(|step| (step.by_ns + 500_000_000) / 1_000_000_000);
        assert_eq!(step, Some(3600));
    }
}
