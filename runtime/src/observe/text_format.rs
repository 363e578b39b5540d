//! The text format of Prometheus (0.0.4), made of that of OpenMetrics, which is what the registry writes.
//!
//! The two differ in what stands above the samples: there a family has the name of its samples, a counter that with `_total` and facts
//! that with `_info`, which are a gauge; units and the mark of the end are not there. Pure.

/// The same series in the text format.
pub(super) fn text_format(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        match line.split_once(' ').filter(|(mark, _)| *mark == "#") {
            None => push(&mut text, &[line]),
            // Its end depends on the type, which comes next.
            Some((_, about)) if about.starts_with("HELP ") => help = Some(about),
            Some((_, about)) => {
                if let Some((family, kind)) = about
                    .strip_prefix("TYPE ")
                    .and_then(|about| about.split_once(' '))
                {
                    describe(&mut text, (family, kind), help.take());
                }
            }
        }
    }
    text
}

/// Writes the two lines above the samples of a family.
fn describe(text: &mut String, (family, kind): (&str, &str), help: Option<&str>) {
    let (suffix, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    };
    let words = help.and_then(|help| help.strip_prefix("HELP ")?.split_once(' '));
    if let Some((_, words)) = words {
        push(text, &["# HELP ", family, suffix, " ", words]);
    }
    push(text, &["# TYPE ", family, suffix, " ", kind]);
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_above_the_samples_are_those_of_the_samples() {
        let openmetrics = "\
# HELP a_requests Requests, by end.
# TYPE a_requests counter
a_requests_total{end=\"a # b\"} 3
# HELP a_build The version.
# TYPE a_build info
a_build_info{version=\"1\"} 1
# HELP a_time_seconds Time.
# TYPE a_time_seconds histogram
# UNIT a_time_seconds seconds
a_time_seconds_sum 0.5
a_time_seconds_count 1
a_time_seconds_bucket{le=\"+Inf\"} 1
# EOF
";
        let expected = "\
# HELP a_requests_total Requests, by end.
# TYPE a_requests_total counter
a_requests_total{end=\"a # b\"} 3
# HELP a_build_info The version.
# TYPE a_build_info gauge
a_build_info{version=\"1\"} 1
# HELP a_time_seconds Time.
# TYPE a_time_seconds histogram
a_time_seconds_sum 0.5
a_time_seconds_count 1
a_time_seconds_bucket{le=\"+Inf\"} 1
";
        assert_eq!(text_format(openmetrics), expected);
    }
}
