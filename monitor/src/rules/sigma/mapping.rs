//! What Sigma's log sources and fields are here: one table. A category is seen as one or several classes of
//! events; a class has a condition in the rule language, and says for each field of Sigma what it is. The
//! reference page is made from the same table.

use std::fmt::Write as _;

use super::detection::Detection;

/// What a field of Sigma is in a class of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The value of a field.
    Field(&'static str),
    /// A program: the file that runs, as the kernel found it, and the name by which it was asked for. A rule
    /// fires if either is meant. Where a rule excludes (`not`), only the first counts: whoever runs a program
    /// chooses its name, and must not choose an exclusion with it.
    Program {
        /// The file that runs.
        runs: &'static str,
        /// The name that was asked for.
        asked: &'static str,
    },
    /// The same for all events of the class.
    Always(&'static str),
}

/// Fields and what they are.
type Fields = &'static [(&'static str, To)];

/// Events that are alike.
#[derive(Debug)]
pub struct Class {
    /// What happens, for people.
    pub what: &'static str,
    /// Which events these are, in the rule language.
    pub condition: &'static str,
    /// What Sigma's fields are.
    fields: &'static [Fields],
    /// The field without which a rule is not about these events, if there is one: they would only repeat what the
    /// other classes tell.
    pub needs: Option<&'static str>,
}

impl Class {
    /// What a field is, by its exact name.
    pub fn get(&self, name: &str) -> Option<To> {
        self.all().find(|(field, _)| *field == name).map(|(_, to)| to)
    }

    /// Whether a rule can be about these events.
    pub fn is_meant_by(&self, detection: &Detection) -> bool {
        self.needs.is_none_or(|field| detection.names_field(field))
    }

    /// All fields.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, To)> {
        self.fields.iter().flat_map(|fields| fields.iter().copied())
    }
}

/// A kind of log source.
#[derive(Debug)]
pub struct Category {
    /// `category` of the log source.
    pub category: &'static str,
    /// `service` of the log source, where Sigma defines one for the category.
    pub service: Option<&'static str>,
    /// What is looked at.
    pub classes: &'static [Class],
    /// What an alert prints, in the rule language.
    pub output: &'static str,
}

impl Category {
    /// The category of a log source.
    pub fn find(category: &str, service: Option<&str>) -> Option<&'static Self> {
        CATEGORIES.iter().find(|known| known.category == category && known.service == service)
    }

    /// All names of fields that any class has.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.classes.iter().flat_map(Class::all).map(|(name, _)| name)
    }
}

use To::{Always, Field, Program};

const IMAGE: To = Program { runs: "proc.exepath", asked: "proc.filename" };
const PARENT: To = Program { runs: "proc.pexepath", asked: "proc.pfilename" };

const PROCESS: Fields = &[
    ("UtcTime", Field("evt.time")),
    ("ProcessGuid", Field("proc.key")),
    ("ProcessId", Field("proc.pid")),
    ("Image", IMAGE),
    ("CommandLine", Field("proc.exeline")),
    ("CurrentDirectory", Field("proc.cwd")),
    ("User", Field("user.name")),
    ("LogonId", Field("user.uid")),
    ("ParentProcessGuid", Field("proc.pkey")),
    ("ParentProcessId", Field("proc.ppid")),
    ("ParentImage", PARENT),
    ("ParentCommandLine", Field("proc.pexeline")),
];

const TARGET_FILE: Fields = &[("TargetFilename", Field("fd.name"))];
/// The path as a whole, of what has no open file.
const TARGET_PATH: Fields = &[("TargetFilename", Field("fs.path.name"))];
const TARGET_OF_TWO: Fields = &[("TargetFilename", Field("fs.path.target"))];

