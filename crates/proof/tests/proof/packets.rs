use weft_proof::Segment;

fn tcp(from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

fn v4(total: u16, fragment: u16, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(inner);
    bytes
}

fn v6(length: u16, next: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([next, 64]);
    for last in [1, 2] {
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    bytes.extend(inner);
    bytes
}

#[test]
fn a_segment_is_read_from_either_ip() {
    let inner = tcp(40000, 15006, 7, 0x18, b"hello");
    let whole = v4(45, 0x4000, &inner);
    let segment = Segment::parse(&whole).unwrap();
    assert_eq!(segment.from, "10.0.0.1:40000".parse().unwrap());
    assert_eq!(segment.to, "10.0.0.2:15006".parse().unwrap());
    assert_eq!(
        (segment.sequence, segment.syn, segment.ack, segment.payload),
        (7, false, true, &b"hello"[..])
    );
    // Ethernet fills up short packets; lengths of zero are the kernel's own, of packets that it joined.
    let padded = [&whole[..], &[0; 9]].concat();
    assert_eq!(Segment::parse(&padded).unwrap().payload, b"hello");
    assert_eq!(Segment::parse(&v4(0, 0x4000, &inner)).unwrap().payload, b"hello");
    assert_eq!(Segment::parse(&v6(25, 6, &inner)).unwrap().to, "[fd00::2]:15006".parse().unwrap());
    assert_eq!(Segment::parse(&v6(0, 6, &inner)).unwrap().payload, b"hello");
    let behind = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &inner].concat();
    assert_eq!(Segment::parse(&v6(33, 60, &behind)).unwrap().payload, b"hello", "destination options first");
    assert!(Segment::parse(&v4(40, 0, &tcp(1, 2, 3, 0x02, b""))).unwrap().syn);
}

#[test]
fn what_is_no_whole_header_of_tcp_is_nothing() {
    let inner = tcp(1, 2, 3, 0x10, b"hello");
    assert_eq!(Segment::parse(&v4(45, 0x2000, &inner)), None, "a first fragment");
    assert_eq!(Segment::parse(&v4(45, 0x00b9, &inner)), None, "a later one");
    let whole = v4(45, 0, &inner);
    for end in 0..40 {
        assert_eq!(Segment::parse(&whole[..end]), None, "{end} bytes");
    }
    for other in [&b""[..], b"\x00", &[0xff; 64], &v6(25, 17, &inner)] {
        assert_eq!(Segment::parse(other), None);
    }
}
