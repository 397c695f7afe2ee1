//! MITRE ATT&CK for Containers, and which of its techniques a set of rules detects. Ids, names and tactics are those of
//! the entries of ATT&CK 18.1 (October 2025) that have `Containers` among their platforms. ATT&CK 19 has replaced
//! two of them, see [`REPLACED`], and has split the tactic Defense Evasion.
//!
//! What a monitor of the kernel can see of a technique is said here, and is nobody's claim but ours.

use super::{Rule, RuleSet};

/// A technique or sub-technique.
#[derive(Debug)]
pub struct Technique {
    /// Its id: `T1611`, of a sub-technique `T1552.007`.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub tactics: &'static [&'static str],
    /// What of it can be seen.
    pub reach: Reach,
}

/// What a monitor of the kernel can see of a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A usual way of it is a deed that the kernel itself resolves: the file, the peer, the flag.
    Deed,
    /// What is done lies within an encrypted request or a file's bytes. The usual programs for it can be told by their
    /// names and arguments; an attacker's own program cannot.
    Program,
    /// Nothing, for this reason.
    None(&'static str),
}

/// Ids that later versions have put in the place of entries of [`CONTAINERS`]: the later one, and the earlier.
pub const REPLACED: &[(&str, &str)] = &[("T1685", "T1562.001")];

const INITIAL_ACCESS: &str = "initial-access";
const EXECUTION: &str = "execution";
const PERSISTENCE: &str = "persistence";
const PRIVILEGE_ESCALATION: &str = "privilege-escalation";
const DEFENSE_EVASION: &str = "defense-evasion";
const CREDENTIAL_ACCESS: &str = "credential-access";
const DISCOVERY: &str = "discovery";
const LATERAL_MOVEMENT: &str = "lateral-movement";
const IMPACT: &str = "impact";

const WHOSE: Reach = Reach::None("which account a token or password belongs to is not seen");
const TRIES: Reach = Reach::None("that logins are tried is seen, which names and passwords is not");

macro_rules! techniques {
    ($( $id:literal $name:literal [$( $tactic:ident )*] $reach:expr ),* $(,)?) => {
        /// All of them, by id.
        pub const CONTAINERS: &[Technique] = &[
            $( Technique { id: $id, name: $name, tactics: &[$( $tactic ),*], reach: $reach } ),*
        ];
    };
}

use Reach::{Deed, Program};

