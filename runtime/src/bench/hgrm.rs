//! Latencies in the percentile format of HdrHistogram, which its plotter and others read. Pure.

use std::time::Duration;

use crate::load::{Percentile, Summary};

/// Rows for each halving of the distance to 100 %, as HdrHistogram has it by default.
const STEPS_PER_HALVING: u32 = 5;

/// What HdrHistogram's `outputPercentileDistribution` writes, in milliseconds, to the nanosecond.
#[must_use]
pub fn hgrm(summary: &Summary) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in summary.percentiles(STEPS_PER_HALVING) {
        text.push_str(&row(&step));
    }
    text.push_str(&footer(summary));
    text
}

fn row(step: &Percentile) -> String {
    // The last row stands at infinity, which the format leaves out.
    let place = if step.quantile < 1.0 {
        format!(" {:14.2}", 1.0 / (1.0 - step.quantile))
    } else {
        String::new()
    };
    format!(
        "{:12.6} {:2.12} {:10}{place}\n",
        milliseconds(step.latency),
        step.quantile,
        step.count
    )
}

fn footer(summary: &Summary) -> String {
    let (buckets, steps) = summary.buckets();
    format!(
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n\
         #[Max     = {:12.6}, Total count    = {:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {steps:12}]\n",
        milliseconds(summary.mean()),
        milliseconds(summary.deviation()),
        milliseconds(summary.max()),
        summary.count(),
    )
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_histogram_is_written_as_hdrhistogram_writes_it() {
        let mut summary = Summary::new();
        for us in [1, 1, 2] {
            summary.record_latency(Duration::from_micros(us), true);
        }
        assert_eq!(
            hgrm(&summary),
            "       Value     Percentile TotalCount 1/(1-Percentile)

    0.001000 0.000000000000          2           1.00
    0.001000 0.100000000000          2           1.11
    0.001000 0.200000000000          2           1.25
    0.001000 0.300000000000          2           1.43
    0.001000 0.400000000000          2           1.67
    0.001000 0.500000000000          2           2.00
    0.001000 0.550000000000          2           2.22
    0.001000 0.600000000000          2           2.50
    0.001000 0.650000000000          2           2.86
    0.002000 0.700000000000          3           3.33
    0.002000 1.000000000000          3
#[Mean    =     0.001333, StdDeviation   =     0.000471]
#[Max     =     0.002000, Total count    =            3]
#[Buckets =           32, SubBuckets     =         2048]
"
        );
    }

    #[test]
    fn nothing_has_no_rows() {
        let text = hgrm(&Summary::new());
        let rows = text
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(rows.count(), 0, "{text}");
    }

    #[test]
    fn every_row_but_the_last_has_four_columns() {
        let mut summary = Summary::new();
        for us in 1..=10_000 {
            summary.record_latency(Duration::from_micros(us), true);
        }
        let text = hgrm(&summary);
        let columns: Vec<usize> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().count())
            .collect();
        let (last, others) = columns.split_last().unwrap();
        assert_eq!(*last, 3);
        assert!(others.iter().all(|columns| *columns == 4), "{text}");
    }
}
