//! Where in the API a kind or an object is.

use anyhow::bail;
use serde_json::Value;
use weft_model::{DEFAULT_NAMESPACE, Kind, KindInfo};

use crate::commands::usage;

/// Which namespaces a command means.
#[derive(clap::Args, Clone, Debug)]
pub struct Namespaces {
    /// The namespace.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    pub namespace: String,
    /// Objects of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// The kind that a word means: `svc`, `services`, `HTTPRoute`, …
pub fn kind(word: &str) -> anyhow::Result<&'static KindInfo> {
    match Kind::resolve(word) {
        Some(kind) => Ok(kind.info()),
        None => {
            let known: Vec<&str> = Kind::all().iter().map(|kind| kind.info().plural).collect();
            Err(usage(format!("no kind is called `{word}`; there are: {}", known.join(", "))))
        }
    }
}

/// The collection of a kind: in one namespace, or in all.
pub fn collection(info: &KindInfo, namespace: Option<&str>) -> anyhow::Result<String> {
    let root = match info.group {
        "" => format!("/api/{}", info.version),
        group => format!("/apis/{group}/{}", info.version),
    };
    Ok(match namespace.filter(|_| info.namespaced) {
        Some(namespace) => format!("{root}/namespaces/{}/{}", segment(namespace)?, info.plural),
        None => format!("{root}/{}", info.plural),
    })
}

pub fn object(info: &KindInfo, namespace: &str, name: &str) -> anyhow::Result<String> {
    Ok(format!("{}/{}", collection(info, Some(namespace))?, segment(name)?))
}

/// The kind, namespace and name of an object's JSON.
pub fn of(value: &Value) -> anyhow::Result<(&'static KindInfo, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, word) = (text(&value["apiVersion"]), text(&value["kind"]));
    let Some(kind) = Kind::from_api(&api_version, &word) else {
        bail!("`{word}` of `{api_version}` is no kind of the mesh");
    };
    Ok((kind.info(), text(&value["metadata"]["namespace"]), text(&value["metadata"]["name"])))
}

/// A name, checked so that it stays one segment of a path.
fn segment(name: &str) -> anyhow::Result<&str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if name.is_empty() || name.starts_with('.') || !name.chars().all(legal) {
        return Err(usage(format!(
            "`{name}` is no name: names have lower-case letters, digits, `-` and `.`"
        )));
    }
    Ok(name)
}

/// Text for a value in a URL's query.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    #[test]
    fn paths_have_kubernetes_shape() {
        let path = |word, namespace| collection(kind(word).unwrap(), namespace).unwrap();
        assert_eq!(path("svc", Some("shop")), "/api/v1/namespaces/shop/services");
        assert_eq!(path("svc", None), "/api/v1/services");
        assert_eq!(path("mesh", Some("shop")), "/apis/weft.dev/v1/meshes");
        let route = object(kind("HTTPRoute").unwrap(), "shop", "be1").unwrap();
        assert_eq!(route, "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/be1");
        assert!(object(kind("svc").unwrap(), "shop", "../x").is_err());
        assert!(object(kind("svc").unwrap(), "a?b", "x").is_err());
        assert!(kind("pods").is_err());
        assert_eq!(encoded("app in (a,b)"), "app%20in%20%28a%2Cb%29");
    }
}
