//! Parsed heads, lent by the worker for as long as one is read, so that connections that wait keep none.

use std::cell::RefCell;

use weft_wire::http1::{RequestHead, ResponseHead};

const KEPT_MAX: usize = 8;

#[expect(clippy::vec_box, reason = "they move between here and their connections, and are large")]
mod kept {
    use super::*;

    thread_local! {
        pub static REQUESTS: RefCell<Vec<Box<RequestHead>>> = const { RefCell::new(Vec::new()) };
        pub static RESPONSES: RefCell<Vec<Box<ResponseHead>>> = const { RefCell::new(Vec::new()) };
    }
}
use kept::{REQUESTS, RESPONSES};

pub fn request() -> Box<RequestHead> {
    let mut head = REQUESTS.with_borrow_mut(Vec::pop).unwrap_or_default();
    head.restart();
    head
}

pub fn give_back(head: Box<RequestHead>) {
    REQUESTS.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(head);
        }
    });
}

pub fn response() -> Box<ResponseHead> {
    let mut head = RESPONSES.with_borrow_mut(Vec::pop).unwrap_or_default();
    head.restart();
    head
}

pub fn give_back_response(head: Box<ResponseHead>) {
    RESPONSES.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(head);
        }
    });
}
