//! TLS's numbers as IANA names them, and which of them encrypt.

const VERSIONS: &[(u16, &str)] =
    &[(0x0300, "SSLv3"), (0x0301, "TLSv1.0"), (0x0302, "TLSv1.1"), (0x0303, "TLSv1.2"), (0x0304, "TLSv1.3")];

/// Suites with authenticated encryption and, in TLS 1.2, forward secrecy. Any other is a failure.
const CIPHERS: &[(u16, &str)] = &[
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
];

const GROUPS: &[(u16, &str)] = &[
    (23, "secp256r1"),
    (24, "secp384r1"),
    (25, "secp521r1"),
    (29, "x25519"),
    (30, "x448"),
    (0x11eb, "SecP256r1MLKEM768"),
    (0x11ec, "X25519MLKEM768"),
    (0x11ed, "SecP384r1MLKEM1024"),
];

fn name(table: &[(u16, &str)], number: u16) -> String {
    let known = table.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("0x{number:04x}"), |(_, name)| (*name).to_owned())
}

pub fn version(number: u16) -> String {
    name(VERSIONS, number)
}

pub fn cipher(number: u16) -> String {
    name(CIPHERS, number)
}

pub fn group(number: u16) -> String {
    name(GROUPS, number)
}

/// TLS 1.2 or later.
pub fn version_is_strong(number: u16) -> bool {
    (0x0303..=0x0304).contains(&number)
}

pub fn cipher_is_strong(number: u16) -> bool {
    CIPHERS.iter().any(|(known, _)| *known == number)
}