const OUTGOING: Fields = &[
    ("Initiated", Always("true")),
    ("Protocol", Field("fd.l4proto")),
    ("SourceIp", Field("fd.lip")),
    ("SourcePort", Field("fd.lport")),
    ("DestinationIp", Field("fd.rip")),
    ("DestinationPort", Field("fd.rport")),
];
const INCOMING: Fields = &[
    ("Initiated", Always("false")),
    ("Protocol", Field("fd.l4proto")),
    ("SourceIp", Field("fd.rip")),
    ("SourcePort", Field("fd.rport")),
    ("DestinationIp", Field("fd.lip")),
    ("DestinationPort", Field("fd.lport")),
];
const ASKED_FOR: Fields =
    &[("Initiated", Always("true")), ("DestinationHostname", Field("dns.question.name"))];

/// Names of the ECS, as the generic category `network` has them.
const ENDS: Fields = &[
    ("network.transport", Field("fd.l4proto")),
    ("network.type", Field("fd.type")),
    ("source.ip", Field("fd.cip")),
    ("source.port", Field("fd.cport")),
    ("destination.ip", Field("fd.sip")),
    ("destination.port", Field("fd.sport")),
];
const QUESTION: Fields = &[
    ("dns.id", Field("dns.id")),
    ("dns.question.name", Field("dns.question.name")),
    ("dns.question.type", Field("dns.question.type")),
    ("dns.answers.data", Field("dns.answers")),
    ("dns.response.code", Field("dns.rcode")),
];

const FILE_WRITTEN: Class = Class {
    needs: None,
    what: "a file was opened for writing, or to be created",
    condition: "evt.kind = open and evt.failed = false and (evt.is_open_write = true or evt.is_open_create = true)",
    fields: &[PROCESS, TARGET_FILE],
};
const FILE_MADE: Class = Class {
    needs: None,
    what: "a folder, symbolic link, device or pipe was made",
    condition: "evt.kind = change and evt.failed = false and evt.type in (mkdir, mkdirat, symlink, symlinkat, mknod, mknodat)",
    fields: &[PROCESS, TARGET_PATH],
};
const FILE_NAMED: Class = Class {
    needs: None,
    what: "a file got a name by renaming or as a link",
    condition: "evt.kind = change and evt.failed = false and evt.type in (rename, renameat, renameat2, link, linkat)",
    fields: &[PROCESS, TARGET_OF_TWO],
};

const PROCESS_OUTPUT: &str = "image=%proc.exepath command=%proc.exeline folder=%proc.cwd parent=%proc.pexepath parent_command=%proc.pexeline user=%user.name container=%container.id";
const FILE_OUTPUT: &str = "event=%evt.type file=%fs.path.name target=%fs.path.target image=%proc.exepath command=%proc.exeline user=%user.name container=%container.id";
const NETWORK_OUTPUT: &str = "event=%evt.type connection=%fd.name asked=%dns.question.name image=%proc.exepath command=%proc.exeline user=%user.name container=%container.id";

const DNS: Class = Class {
    needs: None,
    what: "a message of DNS",
    condition: "evt.kind = dns",
    fields: &[
        PROCESS,
        &[
            ("query", Field("dns.question.name")),
            ("record_type", Field("dns.question.type")),
            ("answer", Field("dns.answers")),
        ],
    ],
};

