//! The load generator: arrival schedule, driver, histograms.
