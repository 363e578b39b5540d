//! Two servers beside each other on one machine, and each alone on a core of its own: a part of `figures`.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serin::load::Pace;

use crate::support::{Server, folder, locks, model, serin};
use crate::{Steady, row, sample};

/// Windows of each kind, in turns.
const TURNS: usize = 5;
const WARM_UP: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(2);
/// Connections of each load.
const CONNECTIONS: usize = 8;

/// What one load saw.
#[derive(Clone, Copy)]
struct Seen {
    rate: f64,
    p99: Duration,
}

/// Runs something on one core, with all threads and processes that it starts.
fn on_core<T>(core: usize, run: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).expect("a mask");
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).expect("a core of this machine");
    let result = run();
    sched_setaffinity(None, &before).expect("the mask that it had");
    result
}

/// A server with one instance on one core, that knows its neighbours by the locks of the data folder `first`.
fn server(data: &Path, first: &Path) -> Server {
    let mut command = serin(data);
    command.env("SERIN_LOCKS", locks(first));
    let server = Server::start_command(command, data);
    server.create_endpoint("iris");
    let text = format!(
        "name: blue\nendpoint_name: iris\nmodel: {}\ninstance_type: Standard_DS1_v2\n\
         request_settings: {{max_concurrent_requests_per_instance: 64}}\n",
        model("models/digits/1/model.onnx")
    );
    server
        .run_with(&["online-deployment", "create", "--all-traffic"], &text)
        .ok();
    server
}

/// Starts a load on its own core.
fn load(server: &Server, core: usize) -> Steady<2> {
    let pace = Pace::Closed { requests: None };
    on_core(core, || {
        Steady::start_with(server, CONNECTIONS, pace, sample())
    })
}

/// Lets the loads run for a while; what each saw.
fn watch<const LOADS: usize>(loads: [Steady<2>; LOADS]) -> [Seen; LOADS] {
    std::thread::sleep(WARM_UP);
    let begun = Instant::now();
    loads.iter().for_each(|load| load.enter(1));
    std::thread::sleep(WINDOW);
    loads.iter().for_each(|load| load.enter(0));
    let took = begun.elapsed().as_secs_f64();
    loads.map(|load| {
        let answered = u32::try_from(load.count(1)).expect("requests of a window");
        let [_, seen] = load.stop();
        Seen {
            rate: f64::from(answered) / took,
            p99: seen.p99(),
        }
    })
}

/// Both servers at once, each with a load on a core of its own, beside each of them alone with its load on that core.
pub(crate) fn neighbours() {
    let places = [(); 4].map(|()| folder());
    let [alone_0, alone_1, first, second] = [0, 1, 2, 3].map(|place: usize| places[place].path());
    let alone = [
        on_core(0, || server(alone_0, alone_0)),
        on_core(1, || server(alone_1, alone_1)),
    ];
    let both = [server(first, first), server(second, first)];
    let (mut ratios, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let by_itself = [0, 1].map(|core| watch([load(&alone[core], core)])[0]);
        let beside = watch([load(&both[0], 0), load(&both[1], 1)]);
        for (by_itself, beside) in by_itself.iter().zip(&beside) {
            ratios.push(beside.rate / by_itself.rate);
            tails.push((by_itself.p99, beside.p99));
        }
    }
    ratios.sort_unstable_by(f64::total_cmp);
    tails.sort_unstable();
    let (by_itself, beside) = tails[tails.len() / 2];
    row(
        &format!(
            "two servers at once, {CONNECTIONS} connections each: requests a second, beside each alone on a core of its own"
        ),
        &format!(
            "{:.2} times (median of {}; {:.2} to {:.2}); p99 {beside:.1?}, alone {by_itself:.1?}",
            ratios[ratios.len() / 2],
            ratios.len(),
            ratios[0],
            ratios[ratios.len() - 1]
        ),
    );
}
