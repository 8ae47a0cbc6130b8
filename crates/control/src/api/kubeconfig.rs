//! `STATE/kubeconfig`: everything that `kubectl --kubeconfig` needs, readable by its owner only.

use std::path::Path;

use base64::Engine as _;

use crate::files;

/// The file's name in the state directory.
pub(crate) const KUBECONFIG_FILE: &str = "kubeconfig";

/// Writes it anew at each start: the port may be another one.
pub(crate) fn write(state: &Path, server: &str, ca_pem: &str, token: &str) -> anyhow::Result<()> {
    let authority = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: weft
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: admin
  user:
    token: {token}
contexts:
- name: weft
  context:
    cluster: weft
    user: admin
    namespace: default
current-context: weft
"
    );
    files::replace(&state.join(KUBECONFIG_FILE), text.as_bytes())
}
