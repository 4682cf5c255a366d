use proptest::prelude::*;

use super::{decode, read, write};
use crate::platform::kylin::json::Json;

fn rewritten(text: &str) -> String {
    String::from_utf8(write(&read(text).unwrap().value, false).bytes).unwrap()
}

fn as_kylin(text: &str) -> String {
    String::from_utf8(write(&read(text).unwrap().value, true).bytes).unwrap()
}

#[test]
fn text_is_pretty_as_jackson_prints_it() {
    let text = r#" {"a":{},"b":[],"c":[1,"x",[2,[]],{"d":null},{"e":{"f":true}}],"g":[[{"h":1}]]}"#;
    let expected = "{\n  \"a\" : { },\n  \"b\" : [ ],\n  \"c\" : [ 1, \"x\", [ 2, [ ] ], {\n    \"d\" : null\n  }, \
                    {\n    \"e\" : {\n      \"f\" : true\n    }\n  } ],\n  \"g\" : [ [ {\n    \"h\" : 1\n  } ] ]\n}";
    assert_eq!(rewritten(text), expected);
    assert_eq!(rewritten(expected), expected);
}

#[test]
fn escapes_are_those_of_jackson() {
    let cases = [
        (r#""\u0041\/\u00e9""#, "\"A/é\""),
        ("\"\u{7f}\u{2028}é\"", "\"\u{7f}\u{2028}é\""),
        (r#""\u0001\b\f\n\r\t\"\\""#, r#""\u0001\b\f\n\r\t\"\\""#),
        ("\"\u{1f600}\"", r#""\uD83D\uDE00""#),
        (r#""\ud83d\ude00""#, r#""\uD83D\uDE00""#),
        (r#""x\ud800y""#, r#""x\uD800y""#),
        (r#"{"\u00e9\n":1}"#, "{\n  \"é\\n\" : 1\n}"),
    ];
    for (text, expected) in cases {
        assert_eq!(rewritten(text), expected, "{text}");
    }
}

#[test]
fn numbers_are_spelled_as_java_spells_them() {
    let same = ["0", "-1", "123456789012345678901234567890", "0.1", "-0.0", "9.5", "1.0E-5", "1.000000005E8", "0.001"];
    for number in same {
        assert_eq!(rewritten(number), number);
    }
    // Java before 19 writes more digits than are needed; what they mean is not touched.
    for number in ["343.66667005750867", "2.2250738585072014E-308", "0.30000000000000004"] {
        assert_eq!(as_kylin(number), rewritten(number));
    }
    let otherwise = [
        ("-0", "0"),
        ("100000.00", "100000.0"),
        ("1e7", "1.0E7"),
        ("9999999.0", "9999999.0"),
        ("12345678.5", "1.23456785E7"),
        ("0.0009", "9.0E-4"),
        ("1e2", "100.0"),
        ("1.50e-3", "0.0015"),
        ("2E23", "2.0E23"),
        ("4.9e-324", "4.9E-324"),
        ("0e5", "0.0"),
        ("-0e-5", "-0.0"),
        ("123e2", "12300.0"),
        ("827.66665988498270", "827.6666598849827"),
    ];
    for (number, expected) in otherwise {
        assert_eq!(rewritten(number), expected);
        assert_eq!(as_kylin(number), expected);
    }
}

#[test]
fn w21_numbers_keep_their_value() {
    let changed = [
        ("0.12345678901234567890", "0.12345678901234568"),
        ("9007199254740993.0", "9.007199254740992E15"),
        ("1e400", "\"Infinity\""),
        ("-1e400", "\"-Infinity\""),
        ("1e-400", "0.0"),
    ];
    for (number, kylin) in changed {
        let written = write(&read(number).unwrap().value, false);
        assert_eq!(written.bytes, number.as_bytes());
        assert_eq!(written.numbers, [(number.to_owned(), kylin.to_owned())]);
        assert_eq!(as_kylin(number), kylin);
    }
}

#[test]
fn fields_that_occur_twice_stand_where_the_first_did_and_say_what_the_last_says() {
    let read = read(r#"{"a":1,"b":2,"a":3,"c":{"d":1,"d":1}}"#).unwrap();
    assert_eq!(read.twice, ["a", "d"]);
    let text = String::from_utf8(write(&read.value, false).bytes).unwrap();
    assert_eq!(text, "{\n  \"a\" : 3,\n  \"b\" : 2,\n  \"c\" : {\n    \"d\" : 1\n  }\n}");
    let many: Vec<String> = (0..100).map(|n| format!("\"{}\":{n}", n % 60)).collect();
    let many = format!("{{{}}}", many.join(","));
    assert_eq!(super::read(&many).unwrap().twice.len(), 40);
}

#[test]
fn what_follows_the_first_value_is_counted() {
    for (text, after) in [("{} \n", 0), ("{} x", 1), ("{}{}", 2), ("\"uuid\" : \"x\"}", 6)] {
        assert_eq!(read(text).unwrap().bytes_after, after, "{text}");
    }
}

#[test]
fn what_jackson_refuses_is_refused() {
    let broken = [
        "",
        " ",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "[1,]",
        "{a:1}",
        "{'a':1}",
        "01",
        "-",
        "1.",
        "1.e5",
        "1e",
        "NaN",
        "nul",
        "nulls",
        "+1",
        ".5",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"",
        "// c\n{}",
        "[1 2]",
        "\"\\u+123\"",
    ];
    for text in broken {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(read(&"[".repeat(100_000)).is_err());
}

#[test]
fn encodings_are_told_as_jackson_tells_them() {
    let text = "{\"a\":\"é\u{1f600}\"}";
    let utf16 = |big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let utf32 = |big: bool| -> Vec<u8> {
        let bytes = |c: char| if big { u32::from(c).to_be_bytes() } else { u32::from(c).to_le_bytes() };
        text.chars().flat_map(bytes).collect()
    };
    let marked = |mark: &[u8], bytes: Vec<u8>| [mark, &bytes].concat();
    let encodings = [
        (text.as_bytes().to_vec(), false),
        (marked(b"\xef\xbb\xbf", text.into()), true),
        (utf16(true), true),
        (utf16(false), true),
        (utf32(true), true),
        (utf32(false), true),
        (marked(b"\xfe\xff", utf16(true)), true),
        (marked(b"\xff\xfe", utf16(false)), true),
        (marked(b"\0\0\xfe\xff", utf32(true)), true),
        (marked(b"\xff\xfe\0\0", utf32(false)), true),
    ];
    for (bytes, is_other) in encodings {
        let (decoded, encoding) = decode(&bytes).unwrap();
        assert_eq!((&*decoded, encoding.is_some()), (text, is_other), "{bytes:?}");
    }
    for broken in [&b"{\"a\":\"\xff\"}"[..], b"{\0\"", b"\xff\xfe\0", b"\0\0\0{\0"] {
        assert!(decode(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn values_may_be_nested_deep() {
    let deep = |depth: usize| format!("{}{}", "{\"a\":[".repeat(depth), "]}".repeat(depth));
    let text = rewritten(&deep(249));
    assert_eq!(rewritten(&text), text);
    assert!(read(&deep(251)).is_err());
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let text = "\\PC{0,6}|[\\x00-\\x1f\"\\\\/\u{1f600}]{0,4}";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        text.prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::hash_map(text, inner, 0..30).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    /// What is written means what was read, is read again, and then written the same.
    #[test]
    fn any_json_keeps_its_meaning(value in json()) {
        let text = value.to_string();
        let written = rewritten(&text);
        let meaning = |text: &str| Json::parse(text.as_bytes()).unwrap();
        prop_assert!(meaning(&text).means(&meaning(&written)), "{}", written);
        prop_assert_eq!(&rewritten(&written), &written);
        prop_assert_eq!(as_kylin(&text), written);
    }

    /// What serde takes for JSON is JSON, and nothing else is, but for halves of pairs and what follows the value.
    #[test]
    fn any_text_is_read_as_serde_reads_it(text in "[{}\\[\\]:,\"\\\\u0-9dDeE.+ \ntrufalsn-]{0,24}") {
        let serde = serde_json::from_str::<serde_json::Value>(&text);
        match read(&text) {
            Ok(read) if read.bytes_after == 0 && !text.contains("\\u") => {
                // Numbers that no binary64 holds are no error to Java.
                prop_assert!(serde.is_ok() || text.contains(['e', 'E']), "{}", text);
            }
            Ok(_) => {}
            Err(_) => prop_assert!(serde.is_err(), "{}", text),
        }
    }

    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok((text, _)) = decode(&bytes) {
            let _ = read(&text);
        }
    }
}
