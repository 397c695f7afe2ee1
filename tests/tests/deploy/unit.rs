//! The unit of systemd: all that it says is known to the systemd of this machine.

use std::process::Command;

use taffrail_tests::daemon::binary;
use taffrail_tests::skip;

use crate::root;
use crate::stage::lacks;

#[test]
fn systemd_knows_all_that_the_unit_says() {
    const TEST: &str = "systemd_knows_all_that_the_unit_says";
    if let Some(reason) = lacks(&["systemd-analyze"]) {
        skip!(TEST, "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(root().join("deploy/taffrail.service")).unwrap();
    // A program has to be there.
    let installed = unit.replace("/usr/bin/taffrail", binary().to_str().unwrap());
    assert_ne!(unit, installed);
    let path = folder.path().join("taffrail.service");
    std::fs::write(&path, installed).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Units that it is ordered with may be told of, too.
    let own: Vec<&str> = said.lines().filter(|line| line.contains("taffrail")).collect();
    assert_eq!(own, [""; 0]);
}
