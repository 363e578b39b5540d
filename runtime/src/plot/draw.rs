//! Draws marks between axes. Pure.

use std::fmt;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::plot::axes::Axis;
use crate::plot::palette::{Colour, with_variables};

/// Size that a chart is drawn at, more than twice what is shown: places are whole pixels, and a curve must not have stairs.
const SIZE: (u32, u32) = (1440, 800);
/// Pixels that are drawn for one that a picture asks for which stands alone.
const DRAWN_PER_SHOWN: u32 = 2;
const FONT: i32 = 43;
const MARGIN: i32 = 24;
/// Room at the top for the name of the upright axis.
const HEAD: i32 = 76;
const LABELS_BELOW: i32 = 116;
const LABELS_LEFT: i32 = 160;
/// Half of a label may stand beyond the right end of its axis.
const MARGIN_RIGHT: i32 = 64;
/// Height of the title of a picture that stands alone.
const TITLE: i32 = 72;
/// Width of its legend.
const LEGEND: u32 = 800;
/// Height of a line of the legend.
const ROW: i32 = 44;
const LEGEND_FONT: i32 = 30;
/// Length of the stroke before each line of the legend.
const DASH: i32 = 40;
const DOT: u32 = 9;
/// Radius of a ring around something.
const AROUND: u32 = 20;

/// Width of a line.
pub const STROKE: u32 = 4;
/// Width of a line of reference.
pub const HAIR: u32 = 2;
/// The share that is seen of what does not count, like a warm-up.
pub const FAINT: f64 = 0.45;

/// Where is drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the plot: {0}")]
pub struct PlotError(String);

fn failed(error: impl fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Something that is drawn, in the units of the axes.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points.
    Line(Vec<(f64, f64)>, Pen),
    /// A face that points enclose.
    Area(Vec<(f64, f64)>, Pen),
    /// A full dot.
    Dot((f64, f64), Pen),
    /// A dot of which only the rim is drawn.
    Ring((f64, f64), Pen),
    /// A wider ring around something else.
    Around((f64, f64), Pen),
}

/// The colour and width of a mark.
#[derive(Debug, Clone, Copy)]
pub struct Pen {
    colour: Colour,
    seen: f64,
    width: u32,
}

/// A pen that hides what is below it, of the usual width.
#[must_use]
pub fn pen(colour: Colour) -> Pen {
    Pen {
        colour,
        seen: 1.0,
        width: STROKE,
    }
}

impl Pen {
    /// The same, of which only a part is seen: 0 to 1.
    #[must_use]
    pub fn seen(self, seen: f64) -> Self {
        Self { seen, ..self }
    }

    /// The same of another width.
    #[must_use]
    pub fn width(self, width: u32) -> Self {
        Self { width, ..self }
    }

    fn style(self) -> ShapeStyle {
        rgb(self.colour).mix(self.seen).stroke_width(self.width)
    }
}

fn rgb(colour: Colour) -> RGBColor {
    let (red, green, blue) = colour.rgb();
    RGBColor(red, green, blue)
}

/// Marks between axes.
#[derive(Debug)]
pub struct Picture {
    /// The level axis.
    pub x: Axis,
    /// The upright axis.
    pub y: Axis,
    /// The marks, one above another.
    pub marks: Vec<Mark>,
}

impl Picture {
    /// An `<svg>` element as wide as its place, with the colours of the page that it stands in.
    ///
    /// # Errors
    ///
    /// [`PlotError`] with the plotting crate's reason.
    pub fn for_page(&self) -> Result<String, PlotError> {
        let svg = drawn(SIZE, |area| self.chart(area))?;
        Ok(with_variables(&sized(&svg, SIZE, "width=\"100%\"")))
    }

