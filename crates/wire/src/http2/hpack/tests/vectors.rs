//! The examples of RFC 7541 appendix C, and what stands in the table after each.

use super::{Decoder, lines};

struct Example<'a> {
    block: &'a str,
    fields: &'a [&'a str],
    /// Newest first.
    table: &'a [&'a str],
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn check(first: &[u8], examples: &[Example<'_>]) {
    let mut decoder = Decoder::new();
    decoder.decode(first, |_, _| unreachable!()).unwrap();
    for (number, example) in examples.iter().enumerate() {
        assert_eq!(lines(&mut decoder, &bytes(example.block)).unwrap(), example.fields, "{number}");
        let all: Vec<u8> = (0..example.table.len()).map(|age| 0xbe + age as u8).collect();
        assert_eq!(lines(&mut decoder, &all).unwrap(), example.table, "{number}");
        lines(&mut decoder, &[0xbe + example.table.len() as u8]).unwrap_err();
    }
}

/// Of 256 bytes, as the examples of answers have it.
const SMALL: &[u8] = &[0x3f, 0xe1, 0x01];

const GET: [&str; 4] = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
const FOUND: [&str; 4] = [
    ":status: 302",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:21 GMT",
    "location: https://www.example.com",
];

#[test]
fn single_fields() {
    check(
        &[],
        &[Example {
            block: "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            fields: &["custom-key: custom-header"],
            table: &["custom-key: custom-header"],
        }],
    );
    check(
        &[],
        &[
            Example {
                block: "040c 2f73 616d 706c 652f 7061 7468",
                fields: &[":path: /sample/path"],
                table: &[],
            },
            Example {
                block: "1008 7061 7373 776f 7264 0673 6563 7265 74",
                fields: &["password: secret"],
                table: &[],
            },
            Example { block: "82", fields: &[":method: GET"], table: &[] },
        ],
    );
}

#[test]
fn requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for [first, second, third] in [plain, coded] {
        check(
            &[],
            &[
                Example { block: first, fields: &GET, table: &[":authority: www.example.com"] },
                Example {
                    block: second,
                    fields: &[GET[0], GET[1], GET[2], GET[3], "cache-control: no-cache"],
                    table: &["cache-control: no-cache", ":authority: www.example.com"],
                },
                Example {
                    block: third,
                    fields: &[
                        ":method: GET",
                        ":scheme: https",
                        ":path: /index.html",
                        ":authority: www.example.com",
                        "custom-key: custom-value",
                    ],
                    table: &[
                        "custom-key: custom-value",
                        "cache-control: no-cache",
                        ":authority: www.example.com",
                    ],
                },
            ],
        );
    }
}

#[test]
fn answers() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 \
         3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let later = "date: Mon, 21 Oct 2013 20:13:22 GMT";
    for [first, second, third] in [plain, coded] {
        check(
            SMALL,
            &[
                Example { block: first, fields: &FOUND, table: &[FOUND[3], FOUND[2], FOUND[1], FOUND[0]] },
                Example {
                    block: second,
                    fields: &[":status: 307", FOUND[1], FOUND[2], FOUND[3]],
                    table: &[":status: 307", FOUND[3], FOUND[2], FOUND[1]],
                },
                Example {
                    block: third,
                    fields: &[":status: 200", FOUND[1], later, FOUND[3], "content-encoding: gzip", cookie],
                    table: &[cookie, "content-encoding: gzip", later],
                },
            ],
        );
    }
}
