//! One worker's copy of a policy: requests in, decisions out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use regorus::{Engine, Value};

use crate::builtins::context::Context;
use crate::cache::DecisionCache;
use crate::compile::Compiled;
use crate::decision::{Decision, Reason};
use crate::input::{self, Names, Request};
use crate::{builtins, json};

/// A policy with what it needs to judge, owned by one worker. Nothing is parsed or compiled for a request.
pub struct Worker {
    compiled: Arc<Compiled>,
    generation: u64,
    engine: Engine,
    /// Never contended: the engine wants what its builtins hold to be shareable.
    shared: Arc<Mutex<Context>>,
    names: Names,
    key: Vec<u8>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Worker").field("compiled", &self.compiled).finish_non_exhaustive()
    }
}

impl Worker {
    /// `generation` tells policies apart that one cache serves: give each compiled policy its own.
    pub fn new(compiled: &Arc<Compiled>, generation: u64) -> Result<Self, String> {
        let (engine, shared) = ready(compiled)?;
        Ok(Self {
            compiled: Arc::clone(compiled),
            generation,
            engine,
            shared,
            names: Names::new(),
            key: Vec::new(),
        })
    }

    /// What of a request the policy can see.
    pub fn reads(&self) -> &crate::reads::Reads {
        self.compiled.reads()
    }

    /// Judges one request. `now_ns` is the time since 1970 that the policy is told.
    pub fn decide(&mut self, request: &Request<'_>, now_ns: i64) -> Decision {
        match input::build(&self.names, self.compiled.reads(), request, now_ns) {
            Ok(input) => self.judge(input, now_ns),
            Err(why) => Decision::deny(Reason::Unreadable, why),
        }
    }

    /// Judges one request, or remembers how one was judged that agrees in all that the policy reads.
    pub fn decide_cached(
        &mut self,
        cache: &mut DecisionCache,
        request: &Request<'_>,
        now_ns: i64,
    ) -> Arc<Decision> {
        if self.compiled.reads().cacheable().is_err() {
            return Arc::new(self.decide(request, now_ns));
        }
        self.key.clear();
        self.key.extend_from_slice(&self.generation.to_le_bytes());
        self.compiled.reads().key(request, &mut self.key);
        if let Some(known) = cache.get(&self.key, now_ns) {
            return known;
        }
        let decision = Arc::new(self.decide(request, now_ns));
        if decision.reason.settled() {
            cache.put(&self.key, Arc::clone(&decision), now_ns);
        }
        decision
    }

    /// Judges a document that somebody else made. The policy sees all of it.
    pub fn decide_document(&mut self, input: &serde_json::Value, now_ns: i64) -> Decision {
        self.judge(json::convert(input), now_ns)
    }

    /// The value of the policy's rule for a document that somebody else made, or for none; where it has one.
    pub fn answer(
        &mut self,
        input: Option<&serde_json::Value>,
        now_ns: i64,
    ) -> Result<Option<serde_json::Value>, Box<Decision>> {
        let input = input.map_or(Value::Undefined, json::convert);
        let value = self.value(input, now_ns)?;
        if value == Value::Undefined {
            return Ok(None);
        }
        let mut left = self.compiled.limits().bytes / 64;
        let too_large = || deny(Reason::MemoryLimit, "the answer is too large".to_owned());
        json::export(&value, &mut left).map(Some).ok_or_else(too_large)
    }

    fn judge(&mut self, input: Value, now_ns: i64) -> Decision {
        match self.value(input, now_ns) {
            Ok(value) => Decision::read(&value),
            Err(decision) => *decision,
        }
    }

    /// A judgement has no effect but its answer, so one that ran out of time may be tried again.
    fn value(&mut self, input: Value, now_ns: i64) -> Result<Value, Box<Decision>> {
        match self.value_once(input.clone(), now_ns) {
            Err(decision) if decision.reason == Reason::TimeLimit => self.value_once(input, now_ns),
            other => other,
        }
    }

    fn value_once(&mut self, input: Value, now_ns: i64) -> Result<Value, Box<Decision>> {
        lock(&self.shared).begin(now_ns, self.compiled.limits().bytes);
        self.engine.set_input(input);
        let rule = self.compiled.rule().to_owned();
        // The engine's arithmetic can panic on numbers that a request brings: that costs one request.
        let result = catch_unwind(AssertUnwindSafe(|| self.engine.eval_rule(rule)));
        let Ok(result) = result else {
            if let Ok((engine, shared)) = ready(&self.compiled) {
                (self.engine, self.shared) = (engine, shared);
            }
            return Err(deny(Reason::Failed, "the engine failed on this request".to_owned()));
        };
        self.engine.set_input(Value::Undefined);
        if let Some(name) = lock(&self.shared).over {
            return Err(deny(Reason::MemoryLimit, format!("{name} went over a limit")));
        }
        result.map_err(|error| {
            let text = format!("{error:#}");
            let place = crate::problem::Problem::from_engine("", &text).to_string();
            let reason = match error.downcast_ref::<regorus::LimitError>() {
                Some(regorus::LimitError::TimeLimitExceeded { .. }) => Reason::TimeLimit,
                Some(_) => Reason::MemoryLimit,
                None if text.contains("execution exceeded time limit") => Reason::TimeLimit,
                None if text.contains("multiple outputs") || text.contains("conflict") => Reason::Conflict,
                None => Reason::Failed,
            };
            deny(reason, place)
        })
    }
}

fn deny(reason: Reason, detail: String) -> Box<Decision> {
    Box::new(Decision::deny(reason, detail))
}

fn lock(shared: &Mutex<Context>) -> std::sync::MutexGuard<'_, Context> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ready(compiled: &Compiled) -> Result<(Engine, Arc<Mutex<Context>>), String> {
    let context = Context::new(compiled.called(), compiled.jwt_without_exp())?;
    let shared = Arc::new(Mutex::new(context));
    let mut engine = compiled.engine();
    builtins::install(&mut engine, compiled.called(), &shared)?;
    Ok((engine, shared))
}
