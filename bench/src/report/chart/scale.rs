//! From values to places, and which values are named on an axis.

/// Where a value stands between an axis's begin (0) and end (1).
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// Values that are named, with their names.
    pub(super) ticks: Vec<(f64, String)>,
    /// Values that only get a faint line.
    pub(super) between: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Log,
    /// Shares of a distribution, the closer to 1 the wider: by the logarithm of what is left.
    Tail,
}

impl Kind {
    fn map(self, value: f64) -> f64 {
        match self {
            Kind::Linear => value,
            Kind::Log => value.max(f64::MIN_POSITIVE).log10(),
            Kind::Tail => -(1.0 - value.min(1.0 - 1e-12)).log10(),
        }
    }
}

impl Scale {
    /// Where a value stands; values outside are put at the ends.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.kind.map(self.low), self.kind.map(self.high));
        if high <= low {
            return 0.5;
        }
        ((self.kind.map(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// Logarithmic, over all values, with room at both ends. Values that are not above 0 are left out.
    pub(in crate::report) fn log(values: impl IntoIterator<Item = f64>) -> Scale {
        let (low, high) = ends(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let (low, high) = (low / 1.15, high * 1.15);
        let mut scale = Scale { kind: Kind::Log, low, high, ticks: Vec::new(), between: Vec::new() };
        // Few decades have room for more names.
        let named: &[f64] = match (high / low).log10() {
            decades if decades <= 1.0 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            decades if decades <= 2.2 => &[1.0, 2.0, 5.0],
            decades if decades <= 3.5 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let mut decade = 10_f64.powf(low.log10().floor());
        while decade <= high {
            for step in 1..10 {
                let value = decade * f64::from(step);
                if scale.holds(value) && !named.contains(&f64::from(step)) {
                    scale.between.push(value);
                }
            }
            let ticks = named.iter().map(|step| decade * step).filter(|value| (low..=high).contains(value));
            scale.ticks.extend(ticks.map(|value| (value, number(value))));
            decade *= 10.0;
        }
        scale
    }

    /// Logarithmic, with names at these values alone.
    pub(in crate::report) fn log_at(ticks: Vec<(f64, String)>) -> Scale {
        let (low, high) = ends(ticks.iter().map(|tick| tick.0)).unwrap_or((1.0, 10.0));
        Scale { kind: Kind::Log, low: low / 1.3, high: high * 1.3, ticks, between: Vec::new() }
    }

    /// Linear, over all values and with room at both ends.
    pub(in crate::report) fn linear(values: impl IntoIterator<Item = f64>) -> Scale {
        let (low, high) = ends(values).unwrap_or((0.0, 1.0));
        let room = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-6);
        let (low, high) = (low - room, high + room);
        let step = nice((high - low) / 6.0);
        let mut scale = Scale { kind: Kind::Linear, low, high, ticks: Vec::new(), between: Vec::new() };
        let mut count = (low / step).ceil();
        while count * step <= high {
            let value = count * step;
            scale.ticks.push((value, number_by(value, step)));
            count += 1.0;
        }
        scale
    }

    /// Shares of a distribution from the lowest value to this share.
    pub(in crate::report) fn tail(highest: f64) -> Scale {
        let names = [
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
            (0.99999, "99.999 %"),
            (0.999_999, "99.9999 %"),
        ];
        let ticks = names.into_iter().filter(|(share, _)| *share <= highest + 1e-9);
        let ticks = ticks.map(|(share, name)| (share, name.to_owned())).collect();
        Scale { kind: Kind::Tail, low: 0.0, high: highest, ticks, between: Vec::new() }
    }

    fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Least and most.
fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// 1, 2 or 5 times a power of ten, not below this.
fn nice(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|times| times * decade)
        .into_iter()
        .find(|nice| *nice >= step)
        .unwrap_or(decade * 10.0)
}

/// A number on an axis: no more digits than it needs.
fn number(value: f64) -> String {
    let text = if value >= 1.0 { format!("{value:.1}") } else { format!("{value:.4}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    crate::report::names::grouped(text)
}

/// The same with the digits of a step.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few digits
fn number_by(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let value = if value.abs() < step / 1e6 { 0.0 } else { value };
    crate::report::names::grouped(&format!("{value:.digits$}"))
}
