//! Requests that a web page makes a browser send: whose page it is, and by which name it has reached the server.
//!
//! A page anywhere can make the browser of a person on this machine send requests here. Where a key is wanted they open nothing. Where
//! none is, and on administration, the headers that only a browser sets tell them apart. A page can also give its own name the address
//! of this machine, and is then no foreign one to the browser: so the name counts too.
//!
//! Pure. Not here: what is answered.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The page that sent the request, as the browser names it, unless it is the server's own or no browser sent it.
pub fn foreign_page(headers: &HeaderMap) -> Option<String> {
    let is_foreign = |origin: &&HeaderValue| !is_own(origin, headers);
    if let Some(origin) = headers.get_all(ORIGIN).iter().find(is_foreign) {
        return Some(String::from_utf8_lossy(origin.as_bytes()).into_owned());
    }
    let site = headers.get(SEC_FETCH_SITE)?.as_bytes();
    let is_foreign = site != b"same-origin" && site != b"none";
    is_foreign.then(|| String::from_utf8_lossy(site).into_owned())
}

/// The host that the request was sent to, where that is no name or address of a server which listens at `bound`.
pub fn foreign_host(headers: &HeaderMap, uri: &Uri, bound: IpAddr) -> Option<String> {
    let hosts = headers.get_all(HOST).iter();
    let hosts = hosts.map(|host| String::from_utf8_lossy(host.as_bytes()));
    let in_uri = uri.authority().map(|one| one.as_str().into());
    let mut foreign = hosts.chain(in_uri).filter(|host| {
        !is_host_of(host, |ip| {
            ip.is_loopback() || ip == bound.to_canonical() || bound.is_unspecified()
        })
    });
    foreign.next().map(Into::into)
}

/// Whether the page came from here, by a name that nobody else can give: then it has the host of the request in its address.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    authority.eq_ignore_ascii_case(host) && is_host_of(host, |_| true)
}

/// Whether this is `localhost`, or an address that is allowed; the port does not matter, which may have been forwarded.
fn is_host_of(host: &str, is_allowed: impl Fn(IpAddr) -> bool) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = address.unwrap_or(name).parse::<IpAddr>();
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| is_allowed(address.to_canonical())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    }

    fn is_foreign(pairs: &[(&'static str, &str)]) -> bool {
        foreign_page(&headers(pairs)).is_some()
    }

    #[test]
    fn a_client_that_is_no_browser_is_no_page() {
        assert!(!is_foreign(&[("host", "scoring.example:5001")]));
        assert!(!is_foreign(&[]));
    }

    #[test]
    fn a_page_of_another_server_is_foreign_whatever_it_names_itself() {
        let host = ("host", "127.0.0.1:5001");
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://127.0.0.1:8080",
            "http://localhost:5001",
            "http://127.0.0.1:5001.evil.example",
            "http://127.0.0.1:5001@evil.example",
            "127.0.0.1:5001",
        ] {
            assert!(is_foreign(&[host, ("origin", origin)]), "{origin}");
        }
        let own = ("origin", "http://127.0.0.1:5001");
        assert!(!is_foreign(&[host, own]));
        assert!(is_foreign(&[host, own, ("origin", "http://evil.example")]));
        assert!(is_foreign(&[own]), "no host");
    }

    #[test]
    fn a_page_whose_name_was_given_this_address_is_foreign() {
        let (host, origin) = ("evil.example:5001", "http://evil.example:5001");
        assert!(is_foreign(&[("host", host), ("origin", origin)]));
        for own in ["localhost:5001", "[::1]:5001", "192.0.2.7:5001"] {
            let origin = format!("http://{own}");
            assert!(!is_foreign(&[("host", own), ("origin", &origin)]), "{own}");
        }
    }

    #[test]
    fn a_browser_that_names_no_page_says_all_the_same_that_it_is_another() {
        let host = ("host", "127.0.0.1:5001");
        for (site, foreign) in [
            ("cross-site", true),
            ("same-site", true),
            ("anything", true),
            ("same-origin", false),
            ("none", false),
        ] {
            assert_eq!(
                is_foreign(&[host, ("sec-fetch-site", site)]),
                foreign,
                "{site}"
            );
        }
    }

    #[test]
    fn administration_answers_to_its_address_and_to_names_of_this_machine_alone() {
        let bound = "192.0.2.7".parse().unwrap();
        let foreign = |host: &str, uri: &str| {
            let headers = headers(&[("host", host)]);
            foreign_host(&headers, &uri.parse().unwrap(), bound).is_some()
        };
        for own in [
            "localhost:1",
            "LOCALHOST",
            "127.0.0.1:99",
            "127.9.9.9",
            "[::1]:1",
            "192.0.2.7:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!foreign(own, "/metrics"), "{own}");
        }
        for other in [
            "evil.example",
            "evil.example:1",
            "192.0.2.8",
            "localhost.evil.example",
            "x@localhost",
            "",
            "0.0.0.0:1",
            "127.0.0.1.nip.example",
            "localhost:1:2",
            "localhost/x",
        ] {
            assert!(foreign(other, "/metrics"), "{other}");
        }
        assert!(foreign("localhost", "http://evil.example/metrics"));
        // A client of HTTP/1.0 may name none; no browser does.
        let none = foreign_host(&HeaderMap::new(), &"/".parse().unwrap(), bound);
        assert_eq!(none, None);
    }
}
