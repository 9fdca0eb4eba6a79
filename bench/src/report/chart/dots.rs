//! Dots in rows, each with how sure it is: figures of several works beside each other.

use super::canvas::{Anchor, Canvas};
use super::{Look, Scale};

const WIDTH: f64 = 860.0;
/// Room for the longest name, and for the longest text at a row's end; the axis takes what is left.
const NAME_MIN: f64 = 150.0;
const NAME_MAX: f64 = 360.0;
const RIGHT: f64 = 170.0;
/// Of a wide font.
const LETTER: f64 = 7.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 58.0;
const ROW: f64 = 20.0;
const GROUP: f64 = 28.0;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Dot {
    /// A heading above this row.
    pub group: Option<String>,
    pub name: String,
    pub look: Look,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// What stands at the row's end.
    pub text: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Dots {
    pub title: String,
    pub description: String,
    pub x_label: String,
    pub x: Scale,
    /// A value to compare with.
    pub mark: Option<f64>,
    pub dots: Vec<Dot>,
}

impl Dots {
    /// The chart.
    pub(in crate::report) fn draw(&self) -> String {
        let groups = self.dots.iter().filter(|dot| dot.group.is_some()).count();
        let rows = self.dots.len() as f64 * ROW + groups as f64 * GROUP + 6.0;
        let (floor, left, right) = (TOP + rows, self.left(), WIDTH - RIGHT);
        let mut canvas = Canvas::new(WIDTH, floor + BOTTOM);
        canvas.text("head", Anchor::Start, (16.0, 24.0), &self.title);
        for value in &self.x.between {
            let x = self.at(*value);
            canvas.line("faint", (x, TOP), (x, floor));
        }
        for (value, name) in &self.x.ticks {
            let x = self.at(*value);
            canvas.line("grid", (x, TOP), (x, floor));
            canvas.text("dim", Anchor::Middle, (x, floor + 18.0), name);
        }
        canvas.line("axis", (left, floor), (right, floor));
        canvas.text("dim", Anchor::Middle, ((left + right) / 2.0, floor + 42.0), &self.x_label);
        if let Some(value) = self.mark {
            let x = self.at(value);
            canvas.line("mark", (x, TOP), (x, floor));
        }
        let mut y = TOP + 3.0;
        for dot in &self.dots {
            if let Some(group) = &dot.group {
                canvas.blank((16.0, y + 3.0), (right, y + GROUP - 3.0));
                canvas.text("bold", Anchor::Start, (16.0, y + GROUP - 9.0), group);
                y += GROUP;
            }
            self.row(&mut canvas, dot, y + ROW / 2.0);
            y += ROW;
        }
        canvas.finish(&self.title, &self.description)
    }

    /// Where the axis begins.
    fn left(&self) -> f64 {
        let longest = self.dots.iter().map(|dot| dot.name.chars().count()).max().unwrap_or(0);
        (longest as f64 * LETTER + 26.0).clamp(NAME_MIN, NAME_MAX)
    }

    fn at(&self, value: f64) -> f64 {
        self.left() + self.x.place(value) * (WIDTH - self.left() - RIGHT)
    }

    fn row(&self, canvas: &mut Canvas, dot: &Dot, y: f64) {
        let (low, high) = (self.at(dot.low), self.at(dot.high));
        canvas.text("", Anchor::End, (self.left() - 10.0, y + 4.0), &dot.name);
        if high - low > 1.0 {
            canvas.whisker_along(dot.look, y, low, high);
        }
        canvas.marker(dot.look, self.at(dot.value), y);
        canvas.text("dim", Anchor::Start, (WIDTH - RIGHT + 10.0, y + 4.0), &dot.text);
    }
}