    /// The text of an SVG file with a title, a ground that is light on any page, and a line of legend for each key.
    ///
    /// # Errors
    ///
    /// [`PlotError`] with the plotting crate's reason.
    pub fn alone(&self, title: &str, keys: &[(Mark, String)]) -> Result<String, PlotError> {
        let rows = i32::try_from(keys.len()).unwrap_or(i32::MAX);
        let legend_height = ROW.saturating_mul(rows.saturating_add(1));
        let chart_height = SIZE.1.max(legend_height.unsigned_abs());
        let size = (SIZE.0 + LEGEND, chart_height + TITLE.unsigned_abs());
        let svg = drawn(size, |area| {
            area.fill(&rgb(Colour::Ground)).map_err(failed)?;
            let (head, below) = area.split_vertically(TITLE);
            text(&head, (MARGIN, MARGIN), title, FONT)?;
            let (left, right) = below.split_horizontally(SIZE.0);
            self.chart(&left)?;
            legend(&right, keys)
        })?;
        let width = size.0 / DRAWN_PER_SHOWN;
        let attributes = format!("xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\"");
        Ok(sized(&svg, size, &attributes))
    }

    fn chart(&self, area: &Area<'_>) -> Result<(), PlotError> {
        text(area, (MARGIN, MARGIN / 2), &self.y.name, FONT)?;
        let font = font(FONT).pos(Pos::new(HPos::Left, VPos::Top));
        let mut chart = ChartBuilder::on(area)
            .margin(MARGIN)
            .margin_top(HEAD)
            .margin_right(MARGIN_RIGHT)
            .x_label_area_size(LABELS_BELOW)
            .y_label_area_size(LABELS_LEFT)
            .build_cartesian_2d(Places(&self.x), Places(&self.y))
            .map_err(failed)?;
        let grid = rgb(Colour::Grid);
        chart
            .configure_mesh()
            .x_desc(self.x.name.clone())
            .axis_style(grid.stroke_width(HAIR))
            .bold_line_style(grid.mix(0.6).stroke_width(HAIR))
            .light_line_style(grid.mix(0.0))
            .label_style(font.clone())
            .axis_desc_style(font)
            .draw()
            .map_err(failed)?;
        let place =
            |(at, height): &(f64, f64)| (self.x.scale.place(*at), self.y.scale.place(*height));
        let places = |points: &[(f64, f64)]| points.iter().map(place).collect::<Vec<_>>();
        for mark in &self.marks {
            let series = match mark {
                Mark::Line(points, pen) => {
                    chart.draw_series([PathElement::new(places(points), pen.style())])
                }
                Mark::Area(points, pen) => {
                    chart.draw_series([Polygon::new(places(points), pen.style().filled())])
                }
                Mark::Dot(point, pen) => {
                    chart.draw_series([Circle::new(place(point), DOT, pen.style().filled())])
                }
                Mark::Ring(point, pen) => {
                    chart.draw_series([Circle::new(place(point), DOT, pen.style())])
                }
                Mark::Around(point, pen) => {
                    chart.draw_series([Circle::new(place(point), AROUND, pen.style())])
                }
            };
            series.map_err(failed)?;
        }
        Ok(())
    }
}

/// Beside the chart, so that it hides no point. Of a mark only its kind and its pen count.
fn legend(area: &Area<'_>, keys: &[(Mark, String)]) -> Result<(), PlotError> {
    let mut y = HEAD;
    for (mark, words) in keys {
        let middle = y + LEGEND_FONT / 2;
        let pen = match mark {
            Mark::Line(_, pen) | Mark::Area(_, pen) => {
                let dash = [(0, middle), (DASH, middle)];
                area.draw(&PathElement::new(dash, pen.style()))
                    .map_err(failed)?;
                None
            }
            Mark::Dot(_, pen) => Some(pen.style().filled()),
            Mark::Ring(_, pen) | Mark::Around(_, pen) => Some(pen.style()),
        };
        if let Some(style) = pen {
            area.draw(&Circle::new((DASH / 2, middle), DOT, style))
                .map_err(failed)?;
        }
        text(area, (DASH + MARGIN, y), words, LEGEND_FONT)?;
        y += ROW;
    }
    Ok(())
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size)
        .into_font()
        .color(&rgb(Colour::Ink).mix(0.75))
}

