//! Addresses as text without the general formatter, which takes 1,500 instructions for each.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// Adds `10.0.0.1:80`, `[::1]:80`.
pub fn with_port(address: SocketAddr, out: &mut Vec<u8>) {
    let SocketAddr::V4(v4) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    without_port(IpAddr::V4(*v4.ip()), out);
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(v4.port()).as_bytes());
}

/// Adds `10.0.0.1`, `::1`.
pub fn without_port(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(v4) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_general_formatter_says() {
        let texts = [
            "0.0.0.0:0",
            "127.0.0.1:8080",
            "255.255.255.255:65535",
            "10.1.20.103:7",
            "[::]:0",
            "[::1]:443",
            "[fe80::1%4294967295]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "[::ffff:10.0.0.1]:80",
        ];
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap_or_default()
        };
        for text in texts {
            let address: SocketAddr = text.parse().unwrap_or_else(|error| unreachable!("{text}: {error}"));
            assert_eq!(written(&|out| with_port(address, out)), text);
            assert_eq!(written(&|out| without_port(address.ip(), out)), address.ip().to_string());
        }
    }
}
