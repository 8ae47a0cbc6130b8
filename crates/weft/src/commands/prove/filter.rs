//! The kernel's part of the capture: a filter that lets pass only packets of the ports that hops go to.

use socket2::SockFilter;

/// More ports than this and all of TCP is let pass: a jump reaches 255 instructions.
const PORTS_MAX: usize = 100;

// Of `linux/bpf_common.h`.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_HALF_AFTER_X: u16 = 0x48;
const X_IS_HEADER_BYTES: u16 = 0xb1;
const X_IS: u16 = 0x01;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

const TCP: u32 = 6;
/// Headers of IPv6 behind which TCP may stand; those packets are few and are looked at later.
const EXTENSIONS: [u32; 4] = [0, 43, 44, 60];
const IPV6_HEADER_BYTES: u32 = 40;
const FRAGMENT_OFFSET: u32 = 0x1fff;

type Instruction = (u16, u8, u8, u32);

/// Lets nothing pass.
pub fn nothing() -> Vec<SockFilter> {
    vec![SockFilter::new(RETURN, 0, 0, 0)]
}

/// For packets from their IP header on.
pub fn tcp_ports(ports: &[u16]) -> Vec<SockFilter> {
    program(ports).into_iter().map(|(code, yes, no, k)| SockFilter::new(code, yes, no, k)).collect()
}

fn program(ports: &[u16]) -> Vec<Instruction> {
    let ports = if ports.len() > PORTS_MAX { &[] } else { ports };
    let count = ports.len();
    // Where the parts begin; the first two are as long as they are written below.
    let (v4, v6) = (4, 10);
    let port_checks = v6 + 3 + EXTENSIONS.len();
    let drop = port_checks + if count == 0 { 1 } else { 2 * (count + 1) };
    let accept = drop + 1;
    let mut all: Vec<Instruction> = Vec::with_capacity(accept + 1);
    // How far it is from the next instruction to a later one.
    let to = |all: &Vec<Instruction>, place: usize| u8::try_from(place - all.len() - 1).unwrap_or(u8::MAX);

    all.push((LOAD_BYTE, 0, 0, 0));
    all.push((AND, 0, 0, 0xf0));
    all.push((JUMP_IF_EQUAL, to(&all, v4), 0, 0x40));
    all.push((JUMP_IF_EQUAL, to(&all, v6), to(&all, drop), 0x60));

    all.push((LOAD_BYTE, 0, 0, 9));
    all.push((JUMP_IF_EQUAL, 0, to(&all, drop), TCP));
    all.push((LOAD_HALF, 0, 0, 6));
    all.push((JUMP_IF_BITS, to(&all, drop), 0, FRAGMENT_OFFSET));
    all.push((X_IS_HEADER_BYTES, 0, 0, 0));
    all.push((JUMP, 0, 0, u32::from(to(&all, port_checks))));

    all.push((LOAD_BYTE, 0, 0, 6));
    all.push((JUMP_IF_EQUAL, to(&all, port_checks - 1), 0, TCP));
    for (index, extension) in EXTENSIONS.into_iter().enumerate() {
        let otherwise = if index + 1 == EXTENSIONS.len() { to(&all, drop) } else { 0 };
        all.push((JUMP_IF_EQUAL, to(&all, accept), otherwise, extension));
    }
    all.push((X_IS, 0, 0, IPV6_HEADER_BYTES));

    if count == 0 {
        all.push((JUMP, 0, 0, u32::from(to(&all, accept))));
    }
    for place in [0, 2].into_iter().filter(|_| count > 0) {
        all.push((LOAD_HALF_AFTER_X, 0, 0, place));
        for port in ports {
            all.push((JUMP_IF_EQUAL, to(&all, accept), 0, u32::from(*port)));
        }
    }
    all.push((RETURN, 0, 0, 0));
    all.push((RETURN, 0, 0, u32::MAX));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do.
    fn passes(program: &[Instruction], packet: &[u8]) -> bool {
        let at = |place: usize, bytes: usize| {
            packet.get(place..place + bytes).map(|b| b.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
        };
        let (mut a, mut x, mut next) = (0u32, 0u32, 0usize);
        loop {
            let (code, yes, no, k) = program[next];
            next += 1;
            let loaded = match code {
                LOAD_BYTE => at(k as usize, 1),
                LOAD_HALF => at(k as usize, 2),
                LOAD_HALF_AFTER_X => at((x + k) as usize, 2),
                _ => Some(a),
            };
            let Some(loaded) = loaded else { return false };
            a = loaded;
            match code {
                X_IS_HEADER_BYTES => x = 4 * (at(k as usize, 1).unwrap() & 0xf),
                X_IS => x = k,
                AND => a &= k,
                JUMP => next += k as usize,
                JUMP_IF_EQUAL => next += usize::from(if a == k { yes } else { no }),
                JUMP_IF_BITS => next += usize::from(if a & k != 0 { yes } else { no }),
                RETURN => return k != 0,
                _ => {}
            }
        }
    }

    fn v4(protocol: u8, fragment: u16, options: usize, from: u16, to: u16) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x40 | (5 + options / 4) as u8;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        packet
    }

    fn v6(next: u8, from: u16, to: u16) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[6]) = (0x60, next);
        packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        packet
    }

    #[test]
    fn only_tcp_of_the_ports_passes() {
        let few = program(&[15006, 7701]);
        for (name, packet, expected) in [
            ("to a port", v4(6, 0, 0, 40000, 15006), true),
            ("from a port", v4(6, 0, 0, 7701, 40000), true),
            ("behind options", v4(6, 0x4000, 8, 40000, 7701), true),
            ("other ports", v4(6, 0, 0, 40000, 8080), false),
            ("UDP", v4(17, 0, 0, 40000, 15006), false),
            ("a later fragment", v4(6, 0x00b9, 0, 40000, 15006), false),
            ("IPv6 to", v6(6, 40000, 15006), true),
            ("IPv6 from", v6(6, 15006, 1), true),
            ("IPv6, other ports", v6(6, 1, 2), false),
            ("IPv6 with an extension", v6(0, 1, 2), true),
            ("IPv6 and UDP", v6(17, 15006, 15006), false),
            ("ARP", vec![0, 1, 8, 0, 6, 4, 0, 1], false),
            ("nothing", vec![], false),
        ] {
            assert_eq!(passes(&few, &packet), expected, "{name}");
        }
        let all: Vec<u16> = (0..PORTS_MAX as u16).map(|n| 20_000 + n).collect();
        let most = program(&all);
        assert!(passes(&most, &v4(6, 0, 0, 1, 20_000)) && passes(&most, &v4(6, 0, 0, 20_099, 1)));
        assert!(passes(&most, &v6(6, 1, 20_099)) && passes(&most, &v6(60, 1, 1)));
        assert!(!passes(&most, &v4(6, 0, 0, 1, 2)) && !passes(&most, &v4(17, 0, 0, 20_000, 1)));
        let too_many: Vec<u16> = (0..=PORTS_MAX as u16).collect();
        let any = program(&too_many);
        assert!(passes(&any, &v4(6, 0, 0, 60_000, 60_001)) && !passes(&any, &v4(17, 0, 0, 1, 2)));
        assert!(passes(&any, &v6(6, 60_000, 60_001)));
    }
}