fn text(area: &Area<'_>, place: (i32, i32), words: &str, size: i32) -> Result<(), PlotError> {
    let style = font(size).pos(Pos::new(HPos::Left, VPos::Top));
    area.draw(&Text::new(words.to_owned(), place, style))
        .map_err(failed)
}

/// The SVG of what is drawn on an area of this size.
fn drawn(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    draw(&area)?;
    area.present().map_err(failed)?;
    drop(area);
    Ok(svg)
}

/// The same SVG with other attributes, and a size that whoever shows it may change.
fn sized(svg: &str, (width, height): (u32, u32), attributes: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    format!("<svg viewBox=\"0 0 {width} {height}\" {attributes}>{body}")
}

/// An axis as the plotting crate sees it: places only.
struct Places<'a>(&'a Axis);

impl Ranged for Places<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(place, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.0.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.ends.0..self.0.ends.1
    }
}

impl ValueFormatter<f64> for Places<'_> {
    fn format_ext(&self, place: &f64) -> String {
        let near = |(at, _): &&(f64, String)| (at - place).abs() < 1e-9;
        let found = self.0.ticks.iter().find(near);
        found.map_or_else(String::new, |(_, label)| label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(name: &str) -> Picture {
        let line = pen(Colour::Line(0));
        Picture {
            x: Axis::linear(name, (0.0, 2.0)),
            y: Axis::log("milliseconds", (0.1, 10.0)),
            marks: vec![
                Mark::Line(vec![(0.0, 1.0), (2.0, 5.0)], line),
                Mark::Area(vec![(0.0, 1.0), (2.0, 5.0), (2.0, 1.0)], line.seen(0.2)),
                Mark::Dot((1.0, 1.0), line),
                Mark::Ring((1.5, 1.0), pen(Colour::Line(1))),
                Mark::Around((1.0, 1.0), pen(Colour::Ink)),
            ],
        }
    }

    #[test]
    fn in_a_page_every_colour_is_the_pages_and_no_host_is_named() {
        let svg = picture("seconds").for_page().unwrap();
        assert!(svg.starts_with("<svg viewBox=\"0 0 1440 800\" width=\"100%\">"));
        assert!(svg.trim_end().ends_with("</svg>"));
        for name in ["ink", "grid", "base", "other"] {
            assert!(svg.contains(&format!("\"var(--{name})\"")), "{name}: {svg}");
        }
        assert!(!svg.contains("\"#") && !svg.contains("http"), "{svg}");
    }

    #[test]
    fn alone_it_has_its_ground_its_title_and_a_legend() {
        let keys = [(
            Mark::Line(Vec::new(), pen(Colour::Line(0))),
            "2 lanes".to_owned(),
        )];
        let svg = picture("seconds").alone("digits", &keys).unwrap();
        for part in ["xmlns=", "\"#F7F7F4\"", "digits", "2 lanes", "milliseconds"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("var(--"));
    }

    #[test]
    fn a_long_legend_makes_a_higher_picture() {
        let key = || (Mark::Dot((0.0, 0.0), pen(Colour::Ink)), "one".to_owned());
        let keys: Vec<_> = std::iter::repeat_with(key).take(40).collect();
        let svg = picture("seconds").alone("digits", &keys).unwrap();
        assert!(svg.contains(&format!("viewBox=\"0 0 2240 {}\"", 41 * ROW + TITLE)));
    }

    #[test]
    fn names_are_text_wherever_they_stand() {
        let name = "</svg><script>\"&";
        let escaped = "&lt;/svg&gt;&lt;script&gt;";
        let alone = picture(name)
            .alone(
                name,
                &[(Mark::Dot((0.0, 0.0), pen(Colour::Ink)), name.to_owned())],
            )
            .unwrap();
        assert!(!alone.contains("<script"), "{alone}");
        assert_eq!(alone.matches(escaped).count(), 3, "{alone}");
        assert!(!picture(name).for_page().unwrap().contains("<script"));
    }
}
