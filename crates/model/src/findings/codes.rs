//! The table of codes. A code is for ever: it is never given to another meaning.

use crate::problem::Severity;

/// A row of the table, for the reference pages and for `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub code: &'static str,
    pub severity: Severity,
    pub title: &'static str,
    /// What happens because of it.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! table {
    ($($name:ident $severity:ident $title:literal $meaning:literal $remedy:literal;)*) => {
        $(pub const $name: &Code = &Code { code: stringify!($name), severity: Severity::$severity, title: $title, meaning: $meaning, remedy: $remedy };)*
        static CODES: &[Code] = &[$(*$name),*];
    };
}

table! {
    WFT0000 Error "A file has a mistake"
        "The object in it is refused, and nothing of it is stored."
        "Correct the line that the message names; an unknown field of a standard's kind is only a warning.";
    WFT0001 Error "A route names a Service that is not there"
        "Requests for that backend are answered with 503."
        "Make the Service (or ExternalService), or correct the backendRef's name or namespace.";
    WFT0002 Error "A port is not one of the Service's"
        "Requests for that backend, or the route as a whole, come to nothing."
        "Use a port that the Service lists, or add it there.";
    WFT0003 Error "A route is attached to a Service that is not there"
        "The route has no effect."
        "Make the Service, or correct the parentRef's name or namespace.";
    WFT0004 Warning "Two routes of one parent match the same requests"
        "Only the older route (then the first by name) gets them."
        "Put both into one rule, or make their matches differ.";
    WFT0005 Error "An AccessPolicy targets a Service that is not there"
        "The policy protects nothing."
        "Make the Service, or correct the targetRef's name.";
    WFT0006 Error "A TrafficPolicy targets nothing, or what another one targets too"
        "It has no effect, or only one of the two has."
        "Correct the targetRef, or put both policies into one.";
    WFT0007 Warning "A Service selects no Workload"
        "Calls to it are answered with 503."
        "Start an instance that joins with the labels of the selector, or correct the selector.";
    WFT0008 Info "The policy same-namespace is still in place"
        "Members of a namespace may all call each other."
        "Write AccessPolicies for what shall be allowed, then delete it.";
    WFT0009 Warning "The weights of a rule's backends sum to zero"
        "Every request of the rule is answered with 500."
        "Give one backend a weight of 1 or more.";
    WFT0010 Error "A backend stands in another namespace without a ReferenceGrant"
        "Its share of the requests gets 503: the backend's owner has not agreed. A route may always lead to the Service that it is attached to."
        "Make a ReferenceGrant in the other namespace, from this kind of route in this namespace to that backend, or use a backend of the own one.";
    WFT0011 Error "A Secret that an ExternalService needs is missing"
        "Calls to it can't start TLS and are answered with 503."
        "Make the Secret with the entries needed, in the same namespace.";
    WFT0012 Warning "The mesh says egress Allow, which is not carried out yet"
        "Egress stays deny: only ExternalServices are reached."
        "Make an ExternalService for each host that shall be reached.";
    WFT0013 Warning "Nobody may call a Service"
        "Every call to it is refused: its namespace has no AccessPolicy or TrafficTarget that lets anybody in there."
        "Write an AccessPolicy of action Allow whose targetRefs name the Service (or nothing, for the whole namespace).";
    WFT0014 Warning "A route is attached to what the mesh does not serve"
        "The route has no effect there."
        "For calls inside the mesh: {group: \"\", kind: Service, name: NAME}; a port must speak what the kind of route is for.";
    WFT0015 Error "An ExternalService has a name that is taken"
        "Calls to that name go to the other one: a member wins over an ExternalService, then the first by name."
        "Remove the host from one of the two, or give the ExternalService another name.";
    WFT0016 Warning "A TrafficPolicy on a route says what holds for a Service as a whole"
        "That part has no effect: balancing, connections and endpoints' health are those of the backend, whichever route leads there."
        "Put loadBalancing, circuitBreaking, healthCheck, outlierDetection and timeouts.connect into a TrafficPolicy whose target is the Service.";
    WFT0017 Warning "An AccessPolicy lets in a service that is not there"
        "Nobody has that identity, so nobody comes in by it."
        "Correct the name (NAME, or NAMESPACE/NAME for one elsewhere).";
    WFT0018 Info "A ReferenceGrant names a namespace or an object that is not there"
        "It permits nothing now, and will permit whoever comes by that name."
        "Correct the name, or remove the grant.";
    WFT0019 Warning "A Service has a port that the mesh does not carry"
        "Members speak mutual TLS, of which there is none for datagrams. Rather than carry them in the clear, the mesh leaves them alone: nobody encrypts such traffic, knows its sender or asks a policy, and the Service's virtual address does not take it."
        "Let the app speak TCP, or guard the port by other means, such as DTLS of the app's own or a NetworkPolicy. Who wants datagrams carried in the clear writes an ExternalService with protocol udp.";
    WFT0020 Warning "A TrafficPolicy says what its target can't do"
        "That part has no effect. A PROXY header names one caller, but connections of HTTP carry requests of many, and datagrams have no connections; it comes before anything that tells an app's ports apart, so who is believed is a matter of the Service as a whole, and of no ExternalService."
        "Target ports that speak neither HTTP nor UDP by proxyProtocol, and a Service without sectionName by acceptProxyProtocol.";
    WFT0021 Warning "A part of an AccessPolicy can never match"
        "It is as if that part were not written: what it allows is not let in, what it denies is not refused."
        "Take out what contradicts itself, or name ports that the targets have.";
    WFT0022 Info "An AccessPolicy of action Allow has no rule"
        "It lets nobody in. That is no mistake where nobody may come in, but it needs no policy: what nobody allows is refused."
        "Add a rule (rules: [{}] lets everybody in), or delete the policy.";
    WFT0023 Warning "A Deny covers all that another policy allows"
        "What the other policy's rule allows is refused all the same: a Deny wins over every Allow."
        "Narrow the Deny, or delete the rule that it covers.";
    WFT0024 Info "A rule of an AccessPolicy is covered by a broader one"
        "It changes nothing while the other one stands."
        "Delete the one that is not meant.";
    WFT0025 Warning "A rule of a TrafficTarget allows nothing"
        "It names a route, or a match of one, that is not there, or datagrams, which the mesh does not carry between members: what it should let in stays refused."
        "Make the route in the TrafficTarget's namespace, or correct the name.";
    WFT0026 Warning "A TrafficTarget names a service account that nobody has"
        "It lets nobody in. Members of a service have the service's name as their service account."
        "Name the Service whose instances are meant.";
    WFT0900 Error "A stored object can't be read"
        "Its last good reading stays in force."
        "Write the object again.";
    WFT0910 Error "A route has an extension that is not known"
        "The rule answers 500."
        "Remove the ExtensionRef filter.";
    WFT0911 Error "A backend has a filter that is not done there"
        "Its share of the requests gets 503."
        "Move the filter to the rule.";
    WFT0912 Error "A rule's backend is not there, or has no such port"
        "Its share of the requests gets 503."
        "Name a backend that exists, with its port.";
    WFT0913 Error "TLS to an external service lacks its Secret"
        "Calls to it fail."
        "Write the Secret.";
    WFT0914 Error "A client key can't be brought to a proxy"
        "The port is withheld from that proxy: a private key never stands in its configuration."
        "Update the proxy to a version that takes secrets by name, or remove clientSecretRef.";
    WFT0915 Warning "A port of a workload can't be reached without TLS"
        "In the clear nothing tells its ports apart unless connections are captured; callers that dial the proxy itself get the first HTTP port."
        "Use mTLS Strict, or let callers come by captured connections.";
    WFT0916 Warning "A proxy was told to take datagrams for a port that is not there"
        "It does not listen for them."
        "Correct the name or port of --udp, or write an ExternalService of the proxy's namespace with this port and protocol udp.";
    WFT0917 Warning "A proxy can't tell whose PROXY header to believe"
        "It takes none: a connection that begins with one is closed, or, on a TCP port in the clear, handed to the app with it."
        "Put a Weft proxy of this version before the app, or remove acceptProxyProtocol.";
    WFT0918 Warning "PROXY headers are wanted from addresses where members are"
        "Members write none: their calls to this workload are refused, at every port."
        "Name only the balancers in acceptProxyProtocol.from, such as 192.0.2.7/32.";
    WFT0920 Warning "A policy looks into requests on a port that does not speak HTTP"
        "Methods, paths, hosts and headers can't be seen there: an allow never matches, a deny always does."
        "Give the rule the ports that speak HTTP, or give the port its appProtocol.";
    WFT0921 Warning "An AccessPolicy targets a route"
        "A deny holds for the whole namespace, an allow for nothing: only Services are guarded."
        "Target the Service behind the route.";
    WFT0922 Warning "An Envoy can't ask what a policy asks of a header"
        "Of a header with several lines an Envoy takes one that fits for enough, where all must. So nobody is let in there by the rule, and a Deny that leaves out values refuses all of its callers."
        "Put a Weft proxy before the app, or tell requests apart by path, method or host.";
    WFT0930 Warning "A proxyless gRPC client can't do what a route says"
        "The port is withheld from that client: never the route without its filters."
        "Give the caller a proxy, or remove the filters.";
    WFT0950 Error "A proxy refused a configuration"
        "It serves on with its last good one."
        "Change the object that the message names.";
    WFT0951 Warning "A proxy is behind"
        "It serves with an older configuration."
        "Look at its log, and at the way between it and the control plane.";
    WFT0952 Warning "A proxy's certificate is about to end, and was not renewed"
        "When it has ended, nobody connects to the proxy any more, and it to nobody. An error when it has."
        "Look at the proxy's log for why renewing fails; when nothing else helps, give it a new join token.";
    WFT0953 Warning "A root ends within 90 days"
        "When it has ended, no member trusts a certificate below it."
        "Make members trust the next root before: add it to ca/trusted.pem in the state directory.";
    WFT0954 Error "A root ends within 30 days, or the intermediate does not renew"
        "When it has ended, members' certificates are good for nothing, or can't be renewed."
        "For a root as for WFT0953. For the intermediate look at the control plane's log: it needs the root's key and a writable state directory.";
}

/// Every code, in order.
#[must_use]
pub fn codes() -> &'static [Code] {
    CODES
}
