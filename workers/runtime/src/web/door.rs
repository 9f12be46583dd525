//! Whom a request means, and from where: `Host` and `Origin`.
//!
//! A page of another site can make a browser on this machine send requests to a listener on loopback: under a
//! name of its own that it lets point here (DNS rebinding: a foreign `Host`), or straight (a foreign `Origin`).
//! Neither gets past this layer. A client that is no browser sends no `Origin`.
use super::{Problem, body};
use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

/// The names that a listener is known by, beside those of loopback and addresses of this machine's own.
#[derive(Debug, Clone, Default)]
pub struct Door(Arc<Vec<String>>);

impl Door {
    /// Known also by these host names; ports do not matter.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(Arc::new(
            names.into_iter().map(|name| name.to_ascii_lowercase()).collect(),
        ))
    }

    /// Lets through what means us.
    pub async fn pass(self, request: Request, next: Next) -> Response {
        match self.judge(request.headers()) {
            Ok(()) => next.run(request).await,
            Err(problem) => body::refuse(request.into_body(), problem).await,
        }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Problem::bad_request("say `Host` once"));
        };
        let host = host.to_str().unwrap_or_default();
        if !self.knows(name(host)) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "no such host here: use the address of the listener, or start it with --host NAME",
            ));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let foreign = origins.any(|origin| {
            let origin = origin.to_str().unwrap_or_default();
            let authority = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host))
        });
        if foreign {
            return Err(Problem::forbidden("requests of other sites' pages are refused"));
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        // An address cannot be made to point elsewhere: whoever names one means the machine that has it.
        let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        name.eq_ignore_ascii_case("localhost")
            || is_address(bare.unwrap_or(name))
            || self.0.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

/// The host without its port.
fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn judge(host: &str, origin: Option<&str>) -> Option<u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let door = Door::new(["gateway".to_owned()]);
        door.judge(&headers)
            .err()
            .map(|problem| problem.status().as_u16())
    }

    #[test]
    fn our_own_names_are_known_and_others_are_not() {
        for host in [
            "127.0.0.1:8081",
            "localhost:8081",
            "LOCALHOST",
            "[::1]:8081",
            "gateway:8081",
            "Gateway",
        ] {
            assert_eq!(judge(host, None), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8081",
            "127.0.0.1.evil.example",
            "",
            ":8081",
        ] {
            assert_eq!(judge(host, None), Some(421), "{host}");
        }
        assert!(Door::default().judge(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_page_may_speak_to_its_own_origin_only() {
        let host = "127.0.0.1:8081";
        assert_eq!(judge(host, Some("http://127.0.0.1:8081")), None);
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:3000",
            "http://localhost:8081",
            "null",
            "file://",
        ] {
            assert_eq!(judge(host, Some(origin)), Some(403), "{origin}");
        }
    }
}
