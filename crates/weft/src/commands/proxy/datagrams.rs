//! `--udp [ADDRESS:]PORT=NAME:PORT`: where an app sends datagrams, and to whom.

use std::net::{IpAddr, SocketAddr};

use weft_proxy::config::Datagrams;

/// The control plane refuses more.
pub const DATAGRAMS_MAX: usize = 64;

/// What `--udp` says.
#[derive(Clone, Debug, PartialEq)]
pub struct DatagramPort {
    address: Option<IpAddr>,
    port: u16,
    to: String,
}

impl DatagramPort {
    /// At this address if none was said.
    pub fn at(&self, near: IpAddr) -> Datagrams {
        Datagrams { at: SocketAddr::new(self.address.unwrap_or(near), self.port), to: self.to.clone() }
    }

    /// The flag's value.
    pub fn parse(text: &str) -> Result<DatagramPort, String> {
        let wrong =
            || "write [ADDRESS:]PORT=NAME:PORT, such as 5300=dns:53, ports from 1 to 65535".to_owned();
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (at, to) = text.split_once('=').ok_or_else(wrong)?;
        let (name, port) = to.rsplit_once(':').ok_or_else(wrong)?;
        number(port).ok_or_else(wrong)?;
        for part in name.splitn(2, '.') {
            crate::commands::service_name(part)?;
        }
        let (address, port) = match at.parse::<SocketAddr>() {
            Ok(at) => (Some(at.ip()), Some(at.port()).filter(|port| *port > 0)),
            Err(_) => (None, number(at)),
        };
        Ok(DatagramPort { address, port: port.ok_or_else(wrong)?, to: to.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::DatagramPort;

    #[test]
    fn datagrams_say_where_and_to_whom() {
        let near = "127.0.0.3".parse().unwrap();
        for (text, at, to) in [
            ("5300=dns:53", "127.0.0.3:5300", "dns:53"),
            ("[::1]:5300=dns.infra:53", "[::1]:5300", "dns.infra:53"),
            ("10.0.0.1:5300=dns:53", "10.0.0.1:5300", "dns:53"),
        ] {
            let said = DatagramPort::parse(text).unwrap().at(near);
            assert_eq!((said.at, said.to.as_str()), (at.parse().unwrap(), to), "{text}");
        }
        for wrong in [
            "",
            "5300",
            "5300=dns",
            "5300=dns:0",
            "0=dns:53",
            "[::1]:0=dns:53",
            "70000=dns:53",
            "x:53=dns:53",
            "53=:53",
            "53=D!:53",
        ] {
            assert!(DatagramPort::parse(wrong).is_err(), "{wrong}");
        }
    }
}