techniques! {
    "T1036" "Masquerading" [DEFENSE_EVASION] Deed,
    "T1036.005" "Match Legitimate Resource Name or Location" [DEFENSE_EVASION] Deed,
    "T1036.010" "Masquerade Account Name" [DEFENSE_EVASION]
        Reach::None("names of accounts are bytes in files and requests"),
    "T1046" "Network Service Discovery" [DISCOVERY] Deed,
    "T1053" "Scheduled Task/Job" [EXECUTION PERSISTENCE PRIVILEGE_ESCALATION] Deed,
    "T1053.007" "Container Orchestration Job" [EXECUTION PERSISTENCE PRIVILEGE_ESCALATION] Program,
    "T1059.013" "Container CLI/API" [EXECUTION] Deed,
    "T1068" "Exploitation for Privilege Escalation" [PRIVILEGE_ESCALATION] Deed,
    "T1069" "Permission Groups Discovery" [DISCOVERY] Program,
    "T1070" "Indicator Removal" [DEFENSE_EVASION] Deed,
    "T1078" "Valid Accounts" [DEFENSE_EVASION PERSISTENCE PRIVILEGE_ESCALATION INITIAL_ACCESS] Deed,
    "T1078.001" "Default Accounts" [DEFENSE_EVASION PERSISTENCE PRIVILEGE_ESCALATION INITIAL_ACCESS] WHOSE,
    "T1078.003" "Local Accounts" [DEFENSE_EVASION PERSISTENCE PRIVILEGE_ESCALATION INITIAL_ACCESS] Deed,
    "T1098" "Account Manipulation" [PERSISTENCE PRIVILEGE_ESCALATION] Deed,
    "T1098.006" "Additional Container Cluster Roles" [PERSISTENCE PRIVILEGE_ESCALATION] Program,
    "T1110" "Brute Force" [CREDENTIAL_ACCESS] Deed,
    "T1110.001" "Password Guessing" [CREDENTIAL_ACCESS] Deed,
    "T1110.003" "Password Spraying" [CREDENTIAL_ACCESS] TRIES,
    "T1110.004" "Credential Stuffing" [CREDENTIAL_ACCESS] TRIES,
    "T1133" "External Remote Services" [PERSISTENCE INITIAL_ACCESS] Deed,
    "T1136" "Create Account" [PERSISTENCE] Deed,
    "T1136.001" "Local Account" [PERSISTENCE] Deed,
    "T1190" "Exploit Public-Facing Application" [INITIAL_ACCESS] Deed,
    "T1204" "User Execution" [EXECUTION] Program,
    "T1204.003" "Malicious Image" [EXECUTION] Program,
    "T1485" "Data Destruction" [IMPACT] Program,
    "T1490" "Inhibit System Recovery" [IMPACT] Program,
    "T1496" "Resource Hijacking" [IMPACT] Deed,
    "T1496.001" "Compute Hijacking" [IMPACT] Deed,
    "T1496.002" "Bandwidth Hijacking" [IMPACT] Deed,
    "T1498" "Network Denial of Service" [IMPACT] Deed,
    "T1499" "Endpoint Denial of Service" [IMPACT] Program,
    "T1525" "Implant Internal Image" [PERSISTENCE] Program,
    "T1528" "Steal Application Access Token" [CREDENTIAL_ACCESS] Deed,
    "T1543" "Create or Modify System Process" [PERSISTENCE PRIVILEGE_ESCALATION] Deed,
    "T1543.005" "Container Service" [PERSISTENCE PRIVILEGE_ESCALATION] Deed,
    "T1550" "Use Alternate Authentication Material" [DEFENSE_EVASION LATERAL_MOVEMENT] Program,
    "T1550.001" "Application Access Token" [DEFENSE_EVASION LATERAL_MOVEMENT] Program,
    "T1552" "Unsecured Credentials" [CREDENTIAL_ACCESS] Deed,
    "T1552.001" "Credentials In Files" [CREDENTIAL_ACCESS] Deed,
    "T1552.007" "Container API" [CREDENTIAL_ACCESS] Program,
    "T1562" "Impair Defenses" [DEFENSE_EVASION] Deed,
    "T1562.001" "Disable or Modify Tools" [DEFENSE_EVASION] Deed,
    "T1609" "Container Administration Command" [EXECUTION] Deed,
    "T1610" "Deploy Container" [DEFENSE_EVASION EXECUTION] Deed,
    "T1611" "Escape to Host" [PRIVILEGE_ESCALATION] Deed,
    "T1612" "Build Image on Host" [DEFENSE_EVASION] Program,
    "T1613" "Container and Resource Discovery" [DISCOVERY] Program,
}

impl Technique {
    /// Whether an id is that of this technique or of a sub-technique of it, which is a way of doing it.
    fn is_named_by(&self, id: &str) -> bool {
        let id = REPLACED.iter().find(|(later, _)| *later == id).map_or(id, |(_, earlier)| earlier);
        id.strip_prefix(self.id).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The enabled rules of a set that detect it, as their tags say.
    pub fn rules<'a>(&'a self, set: &'a RuleSet) -> impl Iterator<Item = &'a Rule> {
        set.enabled().filter(|rule| rule.techniques().any(|id| self.is_named_by(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_and_each_technique_has_a_tactic() {
        assert_eq!(CONTAINERS.len(), 48);
        assert!(CONTAINERS.is_sorted_by(|a, b| a.id < b.id));
        assert!(CONTAINERS.iter().all(|technique| !technique.tactics.is_empty()));
    }

    #[test]
    fn sub_technique_is_a_way_of_its_technique_and_not_the_other_way_round() {
        let named = |id: &str| {
            let ids = CONTAINERS.iter().filter(|technique| technique.is_named_by(id));
            ids.map(|technique| technique.id).collect::<Vec<_>>()
        };
        assert_eq!(named("T1552.007"), ["T1552", "T1552.007"]);
        assert_eq!(named("T1552"), ["T1552"]);
        assert_eq!(named("T1053.003"), ["T1053"]);
        assert_eq!(named("T1685"), ["T1562", "T1562.001"]);
        assert_eq!(named("T16110"), [""; 0]);
    }

    #[test]
    fn shipped_rules_detect_most_and_claim_nothing_that_is_out_of_reach() {
        let (set, _) = RuleSet::load(&super::super::embedded()).unwrap();
        let (detected, missed): (Vec<_>, Vec<_>) =
            CONTAINERS.iter().partition(|technique| technique.rules(&set).next().is_some());
        assert!(detected.len() >= 30, "{detected:#?}");
        for technique in detected {
            assert!(!matches!(technique.reach, Reach::None(_)), "{} is out of reach", technique.id);
        }
        for technique in missed {
            assert!(matches!(technique.reach, Reach::None(_)), "{} is not detected", technique.id);
        }
    }
}
