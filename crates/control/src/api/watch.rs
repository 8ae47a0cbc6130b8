//! Watches: the store's batches, turned into the JSON frames of a Kubernetes watch.
//!
//! A frame a line. A watch starts with what is there (no revision, or `0`), or right after a
//! revision; a revision whose followers are forgotten is a 410, on which clients list again. The
//! body is fed through a short queue: a slow client slows its own watch and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use weft_store::{Batch, Change, Revision, Store, StoreError};

use super::computed::{Seen, Sight};
use super::selector::Selector;
use super::stamp;
use super::status::Status;
use super::table::{self, RowObject};
use super::target::Target;

const FRAMES_MAX: usize = 64;
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// What a client asked of its watch.
pub(crate) struct WatchRequest {
    pub(crate) target: Target,
    pub(crate) selector: Selector,
    /// The revision to continue after; `None` begins with what is there.
    pub(crate) after: Option<Revision>,
    /// A list by watch: a bookmark marks the end of what was there.
    pub(crate) initial_events: bool,
    pub(crate) bookmarks: bool,
    pub(crate) table: Option<RowObject>,
    pub(crate) timeout: Duration,
}

/// Opens the watch at the store; the answer's body then lives as long as the client wants.
pub(crate) async fn watch(
    store: &dyn Store,
    request: WatchRequest,
    sight: Arc<Sight>,
    shutdown: CancellationToken,
) -> Result<Response, Status> {
    let watch = store.watch(request.after, request.target.selector()).await.map_err(|error| match error {
        StoreError::Compacted { .. } | StoreError::Ahead { .. } => {
            Status::expired(format!("too old resource version: {error}"))
        }
        other => Status::store(&other),
    })?;
    let (frames, body) = mpsc::channel(FRAMES_MAX);
    let feed = Feed { request, sight, frames, headed: false, last: 0 };
    tokio::spawn(feed.run(watch, shutdown));
    let mut response = Body::from_stream(ReceiverStream::new(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// The client hung up, or the watch has come to its end.
struct Ended;

struct Feed {
    request: WatchRequest,
    sight: Arc<Sight>,
    frames: mpsc::Sender<Result<Bytes, Infallible>>,
    /// Whether the table's column definitions were sent.
    headed: bool,
    last: Revision,
}

impl Feed {
    async fn run(mut self, mut watch: weft_store::Watch, shutdown: CancellationToken) {
        let end = Instant::now() + self.request.timeout;
        let mut bookmarks = interval_at(Instant::now() + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL);
        self.last = self.request.after.unwrap_or(0);
        let mut started = self.request.after.is_some();
        if started && self.request.initial_events && self.bookmark(true).await.is_err() {
            return;
        }
        loop {
            let step = tokio::select! {
                batch = watch.next() => match batch {
                    Some(batch) => self.batch(batch, &mut started).await,
                    None => Err(Ended),
                },
                _ = bookmarks.tick(), if self.request.bookmarks => self.bookmark(false).await,
                () = self.frames.closed() => Err(Ended),
                () = sleep_until(end) => {
                    if self.request.bookmarks {
                        let _ = self.bookmark(false).await;
                    }
                    Err(Ended)
                }
                () = shutdown.cancelled() => Err(Ended),
            };
            if step.is_err() {
                return;
            }
        }
    }

    async fn batch(&mut self, batch: Batch, started: &mut bool) -> Result<(), Ended> {
        self.last = batch.revision();
        let seen = self.sight.look(self.request.target.info);
        match batch {
            Batch::Reset { .. } if *started => {
                // We fell behind a compaction: what happened between is not known any more.
                let status = Status::expired("too old resource version: the changes since are forgotten");
                self.send("ERROR", &status.to_value()).await?;
                Err(Ended)
            }
            Batch::Reset { objects, .. } => {
                *started = true;
                for stored in objects {
                    let shown = self.show(&seen, &stored.value, stored.modified, stored.created)?;
                    if self.request.selector.matches(&shown) {
                        self.event("ADDED", shown).await?;
                    }
                }
                if self.request.initial_events { self.bookmark(true).await } else { Ok(()) }
            }
            Batch::Changes { changes, .. } => {
                for change in changes {
                    self.change(&seen, change).await?;
                }
                Ok(())
            }
        }
    }

    /// An object that begins or ceases to match the selector comes and goes for this client.
    async fn change(&mut self, seen: &Seen, change: Change) -> Result<(), Ended> {
        let created = change.after.as_ref().map_or(0, |stored| stored.created);
        let before = match &change.before {
            Some(bytes) => Some(self.show(seen, bytes, change.revision, created)?),
            None => None,
        };
        let after = match &change.after {
            Some(stored) => Some(self.show(seen, &stored.value, stored.modified, stored.created)?),
            None => None,
        };
        let selector = &self.request.selector;
        let before = before.filter(|object| selector.matches(object));
        let after = after.filter(|object| selector.matches(object));
        match (before, after) {
            (None, Some(object)) => self.event("ADDED", object).await,
            (Some(_), Some(object)) => self.event("MODIFIED", object).await,
            // The last state, at the revision of its end.
            (Some(object), None) => self.event("DELETED", object).await,
            (None, None) => Ok(()),
        }
    }

    fn show(&self, seen: &Seen, bytes: &[u8], modified: Revision, created: Revision) -> Result<Value, Ended> {
        let target = &self.request.target;
        let shown = stamp::shown_bytes(bytes, modified, created, &target.api_version(), target.info);
        let mut object = shown.map_err(|error| {
            tracing::error!(kind = target.info.plural, %error, "a stored object is no JSON; its watch ends");
            Ended
        })?;
        seen.complete(&mut object, target.info);
        Ok(object)
    }

    async fn event(&mut self, kind: &str, object: Value) -> Result<(), Ended> {
        let object = match self.request.table {
            None => object,
            Some(carried) => {
                let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                let headed = !std::mem::replace(&mut self.headed, true);
                let info = self.request.target.info;
                table::table(info, &[object], &revision, carried, headed, SystemTime::now())
            }
        };
        self.send(kind, &object).await
    }

    /// Tells how far this watch has come, so that the client can continue from there.
    async fn bookmark(&mut self, initial_events_end: bool) -> Result<(), Ended> {
        let mut metadata = json!({ "resourceVersion": self.last.to_string(), "creationTimestamp": null });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let target = &self.request.target;
        let object = match self.request.table {
            None => {
                json!({ "kind": target.info.name, "apiVersion": target.api_version(), "metadata": metadata })
            }
            Some(_) => {
                json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": [] })
            }
        };
        self.send("BOOKMARK", &object).await
    }

    async fn send(&self, kind: &str, object: &Value) -> Result<(), Ended> {
        let mut frame = json!({ "type": kind, "object": object }).to_string().into_bytes();
        frame.push(b'\n');
        self.frames.send(Ok(frame.into())).await.map_err(|_| Ended)
    }
}
