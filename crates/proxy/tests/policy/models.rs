//! How origins read the path that reached them: each model is a kind of server in the field.

/// One reading of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Byte for byte.
    Raw,
    /// RFC 3986: unreserved bytes decoded, dot segments resolved.
    Rfc3986,
    /// Everything decoded once, `//` merged, dot segments resolved.
    DecodeMerge,
    /// Parameters cut off each segment first, as servlet containers do.
    Servlet,
    /// `\` is `/`.
    Backslash,
    /// File systems without case.
    LowerCase,
    /// Old decoders that take overlong UTF-8 for what it spells.
    Overlong,
}

pub const MODELS: [Model; 7] = [
    Model::Raw,
    Model::Rfc3986,
    Model::DecodeMerge,
    Model::Servlet,
    Model::Backslash,
    Model::LowerCase,
    Model::Overlong,
];

impl Model {
    /// What an origin of this kind would serve for a request target.
    pub fn resource(self, target: &[u8]) -> Vec<u8> {
        let target = without_authority(target);
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        if self == Model::Raw {
            return path.to_vec();
        }
        let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
        let (decoded, merge) = match self {
            Model::Raw | Model::Rfc3986 => {
                (decode(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)), false)
            }
            Model::DecodeMerge | Model::LowerCase => (decode(path, |_| true), true),
            Model::Servlet => (decode(&without_parameters(path), |_| true), true),
            Model::Backslash => {
                let mut path = decode(path, |_| true);
                path.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
                (path, true)
            }
            Model::Overlong => (overlong(&decode(path, |_| true)), true),
        };
        let mut resolved = resolve(&decoded, merge);
        if self == Model::LowerCase {
            resolved.make_ascii_lowercase();
        }
        resolved
    }

    /// Is that the resource, or one below it?
    pub fn serves(self, target: &[u8], resource: &[u8]) -> bool {
        let found = self.resource(target);
        found == resource || found.strip_prefix(resource).is_some_and(|rest| rest.starts_with(b"/"))
    }
}

fn without_authority(target: &[u8]) -> &[u8] {
    let Some(at) = target.windows(3).position(|window| window == b"://") else { return target };
    if target.first() == Some(&b'/') {
        return target;
    }
    let rest = &target[at + 3..];
    rest.iter().position(|byte| *byte == b'/').map_or(b"/", |slash| &rest[slash..])
}

fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::new();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
            && wanted(high * 16 + low)
        {
            out.push(high * 16 + low);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    out
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .map(|one| one.split(|byte| *byte == b';').next().unwrap_or_default())
        .collect();
    segments.join(&b'/')
}

/// `C0 AF` and longer forms are the slash that they spell.
fn overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return out,
            [first @ (0xc0 | 0xc1), second @ 0x80..=0xbf, after @ ..] => {
                out.push((first & 1) << 6 | second & 0x3f);
                after
            }
            [0xe0, second @ 0x80..=0x81, third @ 0x80..=0xbf, after @ ..] => {
                out.push((second & 1) << 6 | third & 0x3f);
                after
            }
            [0xf0, 0x80, third @ 0x80..=0x81, fourth @ 0x80..=0xbf, after @ ..] => {
                out.push((third & 1) << 6 | fourth & 0x3f);
                after
            }
            [first, after @ ..] => {
                out.push(*first);
                after
            }
        };
    }
}

fn resolve(path: &[u8], merge: bool) -> Vec<u8> {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = inner.split(|byte| *byte == b'/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            b"." => kept.extend(last.then_some(&b""[..])),
            b".." => {
                kept.pop();
                kept.extend(last.then_some(&b""[..]));
            }
            b"" if merge && !last => {}
            segment => kept.push(segment),
        }
    }
    [b"/", &kept.join(&b'/')[..]].concat()
}

/// The oracle itself: one line per fact.
#[test]
fn models_read_as_their_servers_do() {
    for (model, target, resource) in [
        (Model::Raw, "/a/../admin?x", "/a/../admin"),
        (Model::Rfc3986, "/a/../%61dmin", "/admin"),
        (Model::Rfc3986, "//admin", "//admin"),
        (Model::Rfc3986, "/%2fadmin", "/%2fadmin"),
        (Model::DecodeMerge, "/x%2f..%2f/admin", "/admin"),
        (Model::DecodeMerge, "/%2561dmin", "/%61dmin"),
        (Model::Servlet, "/public;a/..;b/admin;c", "/admin"),
        (Model::Backslash, "/x\\..%5cadmin", "/admin"),
        (Model::LowerCase, "/AdMin/", "/admin/"),
        (Model::Overlong, "/%c0%afadmin%e0%80%af", "/admin/"),
        (Model::Raw, "http://host:1/admin", "/admin"),
    ] {
        assert_eq!(
            String::from_utf8_lossy(&model.resource(target.as_bytes())),
            resource,
            "{model:?} {target}"
        );
    }
    assert!(Model::Raw.serves(b"/admin/x", b"/admin") && !Model::Raw.serves(b"/administrator", b"/admin"));
}
