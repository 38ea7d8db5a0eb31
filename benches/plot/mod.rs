//! Plots as SVG: lines over a linear or a logarithmic axis, costs on a logarithmic one.

use std::fmt::Write;

pub(crate) const BLUE: &str = "#2166ac";
pub(crate) const ORANGE: &str = "#c4500c";

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Of the area with the lines, within the picture.
const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 110.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 60.0;
/// Between the names beside the lines, at least.
const NAMES_APART: f64 = 15.0;

/// The horizontal axis.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    /// In a table of figures.
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) is_log: bool,
}

pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    /// Drawn dashed, without its points.
    pub(crate) is_floor: bool,
    pub(crate) points: Vec<(usize, f64)>,
}

pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: Axis,
    pub(crate) y_label: &'a str,
    pub(crate) lines: Vec<Line>,
}

/// Maps values to a stretch of the picture.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let along = |value: f64| if self.is_log { value.ln() } else { value };
        let (low, high) = (along(self.low), along(self.high));
        let part = (along(value) - low) / (high - low).max(f64::MIN_POSITIVE);
        self.from + part * (self.to - self.from)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn float(x: usize) -> f64 {
    x as f64
}

impl Plot<'_> {
    pub(crate) fn svg(&self) -> String {
        let mut out = String::new();
        // Writing to a string never fails.
        let _ = self.draw(&mut out);
        out
    }

    fn draw(&self, out: &mut String) -> std::fmt::Result {
        let places: Vec<usize> = self.lines.first().map_or_else(Vec::new, |line| {
            line.points.iter().map(|(x, _)| *x).collect()
        });
        let costs = || self.lines.iter().flat_map(|line| &line.points).map(|p| p.1);
        let (low, high) = (
            costs().fold(f64::MAX, f64::min),
            costs().fold(0.0, f64::max),
        );
        // A decade at least, so that noise looks like noise.
        let wider = (10.0 / (high / low)).max(1.0).sqrt();
        let x = Scale {
            low: places.first().copied().map_or(0.0, float),
            high: places.last().copied().map_or(1.0, float),
            from: LEFT + 14.0,
            to: RIGHT - 14.0,
            is_log: self.x.is_log,
        };
        let y = Scale {
            low: low / wider / 1.2,
            high: high * wider * 1.2,
            from: BOTTOM,
            to: TOP,
            is_log: true,
        };
        writeln!(
            out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#333">"##
        )?;
        writeln!(out, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
        writeln!(
            out,
            r#"<text x="{LEFT}" y="24" font-size="14" font-weight="600">{}</text>"#,
            self.title
        )?;
        for value in round_values(y.low, y.high) {
            let at = y.at(value);
            writeln!(
                out,
                r##"<line x1="{LEFT}" x2="{RIGHT}" y1="{at:.1}" y2="{at:.1}" stroke="#e4e4e4"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
                LEFT - 8.0,
                at + 4.0,
                grouped(value)
            )?;
        }
        for &place in &places {
            let at = x.at(float(place));
            writeln!(
                out,
                r##"<line x1="{at:.1}" x2="{at:.1}" y1="{BOTTOM}" y2="{:.1}" stroke="#777"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                BOTTOM + 5.0,
                BOTTOM + 20.0,
                short(place)
            )?;
        }
        writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}" stroke="#777"/>"##
        )?;
        writeln!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            f64::midpoint(LEFT, RIGHT),
            HEIGHT - 16.0,
            self.x.label
        )?;
        let middle = f64::midpoint(TOP, BOTTOM);
        writeln!(
            out,
            r#"<text x="18" y="{middle:.1}" text-anchor="middle" transform="rotate(-90 18 {middle:.1})">{}</text>"#,
            self.y_label
        )?;
        for line in &self.lines {
            let mut path = String::new();
            for (n, (place, cost)) in line.points.iter().enumerate() {
                let step = if n == 0 { 'M' } else { 'L' };
                write!(path, "{step}{:.1} {:.1}", x.at(float(*place)), y.at(*cost))?;
            }
            let dashes = if line.is_floor {
                r#" stroke-dasharray="5 4" stroke-opacity="0.7""#
            } else {
                ""
            };
            writeln!(
                out,
                r#"<path d="{path}" fill="none" stroke="{}" stroke-width="2"{dashes}/>"#,
                line.colour
            )?;
            if line.is_floor {
                continue;
            }
            for (place, cost) in &line.points {
                writeln!(
                    out,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="3.5" fill="{}"><title>{}: {} ns</title></circle>"#,
                    x.at(float(*place)),
                    y.at(*cost),
                    line.colour,
                    short(*place),
                    grouped(*cost)
                )?;
            }
        }
        for (name, colour, at) in self.names(&y) {
            writeln!(
                out,
                r#"<text x="{:.1}" y="{:.1}" fill="{colour}">{name}</text>"#,
                RIGHT + 4.0,
                at + 4.0
            )?;
        }
        writeln!(out, "</svg>")
    }

    /// The lines' names, beside where they end, with room between them.
    fn names(&self, y: &Scale) -> Vec<(&'static str, &'static str, f64)> {
        let mut names: Vec<_> = self
            .lines
            .iter()
            .filter_map(|line| Some((line.name, line.colour, y.at(line.points.last()?.1))))
            .collect();
        names.sort_by(|a, b| a.2.total_cmp(&b.2));
        for n in 1..names.len() {
            names[n].2 = names[n].2.max(names[n - 1].2 + NAMES_APART);
        }
        // Pushed out below, they move up again.
        let mut most = BOTTOM - 2.0;
        for name in names.iter_mut().rev() {
            name.2 = name.2.min(most);
            most = name.2 - NAMES_APART;
        }
        names
    }
}

/// 1, 2 and 5 times the powers of ten between two values; only the powers, if there are many.
fn round_values(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high / low > 2_000.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let mut values = Vec::new();
    let mut power = 1.0;
    while power <= high {
        let within = steps.iter().map(|step| step * power);
        values.extend(within.filter(|value| (low..=high).contains(value)));
        power *= 10.0;
    }
    values
}

/// With a comma before each three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// In thousands or in powers of 1024, if the number is a multiple of one of them.
fn short(value: usize) -> String {
    for (unit, name) in [
        (1 << 20, " Mi"),
        (1_000_000, " M"),
        (1 << 10, " Ki"),
        (1_000, " k"),
    ] {
        if value >= unit && value.is_multiple_of(unit) {
            return format!("{}{name}", value / unit);
        }
    }
    value.to_string()
}
