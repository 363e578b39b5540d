//! Pictures as SVG: marks in the units of the data between two axes. Pure; the only place that names `plotters`.
//!
//! A picture is drawn for a page that has its own title, legend and colours ([`Picture::for_page`]), or as a file of its own
//! ([`Picture::alone`]). Text is escaped, whatever it holds.
//!
//! Threads: called from any.
//! Not here: which pictures there are and what they show (`bench`, `tune`).

mod axes;
mod draw;
mod palette;

pub use axes::{Axis, ROOM, ends, log_ends, share_words};
pub use draw::{FAINT, HAIR, Mark, Pen, Picture, PlotError, STROKE, pen};
pub use palette::Colour;
