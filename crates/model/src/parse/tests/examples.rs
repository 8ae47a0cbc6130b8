//! One full example of each kind: it reads without a word, and what it reads as writes back the same.

use super::*;

fn round_trip(yaml: &str) -> Object {
    let (documents, problems) = parse_text("f", yaml);
    assert_eq!(problems, [], "{yaml}");
    let object = documents[0].object.clone().unwrap();
    let (again, problems) = parse_value(&object.to_value());
    assert_eq!(problems, []);
    assert_eq!(again.as_ref(), Some(&object));
    object
}

#[test]
fn kubernetes_kinds() {
    let service = round_trip(
        "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {app.kubernetes.io/name: web}, annotations: {weft.dev/vip: 240.240.0.1}, resourceVersion: \"7\", generation: 2}
spec:
  type: ClusterIP
  selector: {app: web}
  clusterIP: 240.240.0.1
  clusterIPs: [240.240.0.1]
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  internalTrafficPolicy: Cluster
  sessionAffinity: None
  ports:
  - {name: http, port: 80, protocol: TCP, targetPort: 8080, appProtocol: http}
  - {name: grpc, port: 90, targetPort: grpc}
",
    );
    let Body::Service(spec) = &service.body else { return };
    assert_eq!((spec.ports[0].target_number(), spec.ports[1].target_number()), (Some(8080), None));
    round_trip(
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop}, spec: {finalizers: [kubernetes]}, status: {phase: Active}}",
    );
    let secret = round_trip(
        "{apiVersion: v1, kind: Secret, metadata: {name: ca}, type: Opaque, data: {ca.crt: aGVsbG8=}, stringData: {a: b}}",
    );
    let Body::Secret(secret) = &secret.body else { return };
    assert_eq!(secret.entry("ca.crt").as_deref(), Some(&b"hello"[..]));
    assert_eq!(secret.entry("a").as_deref(), Some(&b"b"[..]));
}

