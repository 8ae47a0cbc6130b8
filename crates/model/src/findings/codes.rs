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
    WFT0001 Error "A route names a Service that is not there"
        "Requests for that backend are answered with 500."
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
    WFT0010 Warning "A backend stands in another namespace without a ReferenceGrant"
        "Requests for that backend may be refused: its owner has not agreed."
        "Let the other namespace make a ReferenceGrant, or use a backend of the own one.";
    WFT0011 Error "A Secret that an ExternalService needs is missing"
        "Calls to it can't start TLS and are answered with 503."
        "Make the Secret with the entries needed, in the same namespace.";
}

/// Every code, in order.
#[must_use]
pub fn codes() -> &'static [Code] {
    CODES
}
