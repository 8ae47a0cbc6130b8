//! ClientHellos as no honest TLS library writes them: taken from rustls, taken apart, and put together again wrongly.

use std::sync::Arc;

/// The fields of a hello, between the handshake's header and its end.
pub struct Hello {
    before_compression: Vec<u8>,
    pub compression: Vec<u8>,
    /// Type and content, in order.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// What a client of ours sends first.
    pub fn of(config: &Arc<rustls::ClientConfig>, name: &str) -> Hello {
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        Hello::parse(&bytes)
    }

    fn parse(record: &[u8]) -> Hello {
        let mut rest = &record[9..]; // record header and handshake header
        let mut take = |count: usize| {
            let (taken, after) = rest.split_at(count);
            rest = after;
            taken.to_vec()
        };
        let mut before_compression = take(34);
        for width in [1, 2] {
            let length = take(width);
            let count = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            before_compression.extend(length);
            before_compression.extend(take(count));
        }
        let count = usize::from(take(1)[0]);
        let compression = take(count);
        take(2);
        let mut extensions = Vec::new();
        while !rest.is_empty() {
            let (head, after) = rest.split_at(4);
            let count = usize::from(u16::from_be_bytes([head[2], head[3]]));
            extensions.push((u16::from_be_bytes([head[0], head[1]]), after[..count].to_vec()));
            rest = &after[count..];
        }
        Hello { before_compression, compression, extensions }
    }

    /// With this for the content of the server_name extension.
    pub fn named(mut self, content: Vec<u8>) -> Hello {
        self.extensions
            .iter_mut()
            .filter(|(kind, _)| *kind == 0)
            .for_each(|(_, old)| old.clone_from(&content));
        self
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        for (kind, content) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            extensions.extend(content);
        }
        let mut body = self.before_compression.clone();
        body.push(u8::try_from(self.compression.len()).unwrap());
        body.extend(&self.compression);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    /// One record, or more when it must.
    pub fn records(&self) -> Vec<u8> {
        records(&self.message(), 16_384)
    }
}

/// A handshake message in records of at most so many bytes.
pub fn records(message: &[u8], bytes_max: usize) -> Vec<u8> {
    message
        .chunks(bytes_max)
        .flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1][..], &length, part].concat()
        })
        .collect()
}

/// The content of server_name: a list of (type, name).
pub fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
    let entries: Vec<u8> = list
        .iter()
        .flat_map(|(kind, name)| {
            [&[*kind][..], &u16::try_from(name.len()).unwrap().to_be_bytes(), name].concat()
        })
        .collect();
    [&u16::try_from(entries.len()).unwrap().to_be_bytes()[..], &entries].concat()
}
