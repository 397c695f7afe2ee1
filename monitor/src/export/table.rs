//! What each member of a record is called in each format: the one table that formats and the reference page read.
//! A cell has targets, apart by spaces. `out|in` is one name for what a container did and another for what was done
//! to it from the network. `name=conversion` says how the value is written; a target whose conversion does not fit
//! the value is passed over. `.` is our own name, which a member has too if no target fits, or the cell is empty.
//! `-` is left out: the format says it elsewhere.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::convert::Convert;

/// A format that names members one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
    /// Falco's `output_fields`.
    Falco,
    /// Common Event Format.
    Cef,
    /// Log Event Extended Format.
    Leef,
    /// OpenTelemetry's semantic conventions.
    Otel,
}

impl Column {
    /// All, in the table's order.
    pub const ALL: [Self; 6] = [Self::Ocsf, Self::Ecs, Self::Falco, Self::Cef, Self::Leef, Self::Otel];

    /// Its heading.
    pub fn title(self) -> &'static str {
        ["OCSF", "ECS", "Falco", "CEF", "LEEF", "OpenTelemetry"][self as usize]
    }

    /// Our own name for a member, in this format's style.
    pub fn own_name(self, section: &str, name: &str) -> String {
        let dotted = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        match self {
            Self::Ocsf => format!("unmapped.{dotted}"),
            Self::Ecs | Self::Falco | Self::Otel => format!("taffrail.{dotted}"),
            // `VendorProductName`, letters and digits only.
            Self::Cef => format!("TaffrailMonitor{}", camel(&dotted, true)),
            Self::Leef => camel(&dotted, false),
        }
    }
}

/// `process.mnt_ns` as `ProcessMntNs` or `processMntNs`; whatever is no letter or digit ends a word.
fn camel(name: &str, mut upper: bool) -> String {
    let mut out = String::with_capacity(name.len());
    for char in name.chars() {
        match char {
            char if !char.is_ascii_alphanumeric() => upper = true,
            char if std::mem::take(&mut upper) => out.push(char.to_ascii_uppercase()),
            char => out.push(char),
        }
    }
    out
}

/// A name in a format, and how the value is written there.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name for what a container did.
    pub outward: &'static str,
    /// The name for what came from the network.
    pub inward: &'static str,
    /// How the value is written.
    pub convert: Convert,
}

/// What becomes of a member in a format.
#[derive(Debug)]
pub struct Cell {
    /// Its names there.
    pub targets: Vec<Target>,
    /// Our own name.
    pub own_name: String,
    /// Whether our own name is written besides.
    pub is_own_too: bool,
    /// Whether it is left out.
    pub is_told_elsewhere: bool,
}

impl Cell {
    fn parse(column: Column, (section, name): (&str, &str), text: &'static str) -> Self {
        let mut cell = Self {
            targets: Vec::new(),
            own_name: column.own_name(section, name),
            is_own_too: false,
            is_told_elsewhere: text == "-",
        };
        for word in text.split_whitespace().filter(|word| *word != "-") {
            if word == "." {
                cell.is_own_too = true;
                continue;
            }
            let (names, convert) = word.split_once('=').unwrap_or((word, ""));
            let (outward, inward) = names.split_once('|').unwrap_or((names, names));
            let Some(convert) = Convert::named(convert) else { continue };
            cell.targets.push(Target { outward, inward, convert });
        }
        cell
    }
}

struct Row {
    from: &'static str,
    cells: [&'static str; 6],
}

impl Row {
    /// Its section and name.
    fn source(&self) -> (&'static str, &'static str) {
        self.from.split_once('.').unwrap_or(("", self.from))
    }
}

/// Looks a member up.
pub fn cell(column: Column, section: &str, name: &str) -> Option<&'static Cell> {
    type Cells = HashMap<&'static str, HashMap<&'static str, [Cell; 6]>>;
    static CELLS: LazyLock<Cells> = LazyLock::new(|| {
        let mut cells = Cells::new();
        for row in ROWS {
            let (section, name) = row.source();
            let of_row =
                Column::ALL.map(|column| Cell::parse(column, row.source(), row.cells[column as usize]));
            cells.entry(section).or_default().insert(name, of_row);
        }
        cells
    });
    CELLS.get(section)?.get(name).map(|cells| &cells[column as usize])
}

