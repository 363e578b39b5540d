//! The page. Every text is escaped in the template: names, reasons and the words of gates come from users.

use askama::Template;

use crate::admin::RolloutRecord;
use crate::bench::Plot;
use crate::canary::{Entry, Phase, Verdict};
use crate::control::RolloutView;
use crate::plot::PlotError;
use crate::rollout_report::plots::plots;

/// The page of a rollout.
///
/// # Errors
///
/// [`PlotError`] with the plotting crate's reason.
pub fn html(record: &RolloutRecord) -> Result<String, PlotError> {
    let json = serde_json::to_string(record).expect("plain data, with text for keys");
    let page = Page {
        view: &record.replay.rollout,
        entries: &record.replay.entries,
        is_equal: record.replay.is_equal,
        standing: record.replay.rollout.standing(),
        plots: plots(record)?,
        // In JSON this letter stands only within text, where its number means the same; nothing can end the element.
        json: json.replace('<', "\\u003c"),
    };
    Ok(page.render().expect("text takes any text") + "\n")
}

/// The values that the template is filled with.
#[derive(Template)]
#[template(path = "rollout.html")]
struct Page<'a> {
    view: &'a RolloutView,
    entries: &'a [Entry],
    is_equal: bool,
    standing: String,
    plots: Vec<Plot>,
    /// The record as programs read it; safe within its element.
    json: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "a template hands over references"
)]
impl Page<'_> {
    fn tone(&self) -> &'static str {
        match self.view.phase {
            Phase::Promoted if self.view.is_flagged => "warn",
            Phase::Promoted => "good",
            Phase::RolledBack { .. } | Phase::GoingBack { .. } => "bad",
            Phase::Aborted { .. } | Phase::Paused { .. } => "warn",
            Phase::Running => "",
        }
    }

    fn word(&self, verdict: &Verdict) -> (&'static str, &'static str) {
        match verdict {
            Verdict::Harm => ("HARM", "bad"),
            Verdict::Safe => ("SAFE", "good"),
            Verdict::Undecided => ("UNDECIDED", "warn"),
        }
    }

    fn time(&self, at_ms: &i64) -> String {
        jiff::Timestamp::from_millisecond(*at_ms)
            .map_or_else(|_| at_ms.to_string(), |at| format!("{at:.0}"))
    }

    fn part(&self, log_e: &f64, threshold: &f64) -> String {
        format!("{log_e:.2} of {threshold:.2}")
    }

    fn pace(&self) -> String {
        let view = self.view;
        format!(
            "{} requests, {:.1} a second, {} pairs; at most {} % false alarms in all",
            view.requests,
            view.requests_per_s,
            view.pairs,
            view.alpha * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::{
        Arm, Ending, Input, Observation, Rollout, RolloutPlan, Routing, WorstPair,
    };
    use crate::control::Replay;

    /// A rollout to the usual plan, carried out at once, after so many requests of which the canary fails all or none.
    fn record(requests: u64, fails: bool) -> RolloutRecord {
        let (endpoint, from, to) = ("iris", "blue", "green");
        let mut plan = RolloutPlan::usual(
            endpoint.parse().unwrap(),
            from.parse().unwrap(),
            to.parse().unwrap(),
        );
        plan.steps.drain(..3);
        let mut rollout = Rollout::new(plan).unwrap();
        let by = "<b>ann</b>".to_owned();
        let mut inputs = vec![Input::Began { by, usual: None }];
        let mut entries = Vec::new();
        for at in 0..=requests {
            let at_ms = 1_700_000_000_000 + i64::try_from(at).unwrap();
            while let Some(input) = inputs.pop() {
                let took = rollout.take(&input, at_ms);
                entries.extend(took.entries);
                let done = took.wishes.last().map(|(wish, _)| Input::Done {
                    wish: *wish,
                    failure: None,
                });
                inputs.extend(done);
            }
            if at < requests {
                inputs.push(Input::Observed {
                    requests: vec![observation(at, fails)],
                });
            }
        }
        let rollout = RolloutView::of(1, &rollout);
        Replay {
            rollout,
            replayed: entries.len(),
            entries,
            is_equal: true,
        }
        .into()
    }

    fn observation(at: u64, fails: bool) -> Observation {
        let is_canary = at % 10 == 3;
        Observation {
            arm: if is_canary { Arm::Canary } else { Arm::Stable },
            routing: Routing::Random { weight: 0.1 },
            ending: match is_canary && fails {
                true => Ending::Failed,
                false => Ending::Answered,
            },
            at_us: at * 1000,
            queue_us: 0,
            run_us: 900,
            total_us: 1000 + at % 50,
            cold: false,
        }
    }

    #[test]
    fn the_page_has_the_ramp_the_evidence_and_the_verdict_in_a_sentence() {
        let page = html(&record(500, true)).unwrap();
        for part in [
            "green was rolled back: errors: HARM <small>(canary 3 of 3",
            "<h3>The ramp</h3>",
            "<h3>Evidence of harm</h3>",
            "<h3>Evidence of safety</h3>",
            "<h3>Latency</h3>",
            "p99-total</td>",
            "the canary&#39;s share went from 0 to 10 %",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        for element in ["svg", "section", "figure", "table", "main"] {
            let opened = page.matches(&format!("<{element}")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count());
            assert!(opened > 0, "{element}");
        }
    }

    #[test]
    fn the_page_names_no_other_host_and_its_only_script_is_data() {
        for record in [record(0, false), record(700, false), record(700, true)] {
            let page = html(&record).unwrap();
            for outside in [
                "http", "src=", "href=", "url(", "@import", "<link", "<iframe", "<object", "<img",
            ] {
                assert!(!page.contains(outside), "{outside}");
            }
            assert_eq!(page.matches("<script").count(), 1);
            let (_, rest) = page.split_once("id=\"report\">").unwrap();
            let (json, _) = rest.split_once("</script>").unwrap();
            let read: RolloutRecord = serde_json::from_str(json).unwrap();
            assert_eq!(read.course, record.course);
            assert_eq!(read.replay.entries, record.replay.entries);
        }
    }

    #[test]
    fn the_answers_that_differ_most_are_there_with_their_requests_and_none_where_none_differ() {
        let mut record = record(50, false);
        assert!(!html(&record).unwrap().contains("differ most"));
        record.replay.rollout.worst_pairs = vec![WorstPair {
            request: "{\"data\": [[1]]}".to_owned(),
            path: "/label/0".to_owned(),
            stable: "3".to_owned(),
            canary: "8".to_owned(),
            difference: Some(5.0),
        }];
        let page = html(&record).unwrap();
        let row = "<code>/label/0</code></td><td>3</td><td>8</td><td class=\"n\">5</td>";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("[[1]]}</code>"), "{page}");
    }

    #[test]
    fn text_of_users_stays_text() {
        let mut record = record(50, false);
        let evil = "</script><script>alert('1')</script>\"&";
        record.replay.rollout.phase = Phase::Paused {
            why: evil.to_owned(),
            hands_off: false,
        };
        record.replay.rollout.notes = vec![evil.to_owned()];
        record.replay.rollout.worst_pairs = vec![WorstPair {
            request: evil.to_owned(),
            path: evil.to_owned(),
            stable: evil.to_owned(),
            canary: evil.to_owned(),
            difference: None,
        }];
        let page = html(&record).unwrap();
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("<b>ann</b>") && page.contains("&#60;b&#62;ann"));
    }

    #[test]
    fn a_rollout_that_has_seen_nothing_has_a_page_without_pictures() {
        let page = html(&record(0, false)).unwrap();
        assert!(
            page.contains("green has 10 %") && !page.contains("<svg"),
            "{page}"
        );
    }

    #[test]
    fn a_record_of_other_numbers_than_points_is_drawn_too() {
        let mut odd = record(300, false);
        odd.course = record(300, true).course;
        odd.replay.rollout.findings.truncate(2);
        odd.latency.truncate(1);
        html(&odd).unwrap();
        odd.replay.rollout.findings.clear();
        odd.latency.clear();
        html(&odd).unwrap();
    }
}
