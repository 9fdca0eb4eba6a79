//! Shapes and text, put down one after the other.

use std::fmt::Write as _;

use super::{Look, Marker, Stroke};

/// Half of a marker's width.
const MARKER: f64 = 4.0;

/// Colours of Okabe and Ito ("Color Universal Design", 2008), darker on light and lighter on dark so that thin lines and
/// text keep their contrast.
const STYLE: &str = "\
.back{fill:#ffffff}\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;fill:#1f2328}\
.head{font-size:15px;font-weight:600}.bold{font-weight:600}.dim{fill:#57606a}\
.grid{stroke:#d0d7de;stroke-width:1}.faint{stroke:#eaeef2;stroke-width:1}\
.axis{stroke:#57606a;stroke-width:1}.mark{stroke:#57606a;stroke-width:1.5;stroke-dasharray:6 4}\
.line{fill:none;stroke-width:2}.bar{fill:none;stroke-width:1.5}.dash{stroke-dasharray:5 4}\
.band{opacity:.18;stroke:none}.open{fill:#ffffff;stroke-width:1.8}.full{stroke-width:1}\
.uring{stroke:#0062a3;color:#0062a3}.epoll{stroke:#c04f00;color:#c04f00}.nats{stroke:#00795a;color:#00795a}\
.pubsub{stroke:#a8437e;color:#a8437e}.streams{stroke:#7a6400;color:#7a6400}\
.full,.band{fill:currentColor}\
@media(prefers-color-scheme:dark){\
.back,.open{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#9198a1}\
.grid{stroke:#30363d}.faint{stroke:#1c2129}.axis,.mark{stroke:#9198a1}.band{opacity:.28}\
.uring{stroke:#56b4e9;color:#56b4e9}.epoll{stroke:#f0a04b;color:#f0a04b}.nats{stroke:#3fc99b;color:#3fc99b}\
.pubsub{stroke:#e79ac4;color:#e79ac4}.streams{stroke:#d9c24a;color:#d9c24a}}";

/// Where a text stands to its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    const fn name(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

/// See the module.
pub(super) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Canvas {
        Canvas { width, height, body: String::new() }
    }

    /// One element to a line. Writing to a string does not fail.
    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    /// Hides what is there, up to a corner.
    pub(super) fn blank(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x, y), width, height) = (from, to.0 - from.0, to.1 - from.1);
        self.put(format_args!(
            r#"<rect class="back" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }

    pub(super) fn path(&mut self, look: Look, points: &[(f64, f64)]) {
        let dash = if look.stroke == Stroke::Dashed { " dash" } else { "" };
        self.put(format_args!(
            r#"<polyline class="line {}{dash}" points="{}"/>"#,
            look.class,
            list(points.iter().copied())
        ));
    }

    /// The area between two lines over the same x.
    pub(super) fn band(&mut self, look: Look, low: &[(f64, f64)], high: &[(f64, f64)]) {
        let around = list(low.iter().copied().chain(high.iter().rev().copied()));
        self.put(format_args!(r#"<polygon class="band {}" points="{around}"/>"#, look.class));
    }

    /// An upright line with ends, from `low` to `high`.
    pub(super) fn whisker_up(&mut self, look: Look, x: f64, low: f64, high: f64) {
        let class = format!("bar {}", look.class);
        self.line(&class, (x, low), (x, high));
        for y in [low, high] {
            self.line(&class, (x - 3.0, y), (x + 3.0, y));
        }
    }

    /// A lying line with ends, from `low` to `high`.
    pub(super) fn whisker_along(&mut self, look: Look, y: f64, low: f64, high: f64) {
        let class = format!("bar {}", look.class);
        self.line(&class, (low, y), (high, y));
        for x in [low, high] {
            self.line(&class, (x, y - 3.0), (x, y + 3.0));
        }
    }

    pub(super) fn marker(&mut self, look: Look, x: f64, y: f64) {
        let class = look.class;
        let (m, wide) = (MARKER, MARKER * 1.3);
        match look.marker {
            Marker::Circle => {
                self.put(format_args!(
                    r#"<circle class="full {class}" cx="{x:.1}" cy="{y:.1}" r="{m:.1}"/>"#
                ));
            }
            Marker::HollowCircle => {
                self.put(format_args!(
                    r#"<circle class="open {class}" cx="{x:.1}" cy="{y:.1}" r="{m:.1}"/>"#
                ));
            }
            Marker::Square | Marker::HollowSquare => {
                let fill = if look.marker == Marker::Square { "full" } else { "open" };
                let (left, top, side) = (x - m, y - m, m * 2.0);
                self.put(format_args!(
                    r#"<rect class="{fill} {class}" x="{left:.1}" y="{top:.1}" width="{side:.1}" height="{side:.1}"/>"#
                ));
            }
            Marker::Triangle => self.shape(class, &[(x, y - wide), (x + wide, y + m), (x - wide, y + m)]),
            Marker::Diamond => {
                self.shape(class, &[(x, y - wide), (x + wide, y), (x, y + wide), (x - wide, y)]);
            }
            Marker::Cross => {
                let bar = format!("line {class}");
                self.line(&bar, (x - m, y - m), (x + m, y + m));
                self.line(&bar, (x - m, y + m), (x + m, y - m));
            }
        }
    }

    fn shape(&mut self, class: &str, points: &[(f64, f64)]) {
        let around = list(points.iter().copied());
        self.put(format_args!(r#"<polygon class="full {class}" points="{around}"/>"#));
    }

    pub(super) fn text(&mut self, class: &str, anchor: Anchor, (x, y): (f64, f64), text: &str) {
        let (anchor, text) = (anchor.name(), escaped(text));
        let class = if class.is_empty() { String::new() } else { format!(r#" class="{class}""#) };
        self.put(format_args!(r#"<text{class} text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    /// A text that reads upwards, centred on the point.
    pub(super) fn text_upwards(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        self.put(format_args!(
            r#"<text class="dim" text-anchor="middle" transform="translate({x:.1} {y:.1}) rotate(-90)">{text}</text>"#
        ));
    }

    /// The file.
    pub(super) fn finish(self, title: &str, description: &str) -> String {
        let Canvas { width, height, body } = self;
        let (title, description) = (escaped(title), escaped(description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">{title}</title>\n<desc id=\"desc\">{description}</desc>\n\
             <style>{STYLE}</style>\n\
             <rect class=\"back\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n{body}</svg>\n"
        )
    }
}

fn list(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// Text as XML takes it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