const fn row(
    from: &'static str,
    ocsf: &'static str,
    ecs: &'static str,
    falco: &'static str,
    cef: &'static str,
    leef: &'static str,
    otel: &'static str,
) -> Row {
    Row { from, cells: [ocsf, ecs, falco, cef, leef, otel] }
}

/// All members that have a name in some format. In OCSF's names `actor.process` is the process of the record, and
/// what a class has no place for has our own name; `ocsf.rs` says where the process stands in each class.
#[rustfmt::skip]
static ROWS: &[Row] = &[
    //  member                  OCSF                                                       ECS                                                  Falco                                            CEF                             LEEF                       OpenTelemetry
    row("seq",                  "metadata.sequence",                                       "event.sequence",                                    "",                                              "",                             "",                        ""),
    row("prev",                 "-",                                                       "-",                                                 "-",                                             "-",                            "-",                       "-"),
    row("kind",                 "metadata.log_name",                                       "",                                                  "",                                              "cat",                          "",                        ""),
    row("time",                 "metadata.original_time",                                  "-",                                                 "-",                                             "-",                            "-",                       "-"),
    row("boot_ns",              "",                                                        "",                                                  "evt.boottime",                                  "",                             "",                        ""),
    row("node",                 "-",                                                       "-",                                                 "evt.hostname",                                  "-",                            "-",                       "-"),
    row("boot_id",              "-",                                                       "host.boot.id",                                      "",                                              "",                             "",                        ""),
    row("rule",                 "-",                                                       "rule.name",                                         "-",                                             "-",                            "policy",                  "security_rule.name"),
    row("priority",             "-",                                                       "log.level=lower",                                   "-",                                             "",                             "",                        "-"),
    row("output",               "-",                                                       "-",                                                 "-",                                             "msg",                          "msg",                     "-"),
    row("tags",                 "finding_info.types",                                      "tags threat.technique.id=techniques threat.tactic.name=tactics", "-",                                "cs6=words",                    "",                        ""),

    row("event.kind",           "",                                                        "",                                                  "",                                              "",                             "",                        ""),
    row("event.type",           "metadata.event_code",                                     "event.action",                                      "evt.type",                                      "act",                          "",                        ""),
    row("event.result",         "status_code=text",                                        "",                                                  "evt.rawres",                                    "",                             "",                        ""),
    row("event.error",          "-",                                                       "error.code",                                        "",                                              "reason",                       "reason",                  "error.type"),
    row("event.fd",             "",                                                        "",                                                  "fd.num",                                        "",                             "",                        ""),
    row("event.file",           "file.path file.name=base",                                "file.path file.name=base",                          "fd.name",                                       "filePath fname=base",          "filePath",                "file.path file.name=base"),
    row("event.file_ino",       "file.uid=text",                                           "file.inode=text",                                   "fd.ino",                                        "fileId=text",                  "",                        "file.inode=text"),
    row("event.file_dev",       "file.volume",                                             "file.device",                                       "",                                              "",                             "",                        ""),
    row("event.mode",           "file.type_id=file_type .",                                "file.mode",                                         "",                                              "filePermission",               "",                        "file.mode"),
    row("event.owner",          "file.owner.uid=text",                                     "file.uid=text",                                     "",                                              "",                             "",                        "file.owner.id=text"),
    row("event.target",         "file_result.path file_result.name=base file_result.type_id=unknown", "",                                       "",                                              "",                             "",                        ""),
    row("event.exe",            "",                                                        "",                                                  "",                                              "",                             "",                        ""),
    row("event.cwd",            "actor.process.working_directory",                         "process.working_directory",                         "proc.cwd",                                      "",                             "",                        "process.working_directory"),
    row("event.args",           "actor.process.cmd_line=words",                            "process.args=list process.command_line=words",      "proc.cmdline=words",                            "cs4=words",                    "commandLine=words",       "process.command_args=list process.command_line=words"),
    row("event.arg_count",      "",                                                        "process.args_count",                                "proc.nargs",                                    "",                             "",                        "process.args_count"),
    row("event.child_pid",      "process.pid",                                             "",                                                  "",                                              "dpid",                         "",                        ""),
    row("event.child_vpid",     "process.namespace_pid",                                   "",                                                  "",                                              "",                             "",                        ""),
    row("event.child_key",      "process.uid",                                             "",                                                  "",                                              "",                             "",                        ""),
    row("event.code",           "exit_code",                                               "process.exit_code",                                 "",                                              "",                             "",                        "process.exit.code"),
    row("event.duration_ns",    "duration=milliseconds .",                                 "event.duration",                                    "",                                              "",                             "",                        ""),
    row("event.family_name",    "connection_info.protocol_ver_id=ip_version .",            "network.type=ip_type",                              "",                                              "",                             "",                        "network.type=ip_type"),
    row("event.protocol",       "connection_info.protocol_name",                           "network.transport",                                 "fd.l4proto",                                    "proto",                        "proto",                   "network.transport"),
    row("event.direction",      "connection_info.direction_id=direction",                  "network.direction=direction_name",                  "",                                              "deviceDirection=direction_bit", "",                       "network.io.direction=io_direction"),
    row("event.remote_ip",      "dst_endpoint.ip|src_endpoint.ip",                         "destination.ip|source.ip destination.address|source.address", "fd.rip",                              "dst|src=ipv4 c6a3|c6a2=ipv6",  "dst|src",                 "network.peer.address"),
    row("event.remote_port",    "dst_endpoint.port|src_endpoint.port",                     "destination.port|source.port",                      "fd.rport",                                      "dpt|spt",                      "dstPort|srcPort",         "network.peer.port"),
    row("event.local_ip",       "src_endpoint.ip|dst_endpoint.ip",                         "source.ip|destination.ip source.address|destination.address", "fd.lip",                              "src|dst=ipv4 c6a2|c6a3=ipv6",  "src|dst",                 "network.local.address"),
    row("event.local_port",     "src_endpoint.port|dst_endpoint.port",                     "source.port|destination.port",                      "fd.lport",                                      "spt|dpt",                      "srcPort|dstPort",         "network.local.port"),
    row("event.path",           "dst_endpoint.name",                                       "",                                                  "",                                              "",                             "",                        ""),
    row("event.sent_bytes",     "traffic.bytes_out",                                       "source.bytes|destination.bytes",                    "",                                              "out",                          "srcBytes|dstBytes",       ""),
    row("event.received_bytes", "traffic.bytes_in",                                        "destination.bytes|source.bytes",                    "",                                              "in",                           "dstBytes|srcBytes",       ""),
    row("event.bytes",          "traffic.bytes",                                           "network.bytes",                                     "",                                              "",                             "",                        ""),
    row("event.message",        "",                                                        "dns.type",                                          "",                                              "",                             "",                        ""),
    row("event.id",             "",                                                        "dns.id=text",                                       "",                                              "",                             "",                        ""),
    row("event.question_name",  "query.hostname",                                          "dns.question.name",                                 "",                                              "destinationDnsDomain",         "",                        "dns.question.name"),
    row("event.question_type",  "query.type",                                              "dns.question.type",                                 "",                                              "",                             "",                        ""),
    row("event.question_class", "query.class=text",                                        "dns.question.class=text",                           "",                                              "",                             "",                        ""),
    row("event.rcode",          "rcode",                                                   "dns.response_code",                                 "",                                              "",                             "",                        ""),
    row("event.answers",        "answers=ocsf_answers",                                    "dns.answers=ecs_answers",                           "",                                              "",                             "",                        "dns.answers=answer_data"),

    row("process.key",          "actor.process.uid",                                       "process.entity_id",                                 "",                                              "",                             "",                        ""),
    row("process.pid",          "actor.process.pid",                                       "process.pid",                                       "proc.pid",                                      "spid",                         "",                        "process.pid"),
    row("process.vpid",         "actor.process.namespace_pid",                             "process.vpid",                                      "proc.vpid",                                     "",                             "",                        "process.vpid"),
    row("process.tid",          "actor.process.tid",                                       "process.thread.id",                                 "thread.tid",                                    "",                             "",                        "thread.id"),
    row("process.name",         "actor.process.name",                                      "process.name",                                      "proc.name",                                     "sproc",                        "",                        "process.executable.name"),
    row("process.exe",          "actor.process.file.path actor.process.file.name=base actor.process.file.type_id=regular", "process.executable", "proc.exepath",                                   "cs5",                          "",                        "process.executable.path"),
    row("process.cmdline",      "actor.process.cmd_line",                                  "process.command_line",                              "proc.cmdline",                                  "cs4",                          "commandLine",             "process.command_line"),
    row("process.thread_name",  "",                                                        "process.thread.name",                               "",                                              "",                             "",                        "thread.name"),
    row("process.uid",          "actor.process.user.uid=text actor.process.euid",          "user.id=text",                                      "user.uid",                                      "suid=text",                    "",                        "process.user.id"),
    row("process.gid",          "actor.process.group.uid=text actor.process.egid",         "group.id=text",                                     "group.gid",                                     "",                             "",                        ""),
    row("process.login_uid",    "actor.process.auid",                                      "",                                                  "user.loginuid",                                 "",                             "",                        ""),
    row("process.user",         "actor.process.user.name",                                 "user.name",                                         "user.name",                                     "suser",                        "usrName",                 "process.user.name"),
    row("process.group",        "actor.process.group.name",                                "group.name",                                        "group.name",                                    "",                             "",                        ""),
    row("process.login_user",   "",                                                        "",                                                  "user.loginname",                                "",                             "",                        ""),
    row("process.exec_session", "actor.process.session.uid",                               "",                                                  "",                                              "",                             "",                        ""),
    row("process.parent_key",   "actor.process.parent_process.uid",                        "process.parent.entity_id",                          "",                                              "",                             "",                        ""),
    row("process.parent_name",  "actor.process.parent_process.name",                       "process.parent.name",                               "proc.pname",                                    "",                             "",                        ""),
    row("process.parent_exe",   "actor.process.parent_process.file.path actor.process.parent_process.file.name=base actor.process.parent_process.file.type_id=regular", "process.parent.executable", "proc.pexepath", "", "",       ""),

    row("target.key",           "process.uid",                                             "",                                                  "",                                              "",                             "",                        ""),
    row("target.pid",           "process.pid",                                             "",                                                  "",                                              "dpid",                         "",                        ""),
    row("target.vpid",          "process.namespace_pid",                                   "",                                                  "",                                              "",                             "",                        ""),
    row("target.name",          "process.name",                                            "",                                                  "",                                              "dproc",                        "",                        ""),
    row("target.exe",           "process.file.path process.file.name=base process.file.type_id=regular", "",                                    "",                                              "",                             "",                        ""),
    row("target.container_id",  "process.container.uid=text",                              "",                                                  "",                                              "",                             "",                        ""),

    row("container.id",         "actor.process.container.uid",                             "container.id",                                      "container.id=short .",                          "cs1",                          "",                        "container.id"),
    row("container.runtime",    "actor.process.container.runtime",                         "container.runtime",                                 "container.type",                                "",                             "",                        "container.runtime.name"),
    row("container.name",       "actor.process.container.name",                            "container.name",                                    "container.name",                                "",                             "",                        "container.name"),
    row("container.image",      "actor.process.container.image.uid actor.process.container.image.name=repository actor.process.container.image.tag=tag", "container.image.name=repository container.image.tag=tags", "container.image container.image.repository=repository container.image.tag=tag", "cs2", "", "container.image.name=repository container.image.tags=tags"),
    row("container.image_digest", "",                                                      "",                                                  "container.image.digest",                        "",                             "",                        ""),
    row("container.image_id",   "",                                                        "",                                                  "container.image.id",                            "",                             "",                        "container.image.id"),
    row("container.pod_name",   "actor.process.container.orchestrator=kubernetes .",       "orchestrator.resource.name orchestrator.type=kubernetes", "k8s.pod.name",                            "cs3",                          "",                        "k8s.pod.name"),
    row("container.pod_namespace", "",                                                     "orchestrator.namespace",                            "k8s.ns.name",                                   "",                             "",                        "k8s.namespace.name"),
    row("container.pod_uid",    "actor.process.container.pod_uuid=uuid",                   "orchestrator.resource.id",                          "k8s.pod.uid",                                   "",                             "",                        "k8s.pod.uid"),
    row("container.workload_kind", "",                                                     "orchestrator.resource.parent.type",                 "",                                              "",                             "",                        ""),
    row("container.labels",     "actor.process.container.labels=pairs",                    ".",                                                 "",                                              "",                             "",                        ""),
];

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# What exporters call each member\n\nGenerated from `monitor/src/export/table.rs`; [exporters](../export/README.md) says what the formats are. \
         `out|in`: the first name for what a container did, the second for what came to it from the network. `name=how`: converted, below. \
         Members that have no name in a format, and all that are not in the table, have their own there: in OCSF `unmapped.process.mnt_ns`, \
         in ECS, Falco's form and OpenTelemetry `taffrail.process.mnt_ns`, in CEF `TaffrailMonitorProcessMntNs`, in LEEF `processMntNs`; \
         `.` is this name, besides. `-`: said elsewhere in the format.\n\n",
    );
    let titles = Column::ALL.map(Column::title).join(" | ");
    page.push_str(&format!("| member | {titles} |\n|---|{}\n", "---|".repeat(Column::ALL.len())));
    for Row { from, cells } in ROWS {
        let code = |cell: &&str| {
            let words: Vec<String> =
                cell.split_whitespace().map(|word| format!("`{}`", word.replace('|', "\\|"))).collect();
            words.join("<br>")
        };
        let cells: Vec<String> = cells.iter().map(code).collect();
        page.push_str(&format!("| `{from}` | {} |\n", cells.join(" | ")));
    }
    page.push_str("\n| conversion | |\n|---|---|\n");
    for (name, _, meaning) in Convert::ALL.iter().filter(|(name, ..)| !name.is_empty()) {
        page.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reference_page_is_fresh() {
        crate::testing::assert_fresh("docs/reference/export.md", &reference());
    }

    #[test]
    fn each_member_has_one_row_and_each_conversion_exists() {
        let mut seen = BTreeSet::new();
        for Row { from, cells } in ROWS {
            assert!(seen.insert(from), "{from} twice");
            for word in cells.iter().flat_map(|cell| cell.split_whitespace()) {
                let convert = word.split_once('=').map_or("", |(_, convert)| convert);
                assert!(Convert::named(convert).is_some(), "{from}: {word}");
            }
        }
    }

    #[test]
    fn falcos_names_are_fields_that_rules_know() {
        for Row { from, cells } in ROWS {
            for word in
                cells[Column::Falco as usize].split_whitespace().filter(|word| !matches!(*word, "." | "-"))
            {
                let name = word.split_once('=').map_or(word, |(name, _)| name);
                assert!(crate::event::field::find(name).is_some(), "{from}: {name}");
            }
        }
    }

    #[test]
    fn own_names_follow_each_formats_style() {
        let names = Column::ALL.map(|column| column.own_name("process", "mnt_ns"));
        assert_eq!(
            names,
            [
                "unmapped.process.mnt_ns",
                "taffrail.process.mnt_ns",
                "taffrail.process.mnt_ns",
                "TaffrailMonitorProcessMntNs",
                "processMntNs",
                "taffrail.process.mnt_ns",
            ]
        );
    }
}
