//! What a seed decides about TLS.

use crate::sim::random::Random;

/// Cipher suites to choose from.
pub const SUITES: usize = 3;

/// How TLS is spoken, and by whom.
#[derive(Debug, Clone, Default)]
pub struct SecuredPlan {
    /// Which clients speak it, by their number: producers first.
    pub clients: Vec<bool>,
    /// Those that read the logs at the end do.
    pub auditors: bool,
    /// The cipher suite, by its number.
    pub suite: usize,
    /// Clients go on from tickets when they connect again.
    pub resumes: bool,
    /// The server knows only a key exchange that clients do not come with: it tells them to come again.
    pub comes_again: bool,
    /// How many things are done that only TLS knows.
    pub acts: usize,
}

/// How often what goes wrong with TLS, of a thousand chances each.
#[derive(Debug, Clone, Default)]
pub struct SecuredFaults {
    /// A bit of what a client sends is another when it arrives.
    pub flip_up: u32,
    /// A bit of what the server sends is another when it arrives.
    pub flip_down: u32,
    /// A client goes during its handshake.
    pub cut: u32,
    /// What is sent at once arrives in two pieces, one later than the other.
    pub pieces: u32,
}

impl SecuredPlan {
    /// For so many clients: most of them in some runs, some in others, nobody in the rest.
    pub fn new(random: &mut Random, clients: usize) -> SecuredPlan {
        let share = if random.chance(500) { random.pick(&[200, 500, 1_000]) } else { 0 };
        SecuredPlan {
            clients: (0..clients).map(|_| random.chance(share)).collect(),
            auditors: random.chance(share),
            suite: random.index(SUITES),
            resumes: random.chance(700),
            comes_again: random.chance(150),
            acts: if share > 0 && random.chance(600) { 1 + random.index(40) } else { 0 },
        }
    }

    /// Somebody speaks it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.auditors || self.clients.contains(&true)
    }
}

impl SecuredFaults {
    /// Bits are changed on their way: where they were of a handshake, either side may hold other keys.
    #[must_use]
    pub fn flips(&self) -> bool {
        self.flip_up > 0 || self.flip_down > 0
    }

    /// Each on or off by itself.
    pub fn new(random: &mut Random) -> SecuredFaults {
        let mut often = |most: u64| {
            let on = random.chance(350);
            if on { u32::try_from(random.range(1, most)).expect("a few in a thousand") } else { 0 }
        };
        SecuredFaults { flip_up: often(30), flip_down: often(30), cut: often(200), pieces: often(300) }
    }
}
