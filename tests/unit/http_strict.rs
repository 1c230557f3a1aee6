//! JSON that is strict, and what of it is an id.

use super::*;

#[test]
fn h07_h08_h09_what_is_not_strict_json_is_refused() {
    for fine in [&b"{\"a\":[1,null,true,-1,0.5]}"[..], b"\xEF\xBB\xBF[]", b" 1 ", b"\"\\ud83d\\ude00\""] {
        assert_eq!(
            parse(fine).unwrap(),
            serde_json::from_slice::<Value>(fine.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(fine)).unwrap()
        );
    }
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let bad: [&[u8]; 14] = [
        b"",
        b"<html>",
        b"{",
        b"[1] x",
        b"\"\xff\"",
        b"\"\\ud800\"",
        b"{\"a\":1,\"a\":1}",
        b"[{\"a\":{\"b\":1,\"b\":2}}]",
        b"1e400",
        b"01",
        b"NaN",
        b"\xEF\xBB\xBF\xEF\xBB\xBF{}",
        &utf16,
        &deep,
    ];
    for bad in bad {
        assert_eq!(parse(bad), Err(NotJson), "{}", String::from_utf8_lossy(bad).chars().take(40).collect::<String>());
    }
}

#[test]
fn h11_numbers_that_are_not_exact_are_no_ids() {
    let read = |text: &str| id(&parse(text.as_bytes()).unwrap());
    assert_eq!(read("18446744073709551615"), IdRead::Text("18446744073709551615".into()));
    assert_eq!(read("-5"), IdRead::Text("-5".into()));
    for unknown in ["18446744073709551616", "1e300"] {
        assert_eq!(read(unknown), IdRead::Unknown, "{unknown}");
    }
    for none in ["-0", "1.5", "1e3", "true", "null", "[1]", "{}"] {
        assert_eq!(read(none), IdRead::No, "{none}");
    }
}
