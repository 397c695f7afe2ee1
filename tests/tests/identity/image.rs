//! An image that podman, docker and containerd load, made of the machine's busybox: no registry is asked.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::stage::{Stage, said};

/// Its name.
pub const NAME: &str = "localhost/shop/web:1.2";

/// The image of pods' sandboxes.
pub const PAUSE: &str = "localhost/pause:1";

/// Makes a root folder of the machine's busybox.
pub fn make_root(root: &Path) {
    for folder in ["bin", "etc", "tmp", "proc", "dev", "sys", "run"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "sleep", "cat", "true"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nshopper:x:1000:1000::/:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nshoppers:x:1000:\n").unwrap();
}

/// Makes both, and gives the paths of the archives.
pub fn make(stage: &Stage, labels: &Value) -> [String; 2] {
    make_root(&stage.path("rootfs"));
    run("tar", stage.folder(), &["-C", "rootfs", "-cf", "layer.tar", "."]);
    let digest = run("sha256sum", stage.folder(), &["layer.tar"]);
    let digest = digest.split(' ').next().unwrap();
    // Two names of one image would be one to containerd.
    [(NAME, "web.tar", labels), (PAUSE, "pause.tar", &json!({ "pause": "" }))].map(
        |(name, archive, labels)| {
            let config = json!({
                "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
                "os": "linux",
                "config": { "Env": ["PATH=/bin"], "Cmd": ["sleep", "3600"], "Labels": labels },
                "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
            });
            let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
            std::fs::write(stage.path("config.json"), config.to_string()).unwrap();
            std::fs::write(stage.path("manifest.json"), manifest.to_string()).unwrap();
            run("tar", stage.folder(), &["-cf", archive, "config.json", "layer.tar", "manifest.json"]);
            stage.text(archive)
        },
    )
}

fn run(program: &str, folder: &Path, arguments: &[&str]) -> String {
    said(program, &Command::new(program).args(arguments).current_dir(folder).output().unwrap())
}
