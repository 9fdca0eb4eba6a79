//! The operator: makes the topics, pauses them, and holds control to what it answers.

use super::*;
use crate::control::api::ApiError;

/// From one look at what has not come to be to the next.
const AGAIN_NS: u64 = 300 * MS;

/// What the operator knows of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody has said that it is there.
    Wanted,
    /// The server has said so, at this time.
    There { since_ns: u64 },
}

/// Something that has to come to be.
#[derive(Debug)]
struct Wanted {
    wish: Wish,
    /// It was asked for in this life of the server, and not answered.
    asked: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Operator {
    standings: Vec<Standing>,
    wanted: Vec<Wanted>,
    /// Nothing is asked before the server has started.
    started: bool,
}

impl Operator {
    /// Of so many topics that are to be made.
    pub(super) fn new(topics: usize) -> Operator {
        let wanted = (0..topics).map(|topic| Wanted { wish: Wish::Create(topic), asked: false }).collect();
        Operator { standings: vec![Standing::Wanted; topics], wanted, started: false }
    }

    /// Whether the server has said that there is this topic.
    pub(super) fn is_there(&self, topic: usize) -> bool {
        matches!(self.standings[topic], Standing::There { .. })
    }

    /// Whether somebody who has asked since then may hear that there is no such topic; `lied`: so has the disk, and what
    /// it has forgotten is known when the server has started.
    pub(super) fn may_be_unknown(&self, topic: usize, asked_ns: u64, lied: bool) -> bool {
        match self.standings[topic] {
            Standing::Wanted => true,
            Standing::There { since_ns } => asked_ns <= since_ns || lied && !self.started,
        }
    }

    /// Everything that has to come to be is.
    pub(super) fn is_content(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The server has gone, and what it was asked with it.
    pub(super) fn forget_asked(&mut self) {
        self.started = false;
        self.wanted.iter_mut().for_each(|wanted| wanted.asked = false);
    }

    /// For whoever wonders what has not come to be.
    pub(super) fn what_waits(&self) -> String {
        self.wanted.iter().map(|wanted| format!("{wanted:?}; ")).collect()
    }
}

impl World<'_> {
    /// Something is to come to be: `surely`, as often as it has to be asked for, or once.
    pub(super) fn wish(&mut self, wish: Wish, surely: bool) {
        if surely {
            self.operator.wanted.push(Wanted { wish, asked: false });
            self.ask_again();
        } else if self.operator.started {
            self.ask(wish);
        }
    }

    fn ask(&mut self, wish: Wish) {
        let Some(server) = &mut self.server else { return };
        server.ask(wish, &self.plan.topics[wish.topic()]);
        self.wake_control(self.now_ns);
    }

    /// Asks for everything that was not asked for.
    pub(super) fn ask_again(&mut self) {
        if !self.operator.started {
            return;
        }
        for at in 0..self.operator.wanted.len() {
            let Wanted { wish, asked } = &mut self.operator.wanted[at];
            if !std::mem::replace(asked, true) {
                let wish = *wish;
                self.ask(wish);
            }
        }
    }

    /// The server has started: every topic that was there is there.
    pub(super) fn started(&mut self) {
        let Some(server) = &self.server else { return };
        let listed = server.listed();
        for topic in 0..self.plan.topics.len() {
            let name = &self.plan.topics[topic].name;
            if self.operator.is_there(topic) && !listed.iter().any(|listed| listed.name == *name) {
                assert!(self.lied, "topic {name} was made, and is not there any more");
                self.operator.standings[topic] = Standing::Wanted;
                self.operator.wanted.push(Wanted { wish: Wish::Create(topic), asked: false });
            }
        }
        self.journal.note(self.now_ns, "started", &[listed.len() as u64]);
        self.operator.started = true;
        self.ask_again();
    }

    /// Control has answered.
    pub(super) fn answered(&mut self, wish: Wish, answer: Result<(), ApiError>) {
        self.journal.note(self.now_ns, "answered", &[u64::from(answer.is_ok())]);
        self.journal.tell(&(wish, &answer));
        let at = self.operator.wanted.iter().position(|wanted| wanted.wish == wish && wanted.asked);
        match answer {
            Ok(()) => {
                if let Some(at) = at {
                    self.operator.wanted.remove(at);
                }
                if let Wish::Create(topic) = wish {
                    self.operator.standings[topic] = Standing::There { since_ns: self.now_ns };
                }
            }
            Err(_) => {
                if let Some(at) = at {
                    self.operator.wanted[at].asked = false;
                    self.plan_at(self.now_ns + AGAIN_NS, Due::Operator);
                }
            }
        }
    }
}
