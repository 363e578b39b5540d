//! A deployment as a program describes it, by values and not by a file: the same bounds hold, and all that is wrong is told at once.
//!
//! Two things are a program's alone: no timeout, or one longer than Azure's; and a queue without an end. Numbers come as wide as a
//! program may have them, so that none is cut to one that would pass.

use std::time::Duration;

use serin_scorers::NonFinite;

use super::names::shown;
use super::request::beyond;
use super::{
    DeploymentName, DeploymentSpec, Isolation, ModelRef, Queueing, RequestSettings, SkuTable,
    UnknownSku,
};
use crate::config::{
    BATCH_SIZE_MAX, CONCURRENCY_MAX, INSTANCE_COUNT_MAX, REQUEST_TIMEOUT_DEFAULT, VCPUS_MAX,
};

/// The settings of a deployment, as a program gives them.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramSettings {
    /// Copies of the model, each on its own cores.
    pub instance_count: usize,
    /// Cores of one instance, by the name of an instance type such as `Standard_F4s_v2`; beats `vcpus`.
    pub instance_type: Option<String>,
    /// Cores of one instance.
    pub vcpus: usize,
    /// Requests that one instance runs at once.
    pub max_concurrent_requests_per_instance: usize,
    /// The queue for its slots.
    pub queueing: Queueing,
    /// Score threads of one instance; without a number one for each request at once, up to its cores.
    pub lanes: Option<usize>,
    /// Most rows that one run takes together; without a number the model's measured profile decides.
    pub batch_size_max: Option<usize>,
    /// Longest that a lane waits for more requests.
    pub batch_delay: Duration,
    /// The threads of a lane spin while they wait.
    pub spin: bool,
    /// Where the lanes compute.
    pub isolation: Isolation,
    /// The form of NaN and infinities in answers.
    pub non_finite: NonFinite,
    /// Longest that a request may take, waiting included; without one it may take for ever.
    pub request_timeout: Option<Duration>,
}

impl Default for ProgramSettings {
    /// One instance on one core, one request at a time.
    fn default() -> Self {
        Self {
            instance_count: 1,
            instance_type: None,
            vcpus: 1,
            max_concurrent_requests_per_instance: 1,
            queueing: Queueing::default(),
            lanes: None,
            batch_size_max: None,
            batch_delay: Duration::ZERO,
            spin: false,
            isolation: Isolation::default(),
            non_finite: NonFinite::default(),
            request_timeout: Some(REQUEST_TIMEOUT_DEFAULT),
        }
    }
}

impl ProgramSettings {
    /// The numbers that are wider than any that a spec can have.
    fn too_wide(&self) -> impl Iterator<Item = String> {
        let judged = [
            (
                "instance_count",
                Some(self.instance_count),
                INSTANCE_COUNT_MAX,
            ),
            (
                "max_concurrent_requests_per_instance",
                Some(self.max_concurrent_requests_per_instance),
                CONCURRENCY_MAX,
            ),
            ("lanes", self.lanes, CONCURRENCY_MAX),
            ("max_batch_size", self.batch_size_max, BATCH_SIZE_MAX),
        ];
        judged.into_iter().filter_map(|(key, found, most)| {
            let found = found.filter(|found| u32::try_from(*found).is_err())?;
            beyond(key, wide(found), &(1..=most.into()))
        })
    }

    fn request_settings(&self) -> RequestSettings {
        let delay_us = self.batch_delay.as_nanos().div_ceil(1000);
        let mut settings = RequestSettings {
            max_concurrent_requests_per_instance: Some(number(
                self.max_concurrent_requests_per_instance,
            )),
            lanes: self.lanes.map(number),
            max_batch_size: self.batch_size_max.map(number),
            max_batch_delay_us: Some(u64::try_from(delay_us).unwrap_or(u64::MAX)),
            spin: Some(self.spin),
            isolation: Some(self.isolation),
            non_finite: Some(self.non_finite),
            ..RequestSettings::default()
        };
        settings.set_timeout(self.request_timeout);
        settings.set_queueing(self.queueing);
        settings
    }
}

