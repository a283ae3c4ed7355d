//! Who may use an open API: programs on this machine, and no web page.
//!
//! A page in a browser on this machine can send requests here too. It cannot forge the `Host` it was led to (a
//! rebound name is not a loopback name), nor hide its `Origin`, nor send JSON across origins without asking first,
//! and nothing here answers that question with yes.

use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ApiError, Code};

/// Lets a request through if it comes from a program on this machine or from our own pages.
pub async fn local_only(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The same for our own pages, whose forms are no JSON: they carry a token that no other page has.
pub async fn local_pages(request: Request, next: Next) -> Response {
    match check_place(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_place(request: &Request) -> Result<(), ApiError> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    let host = header(header::HOST).or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let Some(host) = host.filter(|host| is_loopback(host)) else {
        return Err(ApiError::new(
            Code::Forbidden,
            "this service is open to its own machine only: use localhost or 127.0.0.1 in the address",
        ));
    };
    if let Some(origin) = header(header::ORIGIN)
        && origin.strip_prefix("http://") != Some(host)
    {
        return Err(ApiError::new(Code::Forbidden, "requests of web pages from elsewhere are refused"));
    }
    Ok(())
}

fn check(request: &Request) -> Result<(), ApiError> {
    check_place(request)?;
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let json = header(header::CONTENT_TYPE).is_some_and(|value| {
        value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if writes && !json {
        return Err(ApiError::new(
            Code::MalformedPayload,
            "writes must have the content-type application/json",
        ));
    }
    Ok(())
}

/// `localhost`, `127.x.x.x` or `[::1]`, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut builder = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn programs_on_this_machine_pass() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "127.3.2.1", "[::1]:8080"] {
            check(&request("GET", &[("host", host)])).unwrap();
        }
        check(&request("PUT", &[("host", "localhost"), ("content-type", "application/json; charset=utf-8")]))
            .unwrap();
        check(&request("GET", &[("host", "localhost:1"), ("origin", "http://localhost:1")])).unwrap();
    }

    #[test]
    fn web_pages_and_other_names_do_not() {
        for headers in [
            &[][..],
            &[("host", "evil.example")],
            &[("host", "localhost.evil.example")],
            &[("host", "127.0.0.1.evil.example")],
            &[("host", "localhost:8080"), ("origin", "http://evil.example")],
            &[("host", "localhost:8080"), ("origin", "http://localhost:9999")],
            &[("host", "localhost:8080"), ("origin", "null")],
        ] {
            assert!(check(&request("GET", headers)).is_err(), "{headers:?}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            assert!(check(&request("POST", &[("host", "localhost"), ("content-type", kind)])).is_err());
        }
        assert!(check(&request("POST", &[("host", "localhost")])).is_err());
    }
}
