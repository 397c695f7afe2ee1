//! `taffrail support-bundle`: what somebody needs who is to help, in one archive, without secrets and without anything that
//! containers did.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use hyper::Method;
use serde_json::json;

use super::config::Source;
use super::status::Daemon;
use crate::config::Settings;
use crate::export::redact::{REDACTED, redacted};
use crate::export::settings::{SecretAt, Settings as Exporter};

/// Gather what somebody needs who is to help: settings, status, metrics, `doctor`, versions, the daemon's last messages. No
/// secrets, no events.
#[derive(clap::Args)]
pub struct Args {
    /// The archive to make (tar); `-` for stdout.
    #[arg(value_name = "FILE")]
    into: PathBuf,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs the sub-command.
pub fn run(args: &Args) -> ExitCode {
    let is_to_stdout = args.into.as_os_str() == "-";
    if is_to_stdout && io::stdout().is_terminal() {
        eprintln!("error: an archive is nothing for a terminal");
        eprintln!("  hint: `taffrail support-bundle - > taffrail.tar`");
        return ExitCode::from(super::FAILED);
    }
    let settings = match args.daemon.source().load() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let secrets = secrets(&settings);
    let parts: Vec<(&str, String)> =
        parts(args, &settings).into_iter().map(|(name, text)| (name, redacted(text, &secrets))).collect();
    let written = if is_to_stdout {
        write(io::stdout().lock(), &parts)
    } else {
        create(&args.into).and_then(|file| write(file, &parts))
    };
    match written {
        Ok(()) => {
            eprintln!("it has {}", parts.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
            eprintln!("Read it before you send it.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let hint =
                "choose a file that is not there yet, in a folder that you may write to, or `-` for stdout";
            super::complain(&error, Some(hint));
            ExitCode::from(super::FAILED)
        }
    }
}

/// What is in it, by name.
fn parts(args: &Args, settings: &Settings) -> Vec<(&'static str, String)> {
    let ask = |path: &str| match args.daemon.ask(Method::GET, path) {
        Ok((_, body)) => body,
        Err(_) => "the daemon cannot be asked\n".to_owned(),
    };
    let messages = ask("/messages");
    let lines = serde_json::from_str::<Vec<String>>(&messages).map(|lines| lines.join("\n"));
    vec![
        ("config.yaml", shown(settings)),
        ("status.json", ask("/status")),
        ("metrics.txt", ask("/metrics")),
        ("messages.txt", lines.unwrap_or(messages)),
        ("doctor.json", doctor(args.daemon.source())),
        ("versions.json", versions().to_string()),
    ]
}

/// The settings, without what people put into them that they should not: headers, and parts of addresses, can hold secrets.
fn shown(settings: &Settings) -> String {
    let mut settings = settings.clone();
    for exporter in &mut settings.exporters {
        for (_, value) in &mut exporter.headers {
            REDACTED.clone_into(value);
        }
        exporter.to = exporter.shown_address();
    }
    settings.to_yaml()
}

/// Secrets that the settings lead to, and can be read: they are looked for in all that goes out.
fn secrets(settings: &Settings) -> Vec<String> {
    let exporters = settings.exporters.iter();
    let named = exporters.flat_map(|of| of.token.iter().chain(of.login.iter().map(|(_, secret)| secret)));
    let read = named.filter_map(|secret| SecretAt::read(secret).ok());
    let headers = settings.exporters.iter().flat_map(|of| of.headers.iter().map(|(_, value)| value.clone()));
    let addresses = settings.exporters.iter().flat_map(Exporter::secrets_in_address);
    let tokens = settings.api.tokens_file.as_deref().and_then(|path| std::fs::read_to_string(path).ok());
    let tokens = tokens.unwrap_or_default();
    let tokens = tokens.split_whitespace().map(str::to_owned).filter(|word| word.len() >= 16);
    read.chain(headers).chain(addresses).chain(tokens).collect()
}

/// What `taffrail doctor` says with the same settings: in a process of its own, since it tries things.
fn doctor(source: &Source) -> String {
    let run = std::env::current_exe().and_then(|program| {
        Command::new(program).args(["doctor", "--json"]).args(source.arguments()).output()
    });
    match run {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("doctor does not run: {error}\n"),
    }
}

fn versions() -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "taffrail": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "kernel_version": read("/proc/sys/kernel/version"),
        "lsm": read("/sys/kernel/security/lsm"),
    })
}

/// Makes the file: never over one that is there, and for nobody else to read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write(into: impl Write, parts: &[(&str, String)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(into);
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("taffrail-support/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn secrets_that_the_settings_lead_to_are_in_nothing_that_goes_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (token, password) = (file("token", "geheim-1\n"), file("password", "geheim-2"));
        let tokens = file("tokens", "a geheim-3-geheim-3\ngeheim-4-geheim-4\n");
        let config = file(
            "config.yaml",
            &format!(
                "export: {{x: {{to: 'webhook+https://h/geheim-7?key=geheim-5', token_file: {token}, headers: ['X-Key: geheim-6']}}, \
                 y: {{to: 'webhook+https://h/', user: u, password_file: {password}}}}}\n\
                 api: {{listen: '127.0.0.1:1', cert_file: /c, key_file: /k, tokens_file: {tokens}}}\n"
            ),
        );
        let settings = load(Some(config.as_ref()), &[]).unwrap();
        let said = "geheim-1 geheim-2 geheim-3-geheim-3 geheim-4-geheim-4 key=geheim-5 geheim-6 /geheim-7";
        for text in [shown(&settings), said.to_owned()] {
            let text = redacted(text, &secrets(&settings));
            assert!(!text.contains("geheim") && text.contains(REDACTED), "{text}");
        }
    }

    #[test]
    fn archive_is_made_for_its_owner_alone_and_over_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("x.tar");
        write(create(&into).unwrap(), &[("a", "b".to_owned())]).unwrap();
        assert_eq!(into.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&into).is_err());
        let mut archive = tar::Archive::new(std::fs::File::open(&into).unwrap());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [PathBuf::from("taffrail-support/a")]);
    }
}
