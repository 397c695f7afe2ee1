//! The daemon as the kernel sees it: CPU time, memory, descriptors.

/// From `/proc/self/stat` (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// CPU time, user and system.
    pub cpu_seconds: f64,
    /// Memory that is in use.
    pub resident_bytes: f64,
    /// Threads.
    pub threads: f64,
    /// When it was started, by the boot clock, in ns.
    pub start_ns: u64,
}

impl Process {
    /// Now; `None` if `/proc` is not there.
    pub fn read() -> Option<Self> {
        // SAFETY: no pointers.
        let [ticks, page] =
            [libc::_SC_CLK_TCK, libc::_SC_PAGESIZE].map(|name| unsafe { libc::sysconf(name) } as f64);
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?, ticks, page)
    }

    fn parse(stat: &str, ticks: f64, page: f64) -> Option<Self> {
        // The name is in parentheses and may hold anything; the third field comes behind the last one.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (number(14)? + number(15)?) / ticks,
            threads: number(20)?,
            start_ns: (number(22)? / ticks * 1e9) as u64,
            resident_bytes: number(24)? * page,
        })
    }
}

/// Open descriptors, but for the one that this look takes.
pub fn open_fds() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_process_is_called() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4194560 9 9 0 0 150 50 0 0 20 0 12 0 500 9999 256 18446744073709551615 1";
        let expected =
            Process { cpu_seconds: 2.0, resident_bytes: 1_048_576.0, threads: 12.0, start_ns: 5_000_000_000 };
        assert_eq!(Process::parse(stat, 100.0, 4096.0), Some(expected));
        assert_eq!(Process::parse("7 (a) S 1", 100.0, 4096.0), None);
        assert!(Process::read().is_some_and(|of| of.resident_bytes > 0.0 && of.threads >= 1.0));
    }
}