#[test]
fn routes() {
    let object = round_trip(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: be1}
spec:
  parentRefs: [{group: \"\", kind: Service, name: be1, port: 80}]
  rules:
  - name: canary
    matches:
    - path: {type: PathPrefix, value: /api}
      headers: [{name: X-Tier, value: gold}, {type: RegularExpression, name: x-id, value: \"[0-9]+\"}]
      queryParams: [{name: v, value: \"2\"}]
      method: GET
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}
    - type: URLRewrite
      urlRewrite: {hostname: other.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
    - type: RequestMirror
      requestMirror: {backendRef: {name: shadow, port: 80}, percent: 10}
    backendRefs: [{name: be1-v1, port: 80, weight: 90}, {name: be1-v2, port: 80, weight: 10}]
    timeouts: {request: 10s, backendRequest: 1s500ms}
    retry: {codes: [503], attempts: 2, backoff: 100ms}
  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]
",
    );
    let Body::HttpRoute(route) = &object.body else { return };
    assert!(route.parent_refs[0].is_service());
    assert_eq!(route.rules[0].backend_refs[0].weight, 90);
    assert_eq!(route.rules[1].matches, []);
    let older = "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: HTTPRoute, metadata: {name: x}, spec: {parentRefs: [{name: gw}]}}";
    assert_eq!(round_trip(older).to_value()["apiVersion"], "gateway.networking.k8s.io/v1");
    round_trip(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: cart}
spec:
  parentRefs: [{group: \"\", kind: Service, name: cart}]
  rules:
  - matches: [{method: {service: shop.v1.Cart, method: Add}, headers: [{name: a, value: b}]}]
    backendRefs: [{name: cart, port: 80}]
",
    );
    round_trip(
        "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: db}
spec:
  parentRefs: [{group: \"\", kind: Service, name: db}]
  rules: [{backendRefs: [{group: weft.dev, kind: ExternalService, name: rds, port: 5432}]}]
",
    );
}

#[test]
fn our_kinds() {
    let mesh = round_trip("{apiVersion: weft.dev/v1, kind: Mesh, metadata: {name: default}, spec: {}}");
    assert_eq!(mesh.body, Body::Mesh(crate::spec::Mesh::default()));
    round_trip(
        "
apiVersion: weft.dev/v1
kind: Mesh
metadata: {name: default}
spec:
  trustDomain: prod.example
  mtls: {mode: Permissive}
  authorization: {default: Allow}
  egress: {default: Allow}
  accessLog: {format: json, path: /dev/stdout}
  certificates: {ttl: 12h}
  vip: {cidr: 240.241.0.0/16}
  defaults: {requestTimeout: 30s, connectTimeout: 2s, idleTimeout: 10m}
",
    );
    round_trip(
        "
apiVersion: weft.dev/v1
kind: Workload
metadata: {name: be1-v1-abcde, labels: {app: be1, version: v1}}
spec:
  service: be1
  address: 127.0.1.2
  ports: [{name: http, port: 8080}]
  inboundPort: 15006
  identity: spiffe://mesh.internal/ns/default/sa/be1
  locality: {region: eu, zone: a}
  health: Healthy
  lease: {expires: 2026-05-01T12:00:00Z}
  proxy: {kind: weft, version: 0.1.0}
",
    );
    round_trip(
        "
apiVersion: weft.dev/v1
kind: ExternalService
metadata: {name: be3}
spec:
  hosts: [be3.example]
  ports: [{port: 80, protocol: http, targetPort: 443}]
  tls: {mode: Originate, sni: be3.example, caSecretRef: {name: be3-ca}}
  resolution: Static
  endpoints: [{address: 127.0.1.9, port: 8443}]
",
    );
    round_trip(
        "
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {name: be4}
spec:
  targetRefs: [{kind: Service, name: be4}, {group: gateway.networking.k8s.io, kind: HTTPRoute, name: be4}]
  loadBalancing: {policy: RoundRobin}
  timeouts: {request: 2s, idle: 5m, connect: 500ms, perTry: 1s}
  retry: {attempts: 2, on: [connect-failure, 5xx, retriable-4xx], perTryTimeout: 1s, backoff: {base: 10ms, max: 1s}}
  circuitBreaking: {maxConnections: 100, maxPendingRequests: 10, maxRequests: 100, maxRetries: 3}
  healthCheck: {path: /healthz, interval: 1s, timeout: 500ms, healthyThreshold: 1, unhealthyThreshold: 2}
  outlierDetection: {consecutiveErrors: 5}
  proxyProtocol: v2
  acceptProxyProtocol: {from: [192.0.2.0/28, \"2001:db8::/64\"]}
",
    );
    round_trip(
        "
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: be1-callers}
spec:
  targetRefs: [{name: be1}]
  action: Allow
  rules:
  - from: [{identities: [\"spiffe://mesh.internal/ns/default/sa/fe\", \"spiffe://mesh.internal/ns/x/*\"], namespaces: [ops], services: [fe, shop/web]}]
    to: [{methods: [GET], paths: [/a, /b/*], ports: [8080]}]
",
    );
    round_trip(
        "
apiVersion: weft.dev/v1
kind: AccessPolicy
metadata: {name: be1-trial}
spec:
  action: Deny
  mode: DryRun
  rules:
  - from:
    - {trustDomains: [partner.example], ipBlocks: [10.0.0.0/8, \"2001:db8::/32\"], notIpBlocks: [10.9.0.0/16]}
    - {notIdentities: [\"spiffe://mesh.internal/ns/x/*\"], notNamespaces: [ops], notServices: [fe]}
    to:
    - {grpcMethods: [shop.Cart/Add, shop.Stock/*], notMethods: [GET]}
    - {hosts: [shop.example, \"*.shop.example\"], notPaths: [/healthz]}
    - headers:
      - {name: x-tier, values: [gold, silver], prefixes: [plat], notValues: [platypus]}
      - {name: x-debug, present: false}
",
    );
}

#[test]
fn kinds_of_the_service_mesh_interface() {
    round_trip(
        "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: metrics, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web, namespace: shop}
  sources: [{kind: ServiceAccount, name: prometheus, namespace: ops}]
  rules: [{kind: HTTPRouteGroup, name: web, matches: [metrics]}, {kind: TCPRoute, name: web}]
",
    );
    round_trip(
        "
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: web}
spec:
  matches:
  - {name: metrics, pathRegex: /metrics, methods: [GET]}
  - {name: android, pathRegex: \"/[a-z0-9_/.-]+\", methods: [\"*\"], headers: {user-agent: \".*Android.*\"}}
",
    );
    for (kind, matches) in [("TCPRoute", "{name: web, ports: [8080]}"), ("UDPRoute", "{ports: [53]}")] {
        round_trip(&format!(
            "{{apiVersion: specs.smi-spec.io/v1alpha4, kind: {kind}, metadata: {{name: web}}, spec: {{matches: {matches}}}}}"
        ));
    }
    // Older versions of the same shape are read, and kept as the newest.
    for (version, kind, spec) in [
        (
            "access.smi-spec.io/v1alpha2",
            "TrafficTarget",
            "{destination: {kind: ServiceAccount, name: a, port: 8080}, sources: [{kind: ServiceAccount, name: b}], rules: [{kind: TCPRoute, name: c}]}",
        ),
        ("specs.smi-spec.io/v1alpha3", "HTTPRouteGroup", "{matches: [{name: a, methods: [GET]}]}"),
        ("specs.smi-spec.io/v1alpha2", "TCPRoute", "{}"),
    ] {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}");
        let (documents, problems) = parse_text("f", &text);
        assert_eq!(problems, [], "{text}");
        assert_ne!(documents[0].value["apiVersion"], version);
    }
}