/// All that can be seen.
pub static CATEGORIES: &[Category] = &[
    Category {
        category: "process_creation",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a process replaced its image",
            condition: "evt.kind = exec",
            fields: &[PROCESS, &[("EventID", Always("1"))]],
        }],
        output: PROCESS_OUTPUT,
    },
    Category {
        category: "process_termination",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a process ended",
            condition: "evt.kind = exit",
            fields: &[PROCESS, &[("EventID", Always("5"))]],
        }],
        output: PROCESS_OUTPUT,
    },
    Category {
        category: "process_access",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a process reached into another (ptrace, memory, descriptors)",
            condition: "evt.kind = access and evt.failed = false",
            fields: &[&[
                ("EventID", Always("10")),
                ("UtcTime", Field("evt.time")),
                ("SourceImage", IMAGE),
                ("SourceProcessGUID", Field("proc.key")),
                ("SourceProcessId", Field("proc.pid")),
                ("SourceThreadId", Field("thread.tid")),
                ("SourceUser", Field("user.name")),
                ("TargetImage", Field("target.exepath")),
                ("TargetProcessGUID", Field("target.key")),
                ("TargetProcessId", Field("target.pid")),
            ]],
        }],
        output: "event=%evt.type image=%proc.exepath command=%proc.exeline target=%target.exepath user=%user.name container=%container.id",
    },
    Category {
        category: "driver_load",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a kernel module was loaded",
            condition: "evt.kind = module and evt.failed = false and evt.type in (init_module, finit_module)",
            fields: &[PROCESS, &[("EventID", Always("6")), ("ImageLoaded", Field("fd.name"))]],
        }],
        output: FILE_OUTPUT,
    },
    Category {
        category: "file_event",
        service: None,
        classes: &[FILE_WRITTEN, FILE_MADE, FILE_NAMED],
        output: FILE_OUTPUT,
    },
    Category {
        category: "file_change",
        service: None,
        classes: &[
            FILE_WRITTEN,
            Class {
                needs: None,
                what: "length, permissions, owner, attributes or times of a file were changed",
                condition: "evt.kind = change and evt.failed = false and not evt.type in (unlink, unlinkat, rmdir, rename, renameat, renameat2, link, linkat, symlink, symlinkat, mkdir, mkdirat, mknod, mknodat)",
                fields: &[PROCESS, TARGET_PATH],
            },
        ],
        output: FILE_OUTPUT,
    },
    Category {
        category: "file_rename",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a file was renamed",
            condition: "evt.kind = change and evt.failed = false and evt.type in (rename, renameat, renameat2)",
            fields: &[PROCESS, TARGET_OF_TWO, &[("SourceFilename", Field("fs.path.source"))]],
        }],
        output: FILE_OUTPUT,
    },
    Category {
        category: "file_delete",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a file or folder was removed",
            condition: "evt.kind = change and evt.failed = false and evt.type in (unlink, unlinkat, rmdir)",
            fields: &[PROCESS, TARGET_PATH],
        }],
        output: FILE_OUTPUT,
    },
    Category {
        category: "file_access",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a file was opened",
            condition: "evt.kind = open and evt.failed = false",
            fields: &[PROCESS, TARGET_FILE, &[("FileName", Field("fd.name"))]],
        }],
        output: FILE_OUTPUT,
    },
    Category {
        category: "network_connection",
        service: None,
        classes: &[
            Class {
                needs: None,
                what: "a connection was asked for, other than by UDP",
                condition: "evt.kind = connect and fd.rip exists and not fd.l4proto = udp",
                fields: &[PROCESS, OUTGOING],
            },
            Class {
                needs: None,
                what: "the first datagram of UDP to a peer",
                condition: "evt.kind = udp and udp.direction = out",
                fields: &[PROCESS, OUTGOING],
            },
            Class {
                needs: None,
                what: "a connection was accepted",
                condition: "evt.kind = accept and evt.failed = false and fd.rip exists",
                fields: &[PROCESS, INCOMING],
            },
            Class {
                needs: None,
                what: "the first datagram of UDP from a peer",
                condition: "evt.kind = udp and udp.direction = in",
                fields: &[PROCESS, INCOMING],
            },
            Class {
                needs: Some("DestinationHostname"),
                what: "the name of a host was asked for",
                condition: "evt.kind = dns and dns.type = query and dns.direction = out",
                fields: &[PROCESS, ASKED_FOR],
            },
        ],
        output: NETWORK_OUTPUT,
    },
    Category {
        category: "dns_query",
        service: None,
        classes: &[Class {
            needs: None,
            what: "a name was asked for, or the answer came",
            condition: "evt.kind = dns",
            fields: &[
                PROCESS,
                &[
                    ("EventID", Always("22")),
                    ("QueryName", Field("dns.question.name")),
                    ("QueryStatus", Field("dns.rcode")),
                    ("QueryResults", Field("dns.answers")),
                ],
            ],
        }],
        output: NETWORK_OUTPUT,
    },
    Category { category: "dns", service: None, classes: &[DNS], output: NETWORK_OUTPUT },
    Category {
        category: "network",
        service: Some("dns"),
        classes: &[Class {
            needs: None,
            what: "a message of DNS",
            condition: "evt.kind = dns",
            fields: &[ENDS, QUESTION],
        }],
        output: NETWORK_OUTPUT,
    },
    Category {
        category: "network",
        service: Some("connection"),
        classes: &[Class {
            needs: None,
            what: "a connection was asked for or accepted, or the first datagram of UDP went or came",
            condition: "evt.kind in (connect, accept, udp) and fd.rip exists",
            fields: &[ENDS],
        }],
        output: NETWORK_OUTPUT,
    },
];

