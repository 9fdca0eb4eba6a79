//! Lines over an axis, each with how sure it is, and a legend.

use super::canvas::{Anchor, Canvas};
use super::{Look, Scale};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 172.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 58.0;

/// A place on a line, and between what the rounds lay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::report) struct Point {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Series {
    pub name: String,
    pub look: Look,
    pub points: Vec<Point>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Lines {
    pub title: String,
    pub description: String,
    pub x_label: String,
    pub y_label: String,
    pub x: Scale,
    pub y: Scale,
    /// Whether points are many and form a curve: a band in place of whiskers and markers.
    pub curve: bool,
    /// A value of y to compare with, and its name.
    pub mark: Option<(f64, String)>,
    pub series: Vec<Series>,
}

impl Lines {
    /// The chart.
    pub(in crate::report) fn draw(&self) -> String {
        let mut canvas = Canvas::new(WIDTH, HEIGHT);
        canvas.text("head", Anchor::Start, (LEFT, 24.0), &self.title);
        self.axes(&mut canvas);
        for series in &self.series {
            self.series(&mut canvas, series);
        }
        self.legend(&mut canvas);
        canvas.finish(&self.title, &self.description)
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, canvas: &mut Canvas) {
        let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in &self.y.between {
            let y = self.at_y(*value);
            canvas.line("faint", (LEFT, y), (right, y));
        }
        for (value, name) in &self.y.ticks {
            let y = self.at_y(*value);
            canvas.line("grid", (LEFT, y), (right, y));
            canvas.text("dim", Anchor::End, (LEFT - 8.0, y + 4.0), name);
        }
        for (value, name) in &self.x.ticks {
            let x = self.at_x(*value);
            canvas.line("grid", (x, TOP), (x, floor));
            canvas.text("dim", Anchor::Middle, (x, floor + 18.0), name);
        }
        canvas.line("axis", (LEFT, TOP), (LEFT, floor));
        canvas.line("axis", (LEFT, floor), (right, floor));
        canvas.text("dim", Anchor::Middle, ((LEFT + right) / 2.0, HEIGHT - 14.0), &self.x_label);
        canvas.text_upwards((18.0, (TOP + floor) / 2.0), &self.y_label);
        if let Some((value, name)) = &self.mark {
            let y = self.at_y(*value);
            canvas.line("mark", (LEFT, y), (right, y));
            canvas.text("dim", Anchor::Start, (LEFT + 6.0, y - 6.0), name);
        }
    }

    fn series(&self, canvas: &mut Canvas, series: &Series) {
        let place = |point: &Point, y: f64| (self.at_x(point.x), self.at_y(y));
        let middle: Vec<(f64, f64)> = series.points.iter().map(|point| place(point, point.y)).collect();
        if self.curve {
            let low: Vec<_> = series.points.iter().map(|point| place(point, point.low)).collect();
            let high: Vec<_> = series.points.iter().map(|point| place(point, point.high)).collect();
            canvas.band(series.look, &low, &high);
        }
        canvas.path(series.look, &middle);
        if self.curve {
            return;
        }
        for (point, (x, y)) in series.points.iter().zip(&middle) {
            let (low, high) = (self.at_y(point.low), self.at_y(point.high));
            if (low - high).abs() > 1.0 {
                canvas.whisker_up(series.look, *x, low, high);
            }
            canvas.marker(series.look, *x, *y);
        }
    }

    /// Names, in the order of the lines' right ends, so that the eye need not cross.
    fn legend(&self, canvas: &mut Canvas) {
        let mut series: Vec<&Series> =
            self.series.iter().filter(|series| !series.points.is_empty()).collect();
        let end = |series: &Series| series.points.last().map_or(0.0, |point| self.at_y(point.y));
        series.sort_by(|a, b| end(a).total_cmp(&end(b)));
        let left = WIDTH - RIGHT + 16.0;
        for (row, series) in (0_u16..).zip(series) {
            let y = TOP + 12.0 + f64::from(row) * 22.0;
            canvas.path(series.look, &[(left, y), (left + 26.0, y)]);
            if !self.curve {
                canvas.marker(series.look, left + 13.0, y);
            }
            canvas.text("", Anchor::Start, (left + 34.0, y + 4.0), &series.name);
        }
    }
}
