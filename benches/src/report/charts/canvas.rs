//! Horizontal bars as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend,
    Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, ShapeStyle, TextStyle};

/// Blue that is told from grey without colours too.
const OURS: RGBColor = RGBColor(0, 92, 175);
const RIVALS: RGBColor = RGBColor(160, 160, 160);
const LIMIT: RGBColor = RGBColor(236, 236, 236);
const LINES: RGBColor = RGBColor(215, 215, 215);
const DARK: RGBColor = RGBColor(60, 60, 60);

const WIDTH: i32 = 960;
/// Where bars begin: names are to the left of it.
const LEFT: i32 = 160;
/// What is left free for the figures at the ends of bars.
const RIGHT: i32 = 110;
const TOP: i32 = 74;
/// One bar and the space to the next.
const STEP: i32 = 32;
const BAR: i32 = 20;
const AXIS: i32 = 46;
const CAPTION_LINE: i32 = 14;
/// Characters in a line of the caption, which is set small.
const CAPTION_CHARS: usize = 160;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A chart to draw.
#[derive(Debug)]
pub(super) struct Chart {
    /// First line.
    pub(super) title: String,
    /// Second line.
    pub(super) subtitle: String,
    /// What the axis shows.
    pub(super) unit: String,
    /// From top to bottom.
    pub(super) bars: Vec<Bar>,
    /// Small text below.
    pub(super) caption: Vec<String>,
}

/// One bar.
#[derive(Debug)]
pub(super) struct Bar {
    /// To the left of it.
    pub(super) name: String,
    /// How it looks.
    pub(super) kind: Kind,
    /// How long it is.
    pub(super) median: f64,
    /// Smallest and largest.
    pub(super) range: (f64, f64),
}

/// Whose bar it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the accent colour.
    Ours,
    /// Grey.
    Rival,
    /// Hatched: nobody can be better.
    Limit,
}

impl Chart {
    /// The file.
    ///
    /// # Errors
    /// The drawing library fails.
    pub(super) fn svg(&self) -> Result<String> {
        let caption: Vec<String> =
            self.caption.iter().flat_map(|line| wrapped(line, CAPTION_CHARS)).collect();
        let bottom = TOP + STEP * length(&self.bars);
        let height = bottom + AXIS + CAPTION_LINE * length(&caption) + 12;
        let mut svg = String::new();
        {
            let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
            let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            self.draw(&canvas, bottom, &caption).map_err(|error| anyhow!("{error}"))?;
        }
        Ok(svg)
    }

    fn draw(&self, canvas: &Canvas<'_>, bottom: i32, caption: &[String]) -> Drawn {
        canvas.fill(&WHITE)?;
        canvas.draw(&Text::new(self.title.clone(), (16, 14), bold(18)))?;
        canvas.draw(&Text::new(self.subtitle.clone(), (16, 42), font(12, DARK)))?;
        let longest = self.bars.iter().map(|bar| bar.range.1).fold(0.0, f64::max);
        let scale = Scale::for_up_to(longest);
        scale.draw(canvas, bottom, &self.unit)?;
        let mut top = TOP;
        for bar in &self.bars {
            bar.draw(canvas, &scale, top + (STEP - BAR) / 2)?;
            top += STEP;
        }
        let mut at = bottom + AXIS;
        for line in caption {
            canvas.draw(&Text::new(line.clone(), (16, at), font(10, DARK)))?;
            at += CAPTION_LINE;
        }
        canvas.present()
    }
}

type Drawn = Result<(), plotters::drawing::DrawingAreaErrorKind<std::io::Error>>;

