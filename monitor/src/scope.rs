//! What is watched: all containers or chosen ones, and the host's own processes or not. As long as it is not known
//! whether a container is chosen it is watched, so that nothing is missing of it. Processes are always followed, for
//! lineage; of a container that is not watched nothing else is seen, and nothing is told.

use std::fmt;

use crate::diagnostic::Diagnostic;
use crate::enrich::container::{Container, Runtime};
use crate::rules::pattern::{self, Glob};
use crate::yaml::Node;

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Whether files and connections of the host's own processes are.
    pub host: bool,
    /// Only these containers are, if any are named: of each kind of choice one has to be met.
    pub include: Vec<Selector>,
    /// None of these is.
    pub exclude: Vec<Selector>,
}

impl Scope {
    /// Whether a container is watched. One of which it is not known is.
    pub fn watches(&self, container: &Container) -> bool {
        if self.exclude.iter().any(|selector| selector.selects(container)) {
            return false;
        }
        let is_met = |key: Key| {
            let mut of_key = self.include.iter().filter(|selector| selector.key == key).peekable();
            of_key.peek().is_none()
                || of_key.any(|selector| selector.selects(container))
                || !key.is_known(container)
        };
        Key::ALL.into_iter().all(is_met)
    }

    /// What is not watched, for people.
    pub fn excluded(&self) -> Vec<String> {
        let list = |selectors: &[Selector]| {
            selectors.iter().map(|selector| format!("`{selector}`")).collect::<Vec<_>>().join(", ")
        };
        let host = (!self.host).then(|| "files and connections of the host's own processes".to_owned());
        let others = (!self.include.is_empty())
            .then(|| format!("containers that are none of {}", list(&self.include)));
        let these =
            (!self.exclude.is_empty()).then(|| format!("containers that are one of {}", list(&self.exclude)));
        [host, others, these].into_iter().flatten().collect()
    }
}

/// By what a container is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Container,
    Image,
    Pod,
    Namespace,
    Label,
    Runtime,
}

impl Key {
    const ALL: [Key; 6] = [Key::Container, Key::Image, Key::Pod, Key::Namespace, Key::Label, Key::Runtime];

    /// Whether nothing more can come by which a container could be chosen.
    fn is_known(self, container: &Container) -> bool {
        let known = container.metadata.get();
        let pod = known.and_then(|known| known.pod.as_ref());
        let is_there = match self {
            Key::Container => known.is_some_and(|known| known.name.is_some()),
            Key::Image => known.is_some_and(|known| known.image.name.is_some()),
            Key::Pod => pod.is_some_and(|pod| pod.name.is_some()),
            Key::Namespace => pod.is_some_and(|pod| pod.namespace.is_some()),
            Key::Label => false,
            Key::Runtime => true,
        };
        is_there || container.metadata.is_final()
    }

    fn name(self) -> &'static str {
        match self {
            Key::Container => "container",
            Key::Image => "image",
            Key::Pod => "pod",
            Key::Namespace => "namespace",
            Key::Label => "label",
            Key::Runtime => "runtime",
        }
    }
}

/// Chooses containers by one thing: `image=shop/*`.
#[derive(Clone, Debug)]
pub struct Selector {
    key: Key,
    /// Of a label its key; what stands behind it is what its value is like.
    label: String,
    pattern: String,
    glob: Glob,
}

/// The beginning of an id stands for it if it has so many digits, as runtimes print it: by fewer a name could be meant.
const ID_DIGITS_MIN: usize = 12;

