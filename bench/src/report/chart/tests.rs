//! Scales, and that charts are files that anything can show.

use super::canvas::escaped;
use super::{Dot, Dots, Lines, Look, Marker, Point, Scale, Series, Stroke};

const LOOK: Look = Look { class: "uring", stroke: Stroke::Dashed, marker: Marker::Cross };

/// Every number and every tag of a chart: inside of its frame, closed in order, and without scripts, links or fonts.
pub(in crate::report) fn check(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut frame = (0.0, 0.0);
    for part in svg.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
        assert!(
            ["svg", "title", "desc", "style", "rect", "line", "polyline", "polygon", "circle", "text"]
                .contains(&name),
            "{name}"
        );
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        let value = |key: &str| -> Option<f64> {
            let (_, rest) = tag.split_once(&format!(" {key}=\""))?;
            rest.split_once('"')?.0.parse().ok()
        };
        if name == "svg" && !tag.starts_with('/') {
            frame = (value("width").expect("a width"), value("height").expect("a height"));
        }
        for (keys, most) in [(["x", "x1", "x2", "cx"], frame.0), (["y", "y1", "y2", "cy"], frame.1)] {
            for at in keys.into_iter().filter_map(value) {
                assert!((0.0..=most).contains(&at), "{tag}");
            }
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    for stranger in ["NaN", "inf", "<script", "href", "url(", "@font", "@import"] {
        assert!(!svg.contains(stranger), "{stranger}");
    }
    let text_of =
        |tag: &str| svg.split_once(&format!("<{tag} id=")).and_then(|(_, rest)| rest.split_once('>'));
    for tag in ["title", "desc"] {
        let (_, rest) = text_of(tag).expect("for those who do not see it");
        assert!(rest.split_once('<').is_some_and(|(text, _)| text.len() > 5), "{tag} says something");
    }
    assert!(svg.contains("prefers-color-scheme:dark"), "a dark page");
}

#[test]
fn a_logarithm_gives_each_factor_the_same_room() {
    let scale = Scale::log([10.0, 1_000.0]);
    let step = scale.place(100.0) - scale.place(10.0);
    assert!((scale.place(1_000.0) - scale.place(100.0) - step).abs() < 1e-12);
    assert!(scale.place(10.0) > 0.0 && scale.place(1_000.0) < 1.0, "room at the ends");
    let names: Vec<&str> = scale.ticks.iter().map(|tick| &*tick.1).collect();
    assert_eq!(names, ["10", "20", "50", "100", "200", "500", "1,000"]);
    assert_eq!((scale.place(0.0), scale.place(-1.0), scale.place(1e9)), (0.0, 0.0, 1.0), "never outside");
}

#[test]
fn scales_are_never_without_an_extent() {
    for scale in
        [Scale::log([]), Scale::log([5.0]), Scale::log([0.0]), Scale::linear([]), Scale::linear([1.0, 1.0])]
    {
        for value in [0.0, 1.0, 5.0] {
            assert!((0.0..=1.0).contains(&scale.place(value)), "{scale:?}");
        }
        assert!(!scale.ticks.is_empty() && scale.ticks.len() < 30, "{scale:?}");
    }
}

#[test]
fn a_linear_scale_has_round_names() {
    let names: Vec<String> = Scale::linear([0.72, 1.31]).ticks.into_iter().map(|tick| tick.1).collect();
    assert_eq!(names, ["0.8", "1.0", "1.2"]);
    let names: Vec<String> =
        Scale::linear([-2_000.0, 3_000.0]).ticks.into_iter().map(|tick| tick.1).collect();
    assert_eq!(names, ["-2,000", "-1,000", "0", "1,000", "2,000", "3,000"]);
}

#[test]
fn a_tail_gives_each_nine_the_same_room() {
    let scale = Scale::tail(0.9999);
    let step = scale.place(0.99) - scale.place(0.9);
    assert!((scale.place(0.999) - scale.place(0.99) - step).abs() < 1e-9);
    assert_eq!(scale.ticks.last().map(|tick| &*tick.1), Some("99.99 %"));
}

#[test]
fn text_is_text() {
    assert_eq!(escaped("a<b & \"c\">"), "a&lt;b &amp; &quot;c&quot;&gt;");
    let dots = |name: &str, value: f64| {
        let dot = Dot {
            group: Some(name.into()),
            name: name.into(),
            look: LOOK,
            value,
            low: value / 2.0,
            high: value,
            text: name.into(),
        };
        Dots {
            title: name.into(),
            description: "a <description>".into(),
            x_label: name.into(),
            x: Scale::log([value]),
            mark: Some(1.0),
            dots: vec![dot],
        }
    };
    check(&dots("A & <b>", 3.0).draw());
}

#[test]
fn lines_without_points_and_points_without_extent_are_drawn() {
    let series = |points: Vec<Point>| Series { name: "x".into(), look: LOOK, points };
    for (points, curve) in
        [(vec![], false), (vec![Point { x: 1.0, y: 0.0, low: 0.0, high: 0.0 }], false), (vec![], true)]
    {
        let chart = Lines {
            title: "a title".into(),
            description: "a description".into(),
            x_label: "x".into(),
            y_label: "y".into(),
            x: Scale::log([1.0]),
            y: Scale::log([]),
            curve,
            mark: Some((5.0, "bound".into())),
            series: vec![series(points)],
        };
        check(&chart.draw());
    }
}
