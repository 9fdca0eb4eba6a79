//! The operator: makes the topics, pauses and deletes them, and holds control to what it answers.

use super::*;
use crate::control::api::ApiError;
use crate::sim::plan::TopicPlan;

/// From one look at what has not come to be to the next.
const AGAIN_NS: u64 = 300 * MS;

/// What the operator knows of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody has asked for it.
    Absent,
    /// It was asked for, and nobody has said that it is there.
    Wanted,
    /// The server has said so, at this time.
    There { since_ns: u64 },
    /// It is to go, and nobody has said that it has.
    Doomed,
    /// The server has said that it is gone.
    Gone,
}

/// Something that has to come to be.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    wish: Wish,
    /// It was asked for in this life of the server, and not answered.
    asked: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Operator {
    /// Of each topic the first of its name.
    firsts: Vec<usize>,
    standings: Vec<Standing>,
    /// Topics that somebody has asked to pause.
    paused: Vec<bool>,
    /// Of each topic, how often it was asked to pause or to go on, and has not answered.
    pausing: Vec<u32>,
    wanted: Vec<Wanted>,
    /// Nothing is asked before the server has started.
    started: bool,
}

impl Operator {
    /// Of these topics, so many of which are to be made at once.
    pub(super) fn new(topics: &[TopicPlan], lasting: usize) -> Operator {
        let wanted = (0..lasting).map(|topic| Wanted { wish: Wish::Create(topic), asked: false }).collect();
        let mut standings = vec![Standing::Wanted; lasting];
        standings.resize(topics.len(), Standing::Absent);
        Operator {
            firsts: topics.iter().map(|topic| topic.first).collect(),
            standings,
            paused: vec![false; topics.len()],
            pausing: vec![0; topics.len()],
            wanted,
            started: false,
        }
    }

    /// Which of the topics of one's name was asked for last.
    pub(super) fn current(&self, topic: usize) -> usize {
        let first = self.firsts[topic];
        let of_name = (first..self.firsts.len()).filter(|other| self.firsts[*other] == first);
        of_name.rev().find(|other| !self.is_absent(*other)).unwrap_or(first)
    }

    /// The topic that had its name before.
    fn before(&self, topic: usize) -> Option<usize> {
        (0..topic).rev().find(|other| self.firsts[*other] == self.firsts[topic])
    }