impl Selector {
    /// Reads `key=pattern`; of a label `label=key=pattern`, or `label=key` for any value.
    pub fn parse(node: &Node) -> Result<Self, Diagnostic> {
        let text = node.as_text().unwrap_or_default();
        let error = |code, message: String, label: &str| {
            Diagnostic::error(code, message).label(node.span.clone(), label)
        };
        let Some((name, pattern)) = text.split_once('=') else {
            return Err(error("C120", format!("`{text}` chooses no containers"), "no `=`")
                .hint("write `image=shop/*`, `namespace=prod` or `label=team=web`"));
        };
        let Some(key) = Key::ALL.into_iter().find(|key| key.name() == name) else {
            return Err(error("C120", format!("containers cannot be chosen by `{name}`"), "not a choice")
                .did_you_mean(name, Key::ALL.map(Key::name).into_iter()));
        };
        let (label, pattern) = match key {
            Key::Label => pattern.split_once('=').unwrap_or((pattern, "*")),
            _ => ("", pattern),
        };
        if pattern.is_empty() || key == Key::Label && label.is_empty() {
            return Err(error("C121", format!("`{name}` is chosen by nothing"), "nothing behind the `=`")
                .hint("write `*` for any"));
        }
        if let Some(why) = pattern::glob_mistake(pattern.as_bytes()) {
            return Err(error("C121", format!("`{pattern}` is no pattern: {why}"), "")
                .hint("write a backslash before a character that stands for itself"));
        }
        let glob = Glob::new(pattern.as_bytes(), false);
        let runtimes = Runtime::ALL.map(Runtime::name);
        if key == Key::Runtime && !runtimes.iter().any(|name| glob.matches(name.as_bytes())) {
            return Err(error("C121", format!("there is no runtime `{pattern}`"), "")
                .hint(format!("write one of {}", runtimes.join(", "))));
        }
        Ok(Self { key, label: label.to_owned(), pattern: pattern.to_owned(), glob })
    }

