//! Seeds in a row; `SIM_SEEDS=FIRST..LAST` runs others.

use super::*;

#[test]
fn whatever_happens_promises_are_kept_and_the_same_seed_is_the_same_run() {
    let wanted = std::env::var("SIM_SEEDS").unwrap_or_else(|_| "0..3".to_owned());
    let (first, last) = wanted.split_once("..").expect("FIRST..LAST");
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    let mappings = Mappings::new();
    for seed in number(first)..number(last) {
        let once = run(seed, &mappings, std::env::var("SIM_TRACE").is_ok());
        let once = once.unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
        let again = run(seed, &mappings, false).expect("it was well once");
        assert_eq!(once, again, "seed {seed}: the same run");
    }
}