impl DeploymentSpec {
    /// A deployment of a program; where `settings` name no instance type, one of so many vCPUs is added to the table.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, in sentences.
    pub fn of_program(
        name: DeploymentName,
        model: ModelRef,
        settings: &ProgramSettings,
        skus: &mut SkuTable,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let size = match &settings.instance_type {
            Some(written) => match skus.find(written) {
                Ok(sku) => Some((sku.name.clone(), sku.vcpus)),
                Err(unknown) => {
                    problems.push(no_such_type(&unknown));
                    None
                }
            },
            None => {
                let vcpus = number(settings.vcpus);
                let problem = beyond("vcpus", wide(settings.vcpus), &(1..=VCPUS_MAX.into()));
                let is_good = problem.is_none();
                problems.extend(problem);
                is_good.then(|| (skus.add_size(vcpus), vcpus))
            }
        };
        // Of a size that is none, nothing is said beyond that.
        let (instance_type, vcpus) = size.unwrap_or_else(|| (String::new(), u32::MAX));
        let mut spec = Self::new(name, model, &instance_type);
        problems.extend(settings.too_wide());
        spec.take_settings(number(settings.instance_count), settings.request_settings());
        problems.extend(spec.problems(vcpus).iter().map(|one| as_of_program(one)));
        match problems.is_empty() {
            true => Ok(spec),
            false => Err(problems),
        }
    }
}

/// The number as specs have it. One that is wider than theirs was told before, and is none that they would tell once more.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(1)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn no_such_type(unknown: &UnknownSku) -> String {
    let near = unknown.near.as_ref();
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let found = shown(&unknown.found);
    format!(
        "instance_type: expected an instance type of Azure ML such as `Standard_F4s_v2`, found {found}{near}"
    )
}

