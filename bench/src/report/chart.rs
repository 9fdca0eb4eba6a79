//! Charts as SVG, from numbers alone.
//!
//! The files stand by themselves: no script, no font, no link. Text is in whatever sans-serif font there is, with room
//! for wide ones; colours are for a light and a dark page (a medium without style queries gets the light one, on a
//! background of its own), and nothing is told by colour alone: markers and dashes differ too. Each has a title and a
//! description for those who do not see it. Coordinates are written with one decimal, so that a chart is the same
//! bytes on every host.

mod canvas;
mod dots;
mod lines;
mod scale;
#[cfg(test)]
pub(super) mod tests;

pub(super) use dots::{Dot, Dots};
pub(super) use lines::{Lines, Point, Series};
pub(super) use scale::Scale;

/// A line's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
}

/// What stands at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    HollowCircle,
    HollowSquare,
    Triangle,
    Diamond,
    Cross,
}

/// How somebody is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Of the style sheet.
    pub class: &'static str,
    pub stroke: Stroke,
    pub marker: Marker,
}
