//! Rules of `ReferenceGrant`: what it speaks of must be there to refer and to be referred to.

use super::At;
use super::target::{self, Target};
use crate::kind::{GATEWAY_GROUP, WEFT_GROUP};
use crate::parse::Sink;

const FROM: [Target; 6] = [
    (GATEWAY_GROUP, "HTTPRoute"),
    (GATEWAY_GROUP, "GRPCRoute"),
    (GATEWAY_GROUP, "TCPRoute"),
    (GATEWAY_GROUP, "TLSRoute"),
    (GATEWAY_GROUP, "UDPRoute"),
    (GATEWAY_GROUP, "Gateway"),
];
const TO: [Target; 3] = [("", "Service"), ("", "Secret"), (WEFT_GROUP, "ExternalService")];

pub fn check(spec: &At<'_>, sink: &mut Sink) {
    for (list, known) in [("from", FROM.as_slice()), ("to", TO.as_slice())] {
        for entry in spec.items(list) {
            let Some(kind) = entry.text("kind") else { continue };
            if let Err(stray) = target::known(known, (entry.text_or("group", ""), kind)) {
                stray.tell(&entry, "a grant can't speak of", sink);
            }
        }
    }
}
