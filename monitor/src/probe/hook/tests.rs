use super::*;

#[test]
fn calls_of_each_kind_are_seen_by_both_tiers_and_when_they_are_refused() {
    let kinds = |which: &dyn Fn(&Hook) -> bool| {
        HOOKS.iter().filter(|hook| which(hook)).fold(0, |kinds, hook| kinds | hook.kinds)
    };
    let portable = kinds(&|hook| hook.attach == Attach::Calls);
    assert_eq!(kinds(&|hook| hook.attach == Attach::CallEnds), portable);
    assert_eq!(kinds(&|hook| hook.attach == Attach::Refused), portable);
    // What a hook depends on comes before it.
    let place = |which: Attach| HOOKS.iter().position(|hook| hook.attach == which);
    assert!(place(Attach::Refused) < place(Attach::CallEnds));
    assert!(place(Attach::CallEnds) < HOOKS.iter().position(Hook::is_replaceable));
}