    /// Whether it chooses a container, by what is known of it.
    fn selects(&self, container: &Container) -> bool {
        let is_like = |text: &str| self.glob.matches(text.as_bytes());
        let any = |texts: &[Option<&str>]| texts.iter().flatten().any(|text| is_like(text));
        if self.key == Key::Runtime {
            return is_like(container.runtime.name());
        }
        let known = container.metadata.get();
        let pod = known.and_then(|known| known.pod.as_ref());
        match self.key {
            Key::Container => {
                let is_id = self.pattern.len() >= ID_DIGITS_MIN && container.id.starts_with(&self.pattern);
                is_id || any(&[Some(&container.id), known.and_then(|known| known.name.as_deref())])
            }
            Key::Image => known.is_some_and(|known| {
                let image = &known.image;
                any(&[
                    image.name.as_deref(),
                    image.repository(),
                    image.digest.as_deref(),
                    image.id.as_deref(),
                ])
            }),
            Key::Pod => any(&[
                pod.and_then(|pod| pod.name.as_deref()),
                pod.and_then(|pod| pod.uid.as_deref()),
                container.pod_uid.as_deref(),
            ]),
            Key::Namespace => any(&[pod.and_then(|pod| pod.namespace.as_deref())]),
            Key::Label => {
                let own = known.and_then(|known| known.labels.get(&self.label));
                any(&[own, pod.and_then(|pod| pod.labels.get(&self.label))])
            }
            Key::Runtime => false,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, label, pattern, glob: _ } = self;
        match key {
            Key::Label => write!(out, "label={label}={pattern}"),
            _ => write!(out, "{}={pattern}", key.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Source;
    use crate::enrich::metadata::Metadata;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(text: &str) -> Result<Selector, Diagnostic> {
        let source = Arc::new(Source { name: "test".into(), text: text.into() });
        Selector::parse(&Node::whole(&source))
    }

    fn scope(include: &[&str], exclude: &[&str]) -> Scope {
        let all = |texts: &[&str]| texts.iter().map(|text| parse(text).unwrap()).collect();
        Scope { host: false, include: all(include), exclude: all(exclude) }
    }

    fn unknown() -> Container {
        Container::new(ID.into(), Runtime::Containerd, None, format!("/k8s.io/{ID}"))
    }

    fn known(metadata: Metadata) -> Container {
        let container = unknown();
        container.metadata.set(metadata);
        container.metadata.settle();
        container
    }

    #[test]
    fn container_is_chosen_by_each_thing_that_is_known_of_it() {
        let container = known(crate::testing::metadata());
        for text in [
            "container=web",
            "container=w?b",
            "container=0123456789ab",
            &format!("container={ID}"),
            "image=registry.example:5000/shop/web:1.2",
            "image=registry.example:5000/shop/web",
            "image=*/shop/*",
            &format!("image=sha256:{}", "d".repeat(64)),
            "pod=web-*",
            "pod=5c3b2a10-*",
            "namespace=shop",
            "label=app=web",
            "label=app",
            "label=app.kubernetes.io/name=[uvw]eb",
            "runtime=containerd",
            "runtime=*",
        ] {
            assert!(scope(&[text], &[]).watches(&container), "{text}");
            assert!(!scope(&[], &[text]).watches(&container), "{text}");
            assert_eq!(parse(text).unwrap().to_string().trim_end_matches("=*"), text.trim_end_matches("=*"));
        }
        for text in [
            "container=we",
            "container=WEB",
            "container=0123456789a",
            "image=shop/web",
            "pod=web",
            "namespace=sho",
            "label=app=we",
            "label=none",
            "runtime=docker",
        ] {
            assert!(!scope(&[text], &[]).watches(&container), "{text}");
            assert!(scope(&[], &[text]).watches(&container), "{text}");
        }
    }

    #[test]
    fn one_choice_of_each_kind_has_to_be_met_and_what_is_excluded_is_not_watched_all_the_same() {
        let container = known(crate::testing::metadata());
        assert!(scope(&["namespace=dev", "namespace=shop", "label=tier=front"], &[]).watches(&container));
        assert!(!scope(&["namespace=shop", "label=tier=back"], &[]).watches(&container));
        assert!(!scope(&["namespace=shop"], &["label=tier=back", "image=*web*"]).watches(&container));
        assert!(Scope::default().watches(&container));
    }

    #[test]
    fn container_is_watched_as_long_as_something_can_come_by_which_it_is_chosen() {
        let container = unknown();
        let by_label = scope(&["label=app=web"], &[]);
        assert!(by_label.watches(&container));
        assert!(!scope(&["runtime=docker"], &[]).watches(&container));
        let labels = Default::default();
        container.metadata.set(Metadata { labels, ..crate::testing::metadata() });
        assert!(by_label.watches(&container), "its runtime is asked for labels");
        for text in ["pod=x", "namespace=x", "image=x", "container=x"] {
            assert!(!scope(&[text], &[]).watches(&container), "{text}");
        }
        container.metadata.settle();
        assert!(!by_label.watches(&container));
        container.metadata.set(crate::testing::metadata());
        assert!(by_label.watches(&container));
    }

    #[test]
    fn what_chooses_nothing_is_a_diagnostic_at_its_place() {
        for (text, code, hint) in [
            ("web", "C120", "write `image=shop/*`, `namespace=prod` or `label=team=web`"),
            ("", "C120", "write `image=shop/*`, `namespace=prod` or `label=team=web`"),
            ("imag=web", "C120", "did you mean `image`?"),
            ("image=", "C121", "write `*` for any"),
            ("label==x", "C121", "write `*` for any"),
            ("image=[a", "C121", "write a backslash before a character that stands for itself"),
            ("image=a\\", "C121", "write a backslash before a character that stands for itself"),
            (
                "runtime=dokcer",
                "C121",
                "write one of docker, podman, containerd, cri-o, kubernetes, oci, lxc, systemd-nspawn",
            ),
        ] {
            let diagnostic = parse(text).unwrap_err();
            assert_eq!((diagnostic.code, diagnostic.hint.as_deref()), (code, Some(hint)), "{text}");
            assert_eq!(diagnostic.labels[0].span.range, 0..text.len());
        }
    }
}