/// The problem without the name of the block that a file has around these keys.
fn as_of_program(problem: &str) -> String {
    problem
        .strip_prefix("request_settings.")
        .unwrap_or(problem)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{BATCH_DELAY_MAX, REQUEST_TIMEOUT_MAX, WAITING_MAX};

    fn spec(settings: &ProgramSettings) -> Result<DeploymentSpec, Vec<String>> {
        let (name, model) = ("blue".parse().unwrap(), ModelRef::Path("m.onnx".into()));
        DeploymentSpec::of_program(name, model, settings, &mut SkuTable::builtin())
    }

    #[test]
    fn the_defaults_of_a_program_are_those_of_a_file() {
        let by_program = spec(&ProgramSettings::default()).expect("good");
        let written = RequestSettings::default();
        let settings = by_program.request_settings();
        assert_eq!(by_program.instance_count(), 1);
        assert_eq!(settings.request_timeout(), written.request_timeout());
        assert_eq!(settings.max_batch_delay(), written.max_batch_delay());
        assert_eq!(
            settings.max_concurrent_requests_per_instance(),
            written.max_concurrent_requests_per_instance()
        );
        assert_eq!(settings.isolation(), written.isolation());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let settings = ProgramSettings {
            instance_count: 0,
            vcpus: 0,
            max_concurrent_requests_per_instance: usize::MAX,
            queueing: Queueing::Waiting(u32::MAX),
            lanes: Some(0),
            batch_size_max: Some(1025),
            batch_delay: Duration::MAX,
            request_timeout: Some(Duration::ZERO),
            ..ProgramSettings::default()
        };
        assert_eq!(
            spec(&settings).expect_err("refused"),
            [
                "vcpus: expected 1 to 4096, found 0",
                "max_concurrent_requests_per_instance: expected 1 to 1024, found 18446744073709551615",
                "instance_count: expected 1 to 50, found 0",
                "request_timeout_ms: expected at least 1, found 0",
                "lanes: expected 1 to 1024, found 0",
                "max_waiting_requests_per_instance: expected 0 to 65536, found 4294967294",
                "max_batch_size: expected 1 to 1024, found 1025",
                "max_batch_delay_us: expected 0 to 1000000, found 18446744073709551615",
            ]
        );
    }

    #[test]
    fn a_program_chooses_its_queue_and_has_one_without_an_end() {
        for queueing in [
            Queueing::PerSlot,
            Queueing::Waiting(0),
            Queueing::Waiting(65_536),
            Queueing::Unbounded,
        ] {
            let settings = ProgramSettings {
                queueing,
                ..ProgramSettings::default()
            };
            let spec = spec(&settings).expect("good");
            assert_eq!(spec.request_settings().queueing(), queueing);
        }
    }

    #[test]
    fn what_contradicts_itself_is_told_as_of_a_file() {
        let settings = ProgramSettings {
            lanes: Some(16),
            max_concurrent_requests_per_instance: 16,
            batch_delay: Duration::from_millis(7),
            request_timeout: Some(Duration::from_millis(7)),
            ..ProgramSettings::default()
        };
        let problems = spec(&settings).expect_err("refused");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("lanes: expected at most 1, the vCPUs"));
        assert!(problems[1].starts_with("max_batch_delay_us: expected less than"));
    }

    #[test]
    fn an_instance_type_that_is_none_is_told_with_all_else() {
        let settings = ProgramSettings {
            instance_type: Some("Standard_F2s_v3".to_owned()),
            vcpus: 0,
            instance_count: 51,
            ..ProgramSettings::default()
        };
        let problems = spec(&settings).expect_err("refused");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("did you mean"), "{problems:?}");
    }

    #[test]
    fn a_program_may_wait_longer_than_a_file_or_for_ever_and_never_for_nothing() {
        let timeout = |timeout| {
            let settings = ProgramSettings {
                request_timeout: timeout,
                ..ProgramSettings::default()
            };
            spec(&settings).map(|spec| spec.request_settings().request_timeout())
        };
        assert_eq!(timeout(None), Ok(Duration::MAX));
        assert_eq!(timeout(Some(Duration::MAX)), Ok(Duration::MAX));
        let hour = Duration::from_secs(3600);
        assert!(hour > REQUEST_TIMEOUT_MAX);
        assert_eq!(timeout(Some(hour)), Ok(hour));
        let least = timeout(Some(Duration::from_nanos(1)));
        assert_eq!(least, Ok(Duration::from_millis(1)));
        timeout(Some(Duration::ZERO)).expect_err("nobody can answer in no time");
    }

    /// Small numbers, bounds and their neighbours, and any others.
    fn any_number() -> impl Strategy<Value = usize> {
        let bounds = [
            INSTANCE_COUNT_MAX,
            CONCURRENCY_MAX,
            BATCH_SIZE_MAX,
            VCPUS_MAX,
            WAITING_MAX,
            u32::MAX,
        ];
        let near = prop::sample::select(bounds.to_vec()).prop_map(|bound| bound as usize);
        prop_oneof![
            0..20_usize,
            (near, 0..3_usize).prop_map(|(near, by)| near + by - 1),
            any::<usize>()
        ]
    }

    fn any_time() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..3_000_000_000_u64).prop_map(Duration::from_nanos),
            any::<Duration>(),
            Just(Duration::MAX),
        ]
    }

    prop_compose! {
        fn any_settings()(
            (instance_count, vcpus, concurrency) in (any_number(), any_number(), any_number()),
            (lanes, batch_size_max) in (prop::option::of(any_number()), prop::option::of(any_number())),
            waiting in prop::option::of(any_number()),
            (batch_delay, request_timeout) in (any_time(), prop::option::of(any_time())),
            spin: bool,
        ) -> ProgramSettings {
            ProgramSettings {
                instance_count,
                vcpus,
                max_concurrent_requests_per_instance: concurrency,
                queueing: waiting.map_or(Queueing::Unbounded, |waiting| Queueing::Waiting(number(waiting))),
                lanes,
                batch_size_max,
                batch_delay,
                spin,
                request_timeout,
                ..ProgramSettings::default()
            }
        }
    }

    proptest! {
        #[test]
        fn any_settings_are_within_all_bounds_or_refused_with_words(given in any_settings()) {
            let within = |found: usize, most: u32| (1..=most as usize).contains(&found);
            let concurrency = given.max_concurrent_requests_per_instance;
            let timeout = given.request_timeout.unwrap_or(Duration::MAX);
            let is_good = within(given.instance_count, INSTANCE_COUNT_MAX)
                && within(given.vcpus, VCPUS_MAX)
                && within(concurrency, CONCURRENCY_MAX)
                && given.lanes.is_none_or(|lanes| lanes > 0 && lanes <= concurrency.min(given.vcpus))
                && given.batch_size_max.is_none_or(|size| within(size, BATCH_SIZE_MAX))
                && match given.queueing {
                    Queueing::Waiting(waiting) => waiting <= WAITING_MAX,
                    Queueing::PerSlot | Queueing::Unbounded => true,
                }
                && given.batch_delay <= BATCH_DELAY_MAX
                && !timeout.is_zero();
            match spec(&given) {
                Ok(good) => {
                    prop_assert!(is_good, "{given:?}");
                    let settings = good.request_settings();
                    prop_assert_eq!(settings.queueing(), given.queueing);
                    prop_assert_eq!(settings.max_concurrent_requests_per_instance() as usize, concurrency);
                    prop_assert!(settings.max_batch_delay() < settings.request_timeout());
                    prop_assert!(settings.request_timeout() >= timeout.min(Duration::from_millis(u64::MAX)));
                }
                Err(problems) => {
                    prop_assert!(!is_good || given.batch_delay + Duration::from_micros(1) >= timeout, "{problems:?}");
                    prop_assert!(problems.iter().all(|problem| problem.contains("expected")), "{problems:?}");
                }
            }
        }
    }
}
