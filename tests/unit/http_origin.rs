//! Links, and which of them are of the origin.

use super::*;

#[test]
fn links_are_read_as_rfc_8288_writes_them() {
    let next = |value: &str| link([value].into_iter(), "next");
    for (value, found) in [
        ("</a?page=2>; rel=\"next\", </a?page=9>; rel=\"last\"", Some("/a?page=2")),
        ("</last>; rel=last, </b>; rel=next", Some("/b")),
        ("</c>; rel=\"prev NEXT\"", Some("/c")),
        ("</d,e;f>; title=\"a, b; rel=next\"; rel=next", Some("/d,e;f")),
        ("</g>; REL=next; anchor=\"/other\"", None),
        ("</h>; rel=\"prev\"; rel=\"next\"", None), // the first counts
        ("</i>", None),
        ("<", None),
        ("</j>; rel=\"nex\\t\"", Some("/j")),
        ("", None),
    ] {
        assert_eq!(next(value).as_deref(), found, "{value}");
    }
    assert_eq!(link(["</a>; rel=prev", "</b>; rel=next"].into_iter(), "next").as_deref(), Some("/b"));
}

#[test]
fn g03_g04_only_the_configured_origin_is_followed() {
    let origin = Origin::new("https://api.example.com").unwrap();
    for (link, to) in [
        ("?page=2", Some("/a/b?page=2")),
        ("c", Some("/a/c")),
        ("/d", Some("/d")),
        ("https://api.example.com/e", Some("/e")),
        ("https://API.example.com:443/f", Some("/f")),
        ("//api.example.com/g", Some("/g")),
        ("http://api.example.com/", None),
        ("https://api.example.com:8443/", None),
        ("https://evil.example/", None),
        ("//evil.example/", None),
        ("https://user@api.example.com/", None),
        ("https://:secret@api.example.com/", None),
        ("file:///etc/passwd", None),
        ("javascript:alert(1)", None),
        ("\\\\evil.example\\", None),
    ] {
        assert_eq!(origin.follow("/a/b", link).as_deref(), to, "{link}");
    }
}