    /// Topics of one's name that somebody who has asked since then may have to do with.
    pub(super) fn met(&self, topic: usize, asked_ns: u64) -> impl Iterator<Item = usize> + '_ {
        let current = self.current(topic);
        let alone = matches!(self.standings[current], Standing::There { since_ns } if asked_ns > since_ns);
        let first = if alone { current } else { self.firsts[topic] };
        (first..=current).filter(move |other| self.firsts[*other] == self.firsts[topic])
    }

    /// Whether the server has said that it is gone.
    pub(super) fn is_gone(&self, topic: usize) -> bool {
        self.standings[topic] == Standing::Gone
    }

    /// Whether it was deleted, or somebody has tried to.
    pub(super) fn is_doomed(&self, topic: usize) -> bool {
        matches!(self.standings[topic], Standing::Doomed | Standing::Gone)
    }

    /// Whether nobody has asked for it.
    pub(super) fn is_absent(&self, topic: usize) -> bool {
        self.standings[topic] == Standing::Absent
    }

    /// Whether somebody has asked it to pause.
    pub(super) fn may_be_paused(&self, topic: usize) -> bool {
        self.paused[topic]
    }

    /// Whether the server has started, as the operator knows it.
    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether the server has said that there is this topic.
    pub(super) fn is_there(&self, topic: usize) -> bool {
        matches!(self.standings[topic], Standing::There { .. })
    }

    /// Whether there is this topic, or is about to be.
    pub(super) fn may_be_there(&self, topic: usize) -> bool {
        self.is_there(topic) || self.standings[topic] == Standing::Wanted
    }

    /// Whether somebody who has asked since then may hear that there is no such topic; `lied`: so has the disk, and what
    /// it has forgotten is known when the server has started.
    pub(super) fn may_be_unknown(&self, topic: usize, asked_ns: u64, lied: bool) -> bool {
        match self.standings[self.current(topic)] {
            Standing::Absent | Standing::Wanted | Standing::Doomed | Standing::Gone => true,
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
        self.pausing.fill(0);
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
        let topic = wish.topic();
        match wish {
            // The first of a name is there to be had as soon as somebody thinks of it.
            Wish::Create(_) => match self.operator.before(topic) {
                Some(before) if !self.operator.is_doomed(before) => return,
                Some(_) => {}
                None if self.operator.is_absent(topic) => self.operator.standings[topic] = Standing::Wanted,
                None => {}
            },
            // Another has the name.
            Wish::Pause(..) if self.operator.current(topic) != topic => return,
            Wish::Delete(_) | Wish::Pause(..) => {}
        }
        if surely {
            self.operator.wanted.push(Wanted { wish, asked: false });
            self.ask_again();
        } else if self.operator.started {
            self.ask(wish);
        }
    }

    /// A topic that is there goes for good.
    pub(super) fn delete(&mut self, topic: usize) {
        if self.operator.is_there(topic) {
            self.operator.standings[topic] = Standing::Doomed;
            // Nobody minds any more whether it is paused.
            self.operator.wanted.retain(|wanted| wanted.wish.topic() != topic);
            self.wish(Wish::Delete(topic), true);
        }
    }

    fn ask(&mut self, wish: Wish) {
        let Some(server) = &mut self.server else { return };
        if let Wish::Pause(topic, paused) = wish {
            self.operator.paused[topic] |= paused;
            self.operator.pausing[topic] += 1;
        }
        server.ask(wish, &self.plan.topics[wish.topic()]);
        self.wake_control(self.now_ns);
    }

    /// Asks for everything that was not asked for.
    pub(super) fn ask_again(&mut self) {
        if !self.operator.started {
            return;
        }
        for at in 0..self.operator.wanted.len() {
            let &Wanted { wish, asked } = &self.operator.wanted[at];
            if !asked && self.has_its_name(wish) {
                self.operator.wanted[at].asked = true;
                self.ask(wish);
            }
        }
    }

    /// A topic is made when the one that had its name before is gone; its clients hope again then.
    fn has_its_name(&mut self, wish: Wish) -> bool {
        let Wish::Create(topic) = wish else { return true };
        let Some(before) = self.operator.before(topic) else { return true };
        if !self.operator.is_gone(before) {
            return false;
        }
        if self.operator.is_absent(topic) {
            self.operator.standings[topic] = Standing::Wanted;
            self.journal.note(self.now_ns, "again", &[topic as u64]);
            for client in 0..self.clients.len() {
                if self.clients[client].over && self.operator.current(self.clients[client].topic()) == topic {
                    let after_ns = self.resuming.below(S);
                    self.start_again(client, after_ns);
                }
            }
        }
        true
    }

    /// The server has started: every topic that was there is there, and none that has gone.
    pub(super) fn started(&mut self) {
        let Some(server) = &self.server else { return };
        let listed = server.listed();
        for topic in 0..self.plan.topics.len() {
            if self.operator.current(topic) != topic {
                continue;
            }
            let name = &self.plan.topics[topic].name;
            let is_listed = listed.iter().any(|listed| listed.name == *name);
            let (standing, wish) = match self.operator.standings[topic] {
                Standing::There { .. } if !is_listed => (Standing::Wanted, Wish::Create(topic)),
                Standing::Gone if is_listed => (Standing::Doomed, Wish::Delete(topic)),
                _ => continue,
            };
            assert!(self.lied, "topic {name} is listed: {is_listed}, and stands as {standing:?}");
            self.operator.standings[topic] = standing;
            self.operator.wanted.push(Wanted { wish, asked: false });
        }
        self.journal.note(self.now_ns, "started", &[listed.len() as u64]);
        self.operator.started = true;
        self.ask_again();
    }

    /// Control has answered.
    pub(super) fn answered(&mut self, wish: Wish, answer: Result<(), ApiError>) {
        self.journal.note(self.now_ns, "answered", &[u64::from(answer.is_ok())]);
        self.journal.tell(&(wish, &answer));
        if let Wish::Pause(topic, _) = wish {
            self.operator.pausing[topic] = self.operator.pausing[topic].saturating_sub(1);
        }
        let at = self.operator.wanted.iter().position(|wanted| wanted.wish == wish && wanted.asked);
        let gone = answer.as_ref().is_err_and(|error| error.code == "unknown_topic");
        match (&answer, wish) {
            (Err(error), _) => self.assert_true(wish, error),
            (Ok(()), Wish::Pause(topic, paused)) => self.assert_pauses(topic, paused),
            (Ok(()), _) => {}
        }
        if answer.is_ok() || gone {
            if let Some(at) = at {
                self.operator.wanted.remove(at);
            }
            let standing = &mut self.operator.standings[wish.topic()];
            match wish {
                Wish::Create(_) => *standing = Standing::There { since_ns: self.now_ns },
                Wish::Delete(_) => {
                    *standing = Standing::Gone;
                    self.plan_at(self.now_ns, Due::Operator);
                }
                Wish::Pause(..) => {}
            }
        } else if let Some(at) = at {
            self.operator.wanted[at].asked = false;
            self.plan_at(self.now_ns + AGAIN_NS, Due::Operator);
        }
    }

    /// Where a topic was told to pause, or to go on, all of it does: unless it was asked again meanwhile, or a shard that
    /// did not run has yet to hear of something before.
    fn assert_pauses(&self, topic: usize, paused: bool) {
        let alone = self.operator.pausing[topic] == 0 && self.operator.current(topic) == topic;
        if let Some(server) = self.server.as_ref().filter(|_| alone && self.paused_until_ns == 0) {
            server.assert_paused(&self.plan.topics[topic].name, paused);
        }
    }

    /// What an operator is refused has a reason that is so.
    fn assert_true(&self, wish: Wish, error: &ApiError) {
        let draining = self.server.as_ref().is_some_and(Server::is_draining);
        let failed = self.kept.files.borrow().failed() > self.failed_before;
        let standing = self.operator.standings[wish.topic()];
        let is_true = match error.code {
            "server_draining" => draining,
            "catalogue_not_saved" | "disk_full" | "log_not_made" => failed,
            // Asked twice, or when it was not there yet.
            "unknown_topic" => match wish {
                Wish::Create(_) => false,
                Wish::Delete(_) => standing == Standing::Doomed,
                Wish::Pause(..) => !matches!(standing, Standing::There { .. }),
            },
            // Some shard did not run for seconds; or the topic is being made.
            "unavailable" => {
                let being_made = matches!(wish, Wish::Pause(..)) && standing == Standing::Wanted;
                self.paused_until_ns > 0 || being_made
            }
            _ => false,
        };
        assert!(is_true, "{wish:?} is refused ({standing:?}) with {error:?}, which cannot be");
    }
}
