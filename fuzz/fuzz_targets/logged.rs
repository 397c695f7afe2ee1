//! Whatever a line of the log could be, or who damaged it: searching it comes to an end, and what is looked for first spares no
//! line that would have been found.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use taffrail::audit::query::Query;
use taffrail::event::logged::Record;
use taffrail::rules::Filter;

const CONDITIONS: &[&str] = &[
    "fd.name startswith /etc or proc.name = sh or evt.type in (openat, execve)",
    "fd.rip in (10.0.0.0/8, 1.2.3.4) and fd.rport > 1",
    "user.uid = 0 and not container.name contains web",
    "proc.cmdline icontains pass or proc.args contains -c",
    "dns.question.name endswith .com or container.label[app] = x",
    "evt.res = SUCCESS or evt.rawres < 0",
    "evt.failed = true and proc.pname exists",
];

fuzz_target!(|line: &[u8]| {
    static QUERIES: OnceLock<Vec<Query>> = OnceLock::new();
    let queries = QUERIES.get_or_init(|| {
        let condition = |text| Filter::from_text(text, "fuzz").expect("valid conditions");
        let of_conditions = CONDITIONS.iter().map(|text| Query::all().with_condition(condition(text)));
        let mut queries: Vec<_> = of_conditions.map(|query| query.expect("fields of the log")).collect();
        queries.push(Query::all().of_container("web"));
        queries.push(Query::all().of_container("0123456789ab"));
        queries.push(Query::all().of_pod("prod/web-0").of_kinds(vec!["alert".to_owned()]));
        queries.push(Query::all().of_rules(vec!["Shell in a container".to_owned()]).between(Some(1), Some(1 << 60)));
        queries
    });
    let record = Record::parse(line);
    for query in queries {
        match query.judge(line) {
            None => assert!(record.is_none()),
            Some(false) if !query.may_be_in(line) => {
                assert!(!record.as_ref().is_some_and(|record| query.wants(record)));
            }
            Some(is_wanted) => assert_eq!(Some(is_wanted), record.as_ref().map(|record| query.wants(record))),
        }
    }
});
