//! Small charts as inline SVG. Colours come from the page's style sheet, so that they follow light and dark; attributes
//! stand in for it where the picture is shown without the page.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// How many colours the style sheet knows.
pub(super) const COLOURS: usize = 4;

/// One line of a chart.
pub(super) struct Series {
    /// What the legend says.
    pub(super) name: String,
    /// Which colour, below [`COLOURS`].
    pub(super) colour: usize,
    /// Dashed lines are secondary figures.
    pub(super) dashed: bool,
    /// Points from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// A group of bars at one place.
pub(super) struct Group {
    /// What stands below.
    pub(super) name: String,
    /// Colour and height of each bar.
    pub(super) bars: Vec<(usize, f64)>,
}

/// A step of 1, 2 or 5 times a power of ten that divides `span` into at most `parts`.
fn step(span: f64, parts: f64) -> f64 {
    if span <= 0.0 || !span.is_finite() {
        return 1.0;
    }
    let rough = span / parts;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

/// A number as short as it can be said.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = if scaled.abs() >= 100.0 || scaled.fract() == 0.0 {
        format!("{scaled:.0}")
    } else {
        format!("{scaled:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{text}{unit}")
}

struct Frame {
    svg: String,
    top_value: f64,
    right_value: f64,
}

impl Frame {
    fn new(label: &str, highest: f64, right_value: f64) -> Self {
        let tick = step(highest, 5.0);
        let top_value = ((highest / tick).ceil() * tick).max(tick);
        let mut svg = format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}"><g class="grid" stroke-width="1">"#,
            super::page::escape(label)
        );
        let mut frame = Self { svg: String::new(), top_value, right_value };
        let mut value = 0.0;
        while value <= top_value + tick / 2.0 {
            let y = frame.y(value);
            let _ = write!(
                svg,
                r#"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="gray"/><text x="{}" y="{:.1}" class="left" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                short(value)
            );
            value += tick;
        }
        svg.push_str("</g>");
        frame.svg = svg;
        frame
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * value / self.right_value.max(f64::MIN_POSITIVE)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / self.top_value)
    }

    fn below(&mut self, x: f64, text: &str) {
        let y = HEIGHT - 12.0;
        let _ = write!(
            self.svg,
            r#"<text x="{x:.1}" y="{y}" class="below" text-anchor="middle">{}</text>"#,
            super::page::escape(text)
        );
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Lines over seconds.
pub(super) fn lines(label: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|one| &one.points);
    let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let mut frame = Frame::new(label, highest, right);
    let tick = step(right, 8.0);
    let mut second = 0.0;
    while second <= right {
        let x = frame.x(second);
        frame.below(x, &format!("{} s", short(second)));
        second += tick;
    }
    for one in series {
        let mut path = String::new();
        for (index, (x, y)) in one.points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", frame.x(*x), frame.y(*y));
        }
        let dashed = if one.dashed { " dashed" } else { "" };
        let _ = write!(
            frame.svg,
            r#"<path class="line c{}{dashed}" fill="none" stroke="currentColor" d="{path}"><title>{}</title></path>"#,
            one.colour % COLOURS,
            super::page::escape(&one.name)
        );
    }
    format!("<figure>{}{}</figure>", frame.finish(), legend(series))
}

/// Bars in groups, with their values on top.
pub(super) fn bars(label: &str, groups: &[Group]) -> String {
    let highest = groups.iter().flat_map(|group| &group.bars).map(|(_, height)| *height).fold(0.0, f64::max);
    let count = groups.iter().fold(0.0, |count, _| count + 1.0);
    let mut frame = Frame::new(label, highest, count);
    let mut left = 0.0;
    for group in groups {
        let centre = frame.x(left + 0.5);
        frame.below(centre, &group.name);
        let many = group.bars.iter().fold(0.0, |count, _| count + 1.0f64).max(1.0);
        let width = ((frame.x(1.0) - frame.x(0.0)) * 0.7 / many).min(56.0);
        let mut x = centre - width * many / 2.0;
        for (colour, height) in &group.bars {
            let y = frame.y(*height);
            let _ = write!(
                frame.svg,
                r#"<rect class="bar c{}" x="{x:.1}" y="{y:.1}" width="{:.1}" height="{:.1}" rx="2"/><text class="value" text-anchor="middle" x="{:.1}" y="{:.1}">{}</text>"#,
                colour % COLOURS,
                width - 3.0,
                HEIGHT - BOTTOM - y,
                x + (width - 3.0) / 2.0,
                y - 4.0,
                short(*height)
            );
            x += width;
        }
        left += 1.0;
    }
    format!("<figure>{}</figure>", frame.finish())
}

fn legend(series: &[Series]) -> String {
    let mut out = String::from("<figcaption>");
    for one in series {
        let dashed = if one.dashed { " dashed" } else { "" };
        let _ = write!(
            out,
            r#"<span class="key"><i class="swatch c{}{dashed}"></i>{}</span>"#,
            one.colour % COLOURS,
            super::page::escape(&one.name)
        );
    }
    out.push_str("</figcaption>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_numbers_short() {
        assert!((step(100.0, 5.0) - 20.0).abs() < 1e-9);
        assert!((step(0.7, 5.0) - 0.2).abs() < 1e-9);
        assert!((step(0.0, 5.0) - 1.0).abs() < 1e-9);
        let shown = [0.0, 0.25, 12.5, 1_234.0, 12_345.0, 2e6].map(short);
        assert_eq!(shown, ["0", "0.25", "12.5", "1234", "12.35k", "2M"]);
    }

    #[test]
    fn every_point_lies_inside_the_picture() {
        let points = vec![(0.0, 0.0), (10.0, 37.0), (20.0, 12.0)];
        let svg = lines("x", &[Series { name: "a<b".into(), colour: 7, dashed: false, points }]);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        for pair in path.split(['M', 'L']).filter(|pair| !pair.is_empty()) {
            let (x, y) = pair.split_once(' ').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{pair}");
        }
    }
}
