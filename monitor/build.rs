//! Builds the kernel object with the workspace's own toolchain and puts it where `probe` embeds it.

fn main() -> anyhow::Result<()> {
    // The kernel side needs `build-std` and inline assembly for BPF. Only the nested cargo sees this.
    // SAFETY: a build script has one thread.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    // Cargo shows what a build script says as warnings; the nested build's progress is none.
    // SAFETY: as above.
    unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
    // Which folder it was built in is no part of the object: the same sources give the same bytes.
    for (option, value) in
        [("CARGO_UNSTABLE_TRIM_PATHS", "true"), ("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all")]
    {
        // SAFETY: as above.
        unsafe { std::env::set_var(option, value) };
    }
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../monitor-ebpf");
    println!("cargo::rerun-if-changed={}/../monitor-common/src", env!("CARGO_MANIFEST_DIR"));
    aya_build::build_ebpf(
        [aya_build::Package { name: "taffrail-ebpf", root_dir, ..Default::default() }],
        aya_build::Toolchain::Custom(env!("RUSTUP_TOOLCHAIN")),
    )
}
