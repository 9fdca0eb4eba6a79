//! The states of the server and of each topic, and the one table of transitions between them.
//!
//! `init` until it can take traffic (a topic: until every shard has it); `running`; `paused`, where new
//! batches are refused and what is kept is still delivered; `draining`, where nothing new is taken and what
//! is in flight is finished (a topic: while it is deleted); `stopped`, from which nothing leads away.

use std::sync::atomic::{AtomicU8, Ordering};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Not ready yet.
    #[default]
    Init = 0,
    /// Takes and delivers.
    Running = 1,
    /// Delivers only.
    Paused = 2,
    /// Finishes what is in flight.
    Draining = 3,
    /// Done.
    Stopped = 4,
}

/// Every transition there is; any other is refused.
pub const TRANSITIONS: &[(State, State)] = &[
    (State::Init, State::Running),
    (State::Init, State::Paused), // it was paused before a restart
    (State::Init, State::Draining),
    (State::Init, State::Stopped), // it could not start
    (State::Running, State::Paused),
    (State::Running, State::Draining),
    (State::Running, State::Stopped), // at once, by a second signal
    (State::Paused, State::Running),
    (State::Paused, State::Draining),
    (State::Paused, State::Stopped),
    (State::Draining, State::Stopped),
];

/// A transition that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAllowed {
    /// The state it was in.
    pub from: State,
    /// The state that was asked for.
    pub to: State,
}

impl State {
    /// Every state, in the order of its number.
    pub const ALL: [State; 5] = [State::Init, State::Running, State::Paused, State::Draining, State::Stopped];

    /// The name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Init => "init",
            State::Running => "running",
            State::Paused => "paused",
            State::Draining => "draining",
            State::Stopped => "stopped",
        }
    }

    /// Whether the table has this transition.
    #[must_use]
    pub fn may_become(self, to: State) -> bool {
        TRANSITIONS.contains(&(self, to))
    }

    /// Takes a transition and returns the state it left.
    ///
    /// # Errors
    /// When the table does not have it; the state stays.
    pub fn advance(&mut self, to: State) -> Result<State, NotAllowed> {
        let from = *self;
        if !from.may_become(to) {
            return Err(NotAllowed { from, to });
        }
        *self = to;
        Ok(from)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cannot become {}", self.from, self.to)
    }
}

impl std::error::Error for NotAllowed {}

/// A state that several threads read and change. Of two that ask at the same time, one is first, and the
/// other is judged by the state it left.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    /// In `init`.
    #[must_use]
    pub const fn new() -> Lifecycle {
        Lifecycle(AtomicU8::new(State::Init as u8))
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.0.load(Ordering::Acquire))]
    }

    /// Takes a transition and returns the state it left.
    ///
    /// # Errors
    /// When the table does not have it; the state stays.
    pub fn advance(&self, to: State) -> Result<State, NotAllowed> {
        let mut from = self.state();
        loop {
            if !from.may_become(to) {
                return Err(NotAllowed { from, to });
            }
            let swapped = self.0.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => return Ok(from),
                Err(now) => from = State::ALL[usize::from(now)],
            }
        }
    }
}

#[cfg(test)]
mod tests;
