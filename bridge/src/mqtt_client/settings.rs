//! What the operator says of the broker. Secrets come from files alone: an argument would show them to every user of the machine.
use super::codec::Version;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
};
use telltale_runtime::identity::token;

/// The port of MQTT without TLS.
const PORT: u16 = 1883;

/// The settings.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the flags")]
pub(crate) struct Settings {
    /// An MQTT broker that the site has, `mqtt://HOST:PORT`: the bridge is its client too. Not without `--mqtt-client-token-file`.
    #[arg(
        long,
        env = "TELLTALE_MQTT_CLIENT_URL",
        value_name = "URL",
        requires = "mqtt_client_token_file"
    )]
    mqtt_client_url: Option<String>,
    /// File with the token of the gateway credential as whose word all is taken that comes from that broker.
    #[arg(long, env = "TELLTALE_MQTT_CLIENT_TOKEN_FILE", value_name = "FILE")]
    mqtt_client_token_file: Option<PathBuf>,
    /// What that broker speaks.
    #[arg(
        long,
        env = "TELLTALE_MQTT_CLIENT_VERSION",
        value_name = "VERSION",
        value_enum,
        default_value = "5"
    )]
    mqtt_client_version: Version,
    /// The client id at that broker: it names the session, so it stays the same; one bridge alone may use it. If not said,
    /// `telltale-` and the site.
    #[arg(long, env = "TELLTALE_MQTT_CLIENT_ID", value_name = "ID")]
    mqtt_client_id: Option<String>,
    /// The user at that broker; none if not said.
    #[arg(long, env = "TELLTALE_MQTT_CLIENT_USER", value_name = "NAME")]
    mqtt_client_user: Option<String>,
    /// File with that user's password.
    #[arg(
        long,
        env = "TELLTALE_MQTT_CLIENT_PASSWORD_FILE",
        value_name = "FILE",
        requires = "mqtt_client_user"
    )]
    mqtt_client_password_file: Option<PathBuf>,
}

/// The settings, understood.
pub(super) struct Told {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) version: Version,
    pub(super) client_id: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Bytes>,
    pub(super) device: String,
    pub(super) secret: String,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("version", &self.version)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the files; nothing where there is no URL.
    pub(super) fn read(self, is_insecure: bool) -> anyhow::Result<Option<Told>> {
        let Some(url) = self.mqtt_client_url else {
            return Ok(None);
        };
        let (host, port) = address(&url)?;
        let is_near = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !is_near && !is_insecure {
            bail!(
                "`{url}` is another machine, and there is no TLS here: put a TLS proxy on this one before it, or say --insecure"
            );
        }
        let file = self
            .mqtt_client_token_file
            .context("--mqtt-client-url needs --mqtt-client-token-file")?;
        let text = line(&file)?;
        let Some((device, secret)) = token::split(&text) else {
            bail!(
                "{} holds no token: `telltale thing credentials NAME --rotate` prints one",
                file.display()
            );
        };
        let password = self
            .mqtt_client_password_file
            .map(|file| line(&file))
            .transpose()?;
        Ok(Some(Told {
            host,
            port,
            version: self.mqtt_client_version,
            client_id: self.mqtt_client_id,
            user: self.mqtt_client_user,
            password: password.map(Bytes::from),
            device: device.to_owned(),
            secret: secret.to_owned(),
        }))
    }
}

fn line(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Host and port of a URL. What else stands in it is refused, and not shown: it may be a password.
fn address(url: &str) -> anyhow::Result<(String, u16)> {
    if url.contains('@') {
        bail!(
            "a user and a password do not belong into the URL of the broker: --mqtt-client-user and --mqtt-client-password-file"
        );
    }
    let Some(rest) = url.strip_prefix("mqtt://") else {
        bail!("`{url}` does not begin with mqtt://; TLS and WebSocket need a proxy on this machine");
    };
    let rest = rest.trim_end_matches('/');
    // An IPv6 address has colons of its own, and stands in brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (rest, Some(PORT)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match port {
        Some(port) if !host.is_empty() && !host.contains('/') => Ok((host.to_owned(), port)),
        _ => bail!("`{url}` is no address of a broker: mqtt://HOST:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for (url, host, port) in [
            ("mqtt://localhost", "localhost", 1883),
            ("mqtt://127.0.0.1:18830/", "127.0.0.1", 18830),
            ("mqtt://[::1]:1884", "::1", 1884),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            assert_eq!(address(url).unwrap(), (host.to_owned(), port), "{url}");
        }
        for url in [
            "localhost:1883",
            "mqtts://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://a:b",
            "mqtt://a/b",
            "ws://a",
        ] {
            assert!(address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        let error = address("mqtt://me:geheim@broker").unwrap_err().to_string();
        assert!(
            error.contains("--mqtt-client-password-file") && !error.contains("geheim"),
            "{error}"
        );
    }
}