/// The part of `UtcTime` that a time modifier asks for.
pub const TIME_PARTS: &[(&str, &str)] = &[
    ("minute", "evt.time.minute"),
    ("hour", "evt.time.hour"),
    ("day", "evt.time.day"),
    ("week", "evt.time.week"),
    ("month", "evt.time.month"),
    ("year", "evt.time.year"),
];

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Sigma: log sources and fields\n\nGenerated from `monitor/src/rules/sigma/mapping.rs`. What is said of them in \
         words is in [Sigma](../sigma.md).\n\nWhere two fields are given, either will do; within a `not` only the first \
         counts.\n",
    );
    for Category { category, service, classes, output: _ } in CATEGORIES {
        let service = service.map_or(String::new(), |service| format!(", `service: {service}`"));
        let _ = writeln!(page, "\n## `category: {category}`{service}");
        for class in *classes {
            let only = class.needs.map_or(String::new(), |field| format!(", only for rules with `{field}`"));
            let _ = writeln!(
                page,
                "\n{}{only}: `{}`\n\n| Sigma | here |\n|---|---|",
                class.what, class.condition
            );
            for (name, to) in class.all() {
                let to = match to {
                    Field(field) => format!("`{field}`"),
                    Program { runs, asked } => format!("`{runs}`, `{asked}`"),
                    Always(value) => format!("always `{value}`"),
                };
                let _ = writeln!(page, "| `{name}` | {to} |");
            }
        }
    }
    page.push_str("\n## Time modifiers\n\nOf `UtcTime`, in UTC:\n\n| Sigma | here |\n|---|---|\n");
    for (part, field) in TIME_PARTS {
        let _ = writeln!(page, "| `{part}` | `{field}` |");
    }
    page
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::field;
    use crate::rules::{Filter, Template};

    #[test]
    fn reference_page_is_fresh() {
        crate::testing::assert_fresh("docs/reference/sigma.md", &reference());
    }

    #[test]
    fn each_class_has_a_condition_and_fields_that_its_events_can_have() {
        for category in CATEGORIES {
            let source =
                crate::diagnostic::Source { name: "output".to_owned(), text: category.output.to_owned() };
            Template::parse(&[Arc::new(crate::yaml::Node::whole(&source.into()))]).expect(category.category);
            for class in category.classes {
                let filter = Filter::from_text(class.condition, class.what).expect(class.condition);
                assert_ne!(filter.kinds, 0, "{}", class.condition);
                for (name, to) in class.all() {
                    let names = match to {
                        Field(name) => [name, name],
                        Program { runs, asked } => [runs, asked],
                        Always(_) => continue,
                    };
                    for ours in names {
                        let field = field::find(ours).unwrap_or_else(|| panic!("{ours}"));
                        assert_ne!(field.kinds & filter.kinds, 0, "{}: {name}", class.condition);
                    }
                }
            }
        }
        for (_, name) in TIME_PARTS {
            assert!(field::find(name).is_some(), "{name}");
        }
    }
}
