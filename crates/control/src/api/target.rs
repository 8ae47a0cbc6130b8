//! What a request is about: a path of Kubernetes' shape, read once.
//!
//! `/api/v1/namespaces/shop/services/cart/status` is a kind, a namespace, a name and a subresource.
//! Anything that is not one of these shapes names nothing here and is a 404.

use weft_model::{Kind, KindInfo};
use weft_store::{Key, Selector};

use super::status::Status;

/// The object or the collection that a path names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) info: &'static KindInfo,
    /// The version that the client speaks: the kind's own, or an older one with the same shape.
    pub(crate) version: &'static str,
    /// Empty for kinds above namespaces, and for a list over all namespaces.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Status,
}

impl Target {
    /// Reads the path's segments, already split at `/` and percent-decoded.
    pub(crate) fn parse(segments: &[&str]) -> Result<Target, Status> {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Status::no_such_path()),
        };
        let (namespace, rest) = match rest {
            // The kind Namespace itself lives under the same word.
            ["namespaces", _, "status"] if group.is_empty() => ("", rest),
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
            _ => ("", rest),
        };
        let (plural, name, part) = match rest {
            [plural] => (*plural, None, Part::Whole),
            [plural, name] => (*plural, Some(*name), Part::Whole),
            [plural, name, "status"] => (*plural, Some(*name), Part::Status),
            _ => return Err(Status::no_such_path()),
        };
        let info = Kind::all()
            .iter()
            .map(|kind| kind.info())
            .find(|info| info.group == group && info.plural == plural)
            .ok_or_else(Status::no_such_path)?;
        let version = versions(info).find(|known| *known == version).ok_or_else(Status::no_such_path)?;
        let placed =
            if info.namespaced { !namespace.is_empty() || name.is_none() } else { namespace.is_empty() };
        if !placed || name == Some("") || (part == Part::Status && !has_status(info)) {
            return Err(Status::no_such_path());
        }
        Ok(Target { info, version, namespace: namespace.to_owned(), name: name.map(str::to_owned), part })
    }

    /// The same place, with a name in it.
    pub(crate) fn named(&self, name: &str) -> Target {
        Target { name: Some(name.to_owned()), ..self.clone() }
    }

    pub(crate) fn key(&self) -> Key {
        Key::new(self.info.group, self.info.plural, &self.namespace, self.name())
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn selector(&self) -> Selector {
        Selector {
            group: Some(self.info.group.to_owned()),
            kind: Some(self.info.plural.to_owned()),
            namespace: (!self.namespace.is_empty()).then(|| self.namespace.clone()),
        }
    }

    /// `gateway.networking.k8s.io/v1beta1`, as the client asked.
    pub(crate) fn api_version(&self) -> String {
        match self.info.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `HTTPRoute default/be1`, for the audit log.
    pub(crate) fn label(&self) -> String {
        match (self.namespace.as_str(), self.name()) {
            ("", name) => format!("{} {name}", self.info.name),
            (namespace, name) => format!("{} {namespace}/{name}", self.info.name),
        }
    }
}

/// All versions in which a kind is served, the stored one first.
pub(crate) fn versions(info: &'static KindInfo) -> impl Iterator<Item = &'static str> {
    std::iter::once(info.version).chain(info.older_versions.iter().copied())
}

/// A Secret has no status in Kubernetes; all others do.
pub(crate) fn has_status(info: &KindInfo) -> bool {
    info.kind != Kind::Secret
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    #[test]
    fn paths_name_objects_and_collections() {
        let rows = [
            ("api/v1/namespaces", "Namespace  - Whole"),
            ("api/v1/namespaces/shop", "Namespace  shop Whole"),
            ("api/v1/namespaces/shop/status", "Namespace  shop Status"),
            ("api/v1/services", "Service  - Whole"),
            ("api/v1/namespaces/shop/services", "Service shop - Whole"),
            ("api/v1/namespaces/shop/services/cart/status", "Service shop cart Status"),
            ("apis/weft.dev/v1/meshes/default", "Mesh  default Whole"),
            ("apis/gateway.networking.k8s.io/v1/namespaces/a/httproutes/b", "HTTPRoute a b Whole"),
            ("apis/gateway.networking.k8s.io/v1beta1/httproutes", "HTTPRoute  - Whole"),
        ];
        for (path, expected) in rows {
            let target = Target::parse(&path.split('/').collect::<Vec<_>>()).unwrap();
            let found = format!(
                "{} {} {} {:?}",
                target.info.name,
                target.namespace,
                target.name.as_deref().unwrap_or("-"),
                target.part
            );
            assert_eq!(found, expected, "{path}");
        }
        for path in [
            "api/v2/services",
            "api/v1/pods",
            "api/v1/services/cart",
            "api/v1/namespaces/a/secrets/b/status",
            "api/v1/namespaces/a/services/b/scale",
            "apis/weft.dev/v1/namespaces/a/meshes/default",
            "apis/other/v1/services",
            "api/v1",
            "api",
        ] {
            assert!(Target::parse(&path.split('/').collect::<Vec<_>>()).is_err(), "{path}");
        }
    }
}
