//! Falco's fields that no event has a value of yet: rules with them load, and their tests are false. A field that
//! gets values moves to another table.

use super::super::field::{Field, Get, Type};

macro_rules! pending {
    ($( $ty:ident $( $name:literal )* ; )*) => {
        &[ $( $( Field {
            name: $name, ty: Type::$ty, kinds: 0, doc: "Known from Falco; no event has a value of it yet.", get: Get::Nothing,
        }, )* )* ]
    };
}

/// Names and types are Falco's.
pub const FIELDS: &[Field] = pending! {
    Text
        "evt.pluginname" "evt.plugininfo" "evt.asynctype" "evt.latency.human" "evt.buffer" "evt.io_dir" "evt.type.is";
    Number
        "evt.reltime" "evt.reltime.s" "evt.reltime.ns" "evt.latency" "evt.latency.s" "evt.latency.ns" "evt.latency.quantized"
        "evt.deltatime" "evt.deltatime.s" "evt.deltatime.ns" "evt.cpu" "evt.buflen" "evt.buflen.in" "evt.buflen.out"
        "evt.buflen.file" "evt.buflen.file.in" "evt.buflen.file.out" "evt.buflen.net" "evt.buflen.net.in"
        "evt.buflen.net.out" "evt.wait_latency" "evt.around" "evt.count.error.file" "evt.count.error.net"
        "evt.count.error.memory" "evt.count.error.other" "evt.count.procinfo" "evt.count.threadinfo";
    Bool
        "evt.is_syslog" "evt.is_wait";
    Text
        "proc.env" "proc.aenv" "proc.penv" "proc.fdusage" "proc.stdin.type" "proc.stdin.name" "proc.stdout.type"
        "proc.stdout.name" "proc.stderr.type" "proc.stderr.name";
    Number
        "proc.exe_ino.mtime" "proc.pidns_init_start_ts" "proc.loginshellid" "proc.fdopencount"
        "proc.fdlimit" "proc.vmsize" "proc.vmrss" "proc.vmswap" "proc.nthreads" "proc.nchilds"
        "thread.pfmajor" "thread.pfminor" "thread.exectime" "thread.totexectime" "thread.vmsize" "thread.vmrss"
        "thread.cpu" "thread.cpu.user" "thread.cpu.system";
    Bool
        "proc.is_exe_writable" "proc.is_container_healthcheck" "proc.is_container_liveness_probe"
        "proc.is_container_readiness_probe";
    Text
        "thread.cgroups" "thread.cgroup"
        "container.healthcheck"
        "container.liveness_probe" "container.readiness_probe" "container.cni.json"
        "container.ip";
    Bool
        "container.host_pid" "container.host_network" "container.host_ipc";
    Text
        "fd.types" "fd.uid" "fd.proto" "fd.cproto" "fd.sproto" "fd.lproto" "fd.rproto"
        "syslog.facility.str" "syslog.severity.str" "syslog.message"
        "fdlist.nums" "fdlist.names" "fdlist.cips" "fdlist.sips" "fdlist.cports" "fdlist.sports";
    Number
        "syslog.facility" "syslog.severity";
    Text
        "k8s.pod.ip" "k8s.pod.cni.json"
        "k8s.rc.name" "k8s.rc.id" "k8s.rc.label" "k8s.rc.labels" "k8s.svc.name" "k8s.svc.id"
        "k8s.svc.label" "k8s.svc.labels" "k8s.ns.id" "k8s.ns.label" "k8s.ns.labels" "k8s.rs.name"
        "k8s.rs.id" "k8s.rs.label" "k8s.rs.labels" "k8s.deployment.name" "k8s.deployment.id" "k8s.deployment.label"
        "k8s.deployment.labels"
        "span.time" "span.tags" "span.tag" "span.args" "span.arg" "span.enterargs" "span.enterarg" "span.duration.human"
        "evtin.span.tags" "evtin.span.tag" "evtin.span.args" "evtin.span.arg" "evtin.span.p.tags" "evtin.span.p.tag"
        "evtin.span.p.args" "evtin.span.p.arg" "evtin.span.s.tags" "evtin.span.s.tag" "evtin.span.s.args"
        "evtin.span.s.arg" "evtin.span.m.tags" "evtin.span.m.tag" "evtin.span.m.args" "evtin.span.m.arg";
    Number
        "span.id" "span.ntags" "span.nargs" "span.duration"
        "evtin.span.id" "evtin.span.ntags" "evtin.span.nargs" "evtin.span.p.id" "evtin.span.p.ntags" "evtin.span.p.nargs"
        "evtin.span.s.id" "evtin.span.s.ntags" "evtin.span.s.nargs" "evtin.span.m.id" "evtin.span.m.ntags"
        "evtin.span.m.nargs";
};
