//! How well tried a rule is, as Falco's maturity tags say it, and which rules take part for it.

use super::RuleSet;

/// How well tried a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maturity {
    /// Quiet with usual software.
    Stable,
    /// Of use to most, but some usual software sets it off.
    Incubating,
    /// For a closer look: much that is harmless sets it off.
    Sandbox,
}

impl Maturity {
    const ALL: [Self; 3] = [Self::Stable, Self::Incubating, Self::Sandbox];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Incubating => "incubating",
            Self::Sandbox => "sandbox",
        }
    }

    /// By name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|maturity| maturity.name() == name)
    }

    /// That of a rule, by its tag `maturity_…`.
    pub fn of_tags(tags: &[String]) -> Option<Self> {
        tags.iter().find_map(|tag| Self::of(tag.strip_prefix("maturity_")?))
    }
}

impl RuleSet {
    /// Switches on the rules that their files switch off and whose tag says that they are less mature than
    /// `stable`, down to `least`.
    pub fn enable_down_to(&mut self, least: Maturity) {
        for rule in &mut self.rules {
            let maturity = Maturity::of_tags(&rule.tags);
            rule.enabled |= maturity.is_some_and(|own| own > Maturity::Stable && own <= least);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Source;

    #[test]
    fn rules_are_switched_on_down_to_a_maturity_and_no_others() {
        let rule = |tag: &str| {
            format!(
                "- rule: {tag}\n  desc: d\n  condition: proc.name = x\n  output: o\n  priority: INFO\n  enabled: false\n  tags: [{tag}]\n"
            )
        };
        let text = ["maturity_stable", "maturity_incubating", "maturity_sandbox", "other"].map(rule).concat();
        let (set, _) = RuleSet::load(&[Arc::new(Source { name: "t.yaml".to_owned(), text })]).unwrap();
        for (least, expected) in [
            (Maturity::Stable, &[][..]),
            (Maturity::Incubating, &["maturity_incubating"]),
            (Maturity::Sandbox, &["maturity_incubating", "maturity_sandbox"]),
        ] {
            let mut set = set.clone();
            set.enable_down_to(least);
            let enabled: Vec<_> = set.enabled().map(|rule| rule.name.as_str()).collect();
            assert_eq!(enabled, expected);
        }
    }
}