impl Bar {
    fn draw(&self, canvas: &Canvas<'_>, scale: &Scale, top: i32) -> Drawn {
        let (end, bottom, middle) = (scale.x(self.median), top + BAR, top + BAR / 2);
        let fill = match self.kind {
            Kind::Ours => OURS,
            Kind::Rival => RIVALS,
            Kind::Limit => LIMIT,
        };
        canvas.draw(&Rectangle::new([(LEFT, top), (end, bottom)], fill.filled()))?;
        if self.kind == Kind::Limit {
            hatch(canvas, (LEFT, top), (end, bottom))?;
        }
        let name = font(13, BLACK).pos(Pos::new(HPos::Right, VPos::Center));
        canvas.draw(&Text::new(self.name.clone(), (LEFT - 10, middle), name))?;

        let (low, high) = (scale.x(self.range.0), scale.x(self.range.1));
        let whisker = BLACK.stroke_width(1);
        canvas.draw(&PathElement::new([(low, middle), (high, middle)], whisker))?;
        for x in [low, high] {
            canvas.draw(&PathElement::new([(x, middle - 5), (x, middle + 5)], whisker))?;
        }
        let value = font(13, BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        canvas.draw(&Text::new(figure(self.median), (end.max(high) + 8, middle), value))
    }
}

/// Strokes from the lower left to the upper right, cut off at the edges of the bar.
fn hatch(canvas: &Canvas<'_>, (left, top): (i32, i32), (right, bottom): (i32, i32)) -> Drawn {
    const DISTANCE: usize = 8;
    let stroke: ShapeStyle = RIVALS.stroke_width(1);
    let height = bottom - top;
    for start in ((left - height)..right).step_by(DISTANCE) {
        let (from, to) = (start.max(left), (start + height).min(right));
        let line = [(from, bottom - (from - start)), (to, bottom - (to - start))];
        canvas.draw(&PathElement::new(line, stroke))?;
    }
    canvas.draw(&Rectangle::new([(left, top), (right, bottom)], stroke))
}

/// Figures to pixels.
#[derive(Debug)]
struct Scale {
    step: f64,
    end: f64,
}

impl Scale {
    /// Round numbers, four to eight of them.
    fn for_up_to(longest: f64) -> Self {
        let longest = if longest > 0.0 { longest } else { 1.0 };
        let power = 10_f64.powf((longest / 4.0).log10().floor());
        let steps = [5.0, 2.0, 1.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| longest / step >= 4.0).unwrap_or(power);
        Self { step, end: (longest / step).ceil() * step }
    }

    fn x(&self, value: f64) -> i32 {
        let share = (value / self.end).clamp(0.0, 1.0);
        #[allow(clippy::cast_possible_truncation, reason = "from 0 to the width of the chart")]
        let pixels = (share * f64::from(WIDTH - LEFT - RIGHT)).round() as i32;
        LEFT + pixels
    }

    fn draw(&self, canvas: &Canvas<'_>, bottom: i32, unit: &str) -> Drawn {
        let label = font(11, DARK).pos(Pos::new(HPos::Center, VPos::Top));
        let mut value = 0.0;
        while value <= self.end * 1.001 {
            let x = self.x(value);
            canvas.draw(&PathElement::new([(x, TOP), (x, bottom)], LINES.stroke_width(1)))?;
            canvas.draw(&Text::new(figure(value), (x, bottom + 6), label.clone()))?;
            value += self.step;
        }
        let axis = (i32::midpoint(LEFT, WIDTH - RIGHT), bottom + 22);
        canvas.draw(&Text::new(unit.to_owned(), axis, label))
    }
}

/// As many digits as mean anything.
fn figure(value: f64) -> String {
    match value {
        value if value == 0.0 || value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A font of `size` pixels. The drawing library takes the height of a line, which is more.
fn font(size: i32, color: RGBColor) -> TextStyle<'static> {
    const LINE: f64 = 1.24;
    let font = ("sans-serif", f64::from(size) * LINE).into_font();
    TextStyle { color: color.to_backend_color(), ..font.into() }
}

fn bold(size: i32) -> TextStyle<'static> {
    let TextStyle { font, color, pos } = font(size, BLACK);
    TextStyle { font: font.style(FontStyle::Bold), color, pos }
}

/// Lines of at most `width` characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.len() - 1;
        let used = lines[line].chars().count();
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            let space = if used == 0 { "" } else { " " };
            lines[line] += &format!("{space}{word}");
        }
    }
    lines
}

fn length<T>(of: &[T]) -> i32 {
    i32::try_from(of.len()).unwrap_or(i32::MAX / STEP / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_long_enough() {
        for longest in [0.0, 0.3, 7.0, 99.0, 870.0, 1234.5] {
            let scale = Scale::for_up_to(longest);
            assert!(scale.end >= longest, "{longest} {scale:?}");
            let steps = scale.end / scale.step;
            assert!((1.0..=11.0).contains(&steps), "{longest} {scale:?}");
        }
        assert_eq!(Scale::for_up_to(870.0).x(0.0), LEFT);
        assert_eq!(Scale { step: 1.0, end: 2.0 }.x(2.0), WIDTH - RIGHT);
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn figures_have_as_many_digits_as_they_need() {
        assert_eq!([0.0, 0.5, 12.34, 870.4].map(figure), ["0", "0.50", "12.3", "870"]);
    }
}
