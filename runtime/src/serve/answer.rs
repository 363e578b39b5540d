//! What serin says in the head of an answer beside ids, whoever has answered.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::observe::Timings;
use crate::spec::DeploymentName;

/// The deployment that was asked for, or that has answered.
pub(super) const MODEL_DEPLOYMENT: HeaderName = HeaderName::from_static("azureml-model-deployment");
pub(super) const MODEL_ERROR_STATUS: HeaderName =
    HeaderName::from_static("ms-azureml-model-error-statuscode");
pub(super) const MODEL_ERROR_REASON: HeaderName =
    HeaderName::from_static("ms-azureml-model-error-reason");
pub(super) const MODEL_TIME: HeaderName = HeaderName::from_static("ms-azureml-model-time");
/// The same in serin's own name, in answers alone: what the split chose can be told from what a client asked for.
pub(super) const SERIN_DEPLOYMENT: HeaderName = HeaderName::from_static("x-serin-deployment");
/// Says why a 429 was given. Azure's has no body and no word of explanation, and users mistake it for a fault.
pub(super) const SHED: HeaderName = HeaderName::from_static("x-serin-shed");

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn write_deployment(headers: &mut HeaderMap, deployment: &DeploymentName) {
    let name =
        HeaderValue::from_str(deployment.as_str()).expect("a name is letters, digits and dashes");
    headers.insert(SERIN_DEPLOYMENT, name.clone());
    headers.insert(MODEL_DEPLOYMENT, name);
}

/// Milliseconds, with microseconds as fraction: most models that fit a canary on one machine take less than one.
pub(super) fn write_model_time(headers: &mut HeaderMap, timings: &Timings) {
    if let Some(run) = timings.run() {
        headers.insert(MODEL_TIME, millis(run));
    }
}

/// `2.017`. Written for every answer, hence without the machinery of formatting.
pub(super) fn millis(time: Duration) -> HeaderValue {
    const POINT_AT: usize = 20;
    let mut us = time.as_micros();
    let mut text = [b'0'; 24];
    text[POINT_AT] = b'.';
    let mut at = text.len();
    while us > 0 || at > POINT_AT - 1 {
        at -= 1;
        if at == POINT_AT {
            continue;
        }
        // A digit fits; no time fills the text, for 19 digits of milliseconds are more than any clock has.
        text[at] = b'0' + u8::try_from(us % 10).unwrap_or(0);
        us /= 10;
        if at == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).expect("digits and a point")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_time_is_in_milliseconds_with_three_digits() {
        assert_eq!(millis(Duration::ZERO), "0.000");
        assert_eq!(millis(Duration::from_nanos(2_999)), "0.002");
        assert_eq!(millis(Duration::from_micros(12_345)), "12.345");
        assert_eq!(millis(Duration::from_secs(180)), "180000.000");
        let longest = millis(Duration::MAX);
        assert_eq!(longest.len(), 24, "cut, not a panic");
    }
}
