use super::*;
use std::sync::Arc;

/// The table as a picture: a row for each state, a column for each target.
const EXPECTED: [(State, [bool; 5]); 5] = [
    // to:            init   running paused draining stopped
    (State::Init, [false, true, true, true, true]),
    (State::Running, [false, false, true, true, true]),
    (State::Paused, [false, true, false, true, true]),
    (State::Draining, [false, false, false, false, true]),
    (State::Stopped, [false, false, false, false, false]),
];

fn lifecycle_in(state: State) -> Lifecycle {
    let path: &[State] = match state {
        State::Init => &[],
        State::Running => &[State::Running],
        State::Paused => &[State::Running, State::Paused],
        State::Draining => &[State::Running, State::Draining],
        State::Stopped => &[State::Running, State::Draining, State::Stopped],
    };
    let lifecycle = Lifecycle::new();
    for &to in path {
        lifecycle.advance(to).expect("the usual path is allowed");
    }
    lifecycle
}

#[test]
fn all_25_pairs_are_as_the_picture_says() {
    for (from, allowed) in EXPECTED {
        for (to, allowed) in State::ALL.into_iter().zip(allowed) {
            let lifecycle = lifecycle_in(from);
            let mut state = from;
            if allowed {
                assert_eq!(lifecycle.advance(to), Ok(from), "{from} to {to}");
                assert_eq!(state.advance(to), Ok(from), "{from} to {to}");
                assert_eq!((lifecycle.state(), state), (to, to));
            } else {
                assert_eq!(lifecycle.advance(to), Err(NotAllowed { from, to }));
                assert_eq!(state.advance(to), Err(NotAllowed { from, to }));
                assert_eq!((lifecycle.state(), state), (from, from));
            }
        }
    }
}

#[test]
fn one_of_many_threads_takes_a_transition() {
    let lifecycle = Arc::new(lifecycle_in(State::Running));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let lifecycle = Arc::clone(&lifecycle);
            std::thread::spawn(move || lifecycle.advance(State::Draining).is_ok())
        })
        .collect();
    let took = threads.into_iter().map(|t| t.join().expect("no panic")).filter(|&t| t).count();
    assert_eq!(took, 1);
    assert_eq!(lifecycle.state(), State::Draining);
}

#[test]
fn names_are_lower_case_and_the_same_in_json() {
    for state in State::ALL {
        assert_eq!(state.to_string(), format!("{state:?}").to_lowercase());
        assert_eq!(serde_json::to_string(&state).expect("serialises"), format!("\"{state}\""));
    }
    let refused = NotAllowed { from: State::Stopped, to: State::Running };
    assert_eq!(refused.to_string(), "stopped cannot become running");
}
