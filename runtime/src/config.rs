//! Every bound of the process, each with a sentence, and the relations between them.

use std::time::Duration;

/// Longest name of an endpoint or deployment, in characters (Azure: 3 to 32).
pub const NAME_LEN_MAX: usize = 32;
/// Shortest name of an endpoint or deployment, in characters.
pub const NAME_LEN_MIN: usize = 3;
/// Longest name of an endpoint or deployment of a program, in characters.
pub const PROGRAM_NAME_LEN_MAX: usize = 64;
/// The pause between two looks at the events of requests, by which rollouts are judged.
pub const ROLLOUT_LOOK_PERIOD: Duration = Duration::from_millis(20);
/// The same pause while no rollout is on its way: a ring of events holds what a busy thread records in that time.
pub const EVIDENCE_LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Longest that good news of requests wait before they are written down and judged; bad news wait for the next look.
pub const ROLLOUT_WRITE_PERIOD: Duration = Duration::from_millis(500);
/// The pause before rollouts that could not be read, or written, are read again.
pub const ROLLOUTS_LOAD_PERIOD: Duration = Duration::from_secs(1);
/// Orders about rollouts that wait.
pub const ROLLOUT_ORDERS_MAX: usize = 64;
/// The time over which the present rate of requests is counted for a forecast.
pub const FORECAST_LOOK: Duration = Duration::from_secs(1);
/// Events of requests that are kept for who asks about two deployments.
pub const EVIDENCE_KEPT: usize = 200_000;
/// Longest that a hook of a rollout may take.
pub const HOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// Hooks that are told something at once; what comes beyond is left out and logged.
pub const HOOKS_WAITING_MAX: usize = 32;
/// Most of a hook's answer that is read.
pub const HOOK_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of what happened to one rollout that are kept; then its state takes their place.
pub const ROLLOUT_RECORD_BYTES_MAX: u64 = 64 << 20;
/// Rollouts that are remembered; the oldest that has ended makes room.
pub const ROLLOUTS_KEPT: u64 = 100;
/// Most problems of one description that are told; how many more there are is said.
pub const PROBLEMS_TOLD_MAX: usize = 50;
/// Most instances of one deployment (Azure's limit).
pub const INSTANCE_COUNT_MAX: u32 = 50;
/// Events of requests that one thread keeps for who compares deployments, 64 bytes each: what a busy thread records in a tenth of a second.
pub const EVIDENCE_EVENTS_MAX: usize = 16_384;
/// Threads that keep such events before anybody has taken them.
pub const EVIDENCE_RINGS_MAX: usize = 256;
/// Longest name of a header or cookie, and longest JSON pointer, by which clients are told apart.
pub const STICKY_NAME_LEN_MAX: usize = 256;
/// Most steps of such a pointer.
pub const STICKY_DEPTH_MAX: usize = 16;
/// Beginning of a body in which the key of its client is looked for: a few tens of microseconds of reading, whatever comes behind.
pub const STICKY_BODY_BYTES_MAX: usize = 16 * 1024;
/// Most deployments of an endpoint that get copies of its requests.
pub const SHADOWS_MAX: usize = 8;
/// Bytes of requests and answers that copies on their way to shadows hold, of all endpoints: two of the largest bodies that are usual.
pub const COPY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Pairs of answers that wait to be compared.
pub const PAIRS_MAX: usize = 1024;
/// Bytes that they hold.
pub const PAIR_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest answer that labels can be compared with, in bytes.
pub const LABELLED_BYTES_MAX: usize = 1024 * 1024;
/// Answers that wait to be remembered, for labels that come later.
pub const ANSWERS_MAX: usize = 16_384;
/// Bytes that they hold.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of answers that a rollout remembers in memory; then the oldest are forgotten.
pub const FEEDBACK_MEMORY_BYTES_MAX: usize = 64 << 20;
/// The same on disk.
pub const FEEDBACK_DISK_BYTES_MAX: u64 = 1 << 30;
/// Heaps of answers that wait to be remembered.
pub const FEEDBACK_HEAPS_MAX: usize = 64;
/// Requests and answers that wait for a place among these.
pub const FEEDBACK_NEWS_MAX: usize = 65_536;
/// Labels that are taken at once.
pub const LABELS_MAX: usize = 10_000;
/// Most bytes of these.
pub const LABELS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// First requests of an instance that are marked as such: caches, allocators and page faults make them slow.
pub const COLD_REQUESTS: u32 = 16;
/// Longest `request_timeout_ms` (Azure: 180 s for managed endpoints).
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(180);
/// `request_timeout_ms` where none is written.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_millis(5000);
/// Longest timeout that has an end: beyond it a request is as one without. More than any process lives, and little enough that every
/// clock can count so far.
pub const DEADLINE_MAX: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// Most virtual CPUs of an instance; the largest machines one can rent have fewer.
pub const VCPUS_MAX: u32 = 4096;
/// Most requests that one instance may run at once. Room for all of them is made when it starts: some 200 KB.
pub const CONCURRENCY_MAX: u32 = 1024;
/// Largest `max_waiting_requests_per_instance`: each that waits keeps its body, and at the pace of most models the last of more would
/// wait for minutes.
pub const WAITING_MAX: u32 = 65_536;
/// Requests at once of an instance of `serin up`, for each core of the machine: with as many that wait, more than the clients of one
/// machine usually have.
pub const UP_CONCURRENCY_PER_CORE: u32 = 32;
/// Largest `max_batch_size`: as many rows as an instance may have requests of one row each.
pub const BATCH_SIZE_MAX: u32 = 1024;
/// Most rows of one run where no `max_batch_size` is written: beyond, the gain of any model is small and the wait is not.
pub const BATCH_SIZE_DEFAULT_MAX: u32 = 64;
/// The gain that a larger batch must have, row for row, to be worth the wait of its requests.
pub const BATCH_GAIN_MIN: f64 = 1.1;
/// Longest run that is measured with more rows: a batch of longer ones would make its requests wait too long.
pub const PROFILE_RUN_MAX: Duration = Duration::from_millis(20);
/// Longest that an I/O thread works inline on the requests of one tick instead of handing them to a score thread: a few times what
/// the way to another core and back takes (43 us on the machine of the README), and less than a kernel that preempts lazily may
/// keep that thread waiting.
pub const INLINE_MAX: Duration = Duration::from_micros(150);
/// Longest that the edge may compute, whatever is in the bodies: other connections wait as long.
pub const EDGE_COMPUTE_MAX: Duration = Duration::from_micros(500);
/// Time for which an I/O thread takes up requests before it comes to what else it has to do: health, new connections, answers. Some
/// tens of usual requests, so that those that may share a run still meet; and little against what a look at health may take.
pub const EDGE_TURN_MAX: Duration = Duration::from_millis(1);
/// Tasks of an I/O thread after which it looks for those that another thread has woken: a slot that a lane gives back is taken up
/// so soon, and the lane has work again.
pub const EDGE_WOKEN_LOOK: u32 = 4;
/// Time after which a run on an I/O thread is interrupted and handed to a score thread: it was taken for small work and is not.
pub const INLINE_RUN_MAX: Duration = Duration::from_millis(10);
/// Runs in a row that were interrupted so, after which nothing of the instance runs on an I/O thread any more. One may be a pause of
/// the whole machine.
pub const INLINE_INTERRUPTIONS_MAX: u32 = 3;
/// Longest that a run which was ended may go on: as long as the slowest nodes of usual models take, for it ends between two of them.
/// Then its process is ended, or its thread is left behind.
pub const RUN_END_MAX: Duration = Duration::from_secs(2);
/// Longest wait of who ends everything, beyond the time that it gave, for runs that were cut: longer than [`RUN_END_MAX`], after which the
/// watchdog leaves a thread behind.
pub const CUT_MAX: Duration = Duration::from_secs(3);
/// Pauses between the tries to start the process of a lane again, while requests wait for it.
pub const LANE_RESTART_PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// Pause between later tries, while the other lanes of the instance serve.
pub const LANE_OUT_PAUSE: Duration = Duration::from_secs(1);
/// Longest sleep of a lane before it looks again at its process, which may have damaged the signals by which it would be woken.
pub const LANE_LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Longest that requests for a lane in a process wait for company, while there is some: several times what the way there and back takes.
pub const GATHER_MAX: Duration = Duration::from_micros(100);
/// Time in which the answers of a lane in a process are told to the server together: about what it takes to wake it.
pub const LANE_ANSWERS_TOGETHER: Duration = Duration::from_micros(50);
/// Time between two looks of the watchdog, while there may be something to see.
pub const WATCH_PERIOD: Duration = Duration::from_millis(10);
/// Time that the watchdog stays awake after the last thing that it was told of.
pub const WATCH_AFTER_NOTICE: Duration = Duration::from_secs(1);
/// Most threads of one instance that are left behind in runs which do not end, where no process can take their place.
pub const LOST_THREADS_MAX: u32 = 8;
/// Longest `max_batch_delay_us`: a lane that waits for company wastes its core. What is written must also be below the
/// deployment's own `request_timeout_ms`.
pub const BATCH_DELAY_MAX: Duration = Duration::from_secs(1);

/// Largest body of a scoring request, in bytes, unless the server is told otherwise; a larger one gets 413.
pub const BODY_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
/// Largest body, and largest answer, that needs no room among the bytes in flight, and most that a connection reads ahead, in bytes.
/// As much of each is every connection's own, so that small requests never wait for room: 192 KiB a connection at most, 768 MiB for
/// all that are allowed by default, if each of them has as much of everything.
pub const SMALL_BYTES: usize = 64 * 1024;
/// The part of the memory that larger bodies and answers may take together, unless the server is told otherwise: one in so many.
pub const BYTES_IN_FLIGHT_PART: u64 = 4;
/// Longest that a body may wait for room among the bytes in flight; then 503. Longer than most large requests take to give theirs
/// back, and shorter than a client's patience.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest that a client may take to take what is written to it; then its connection is cut, and the memory of its answer comes back.
pub const ANSWER_WRITE_MAX: Duration = Duration::from_secs(30);
/// The pace at which a client earns another second to take its answer: answers may be larger than any bound of time allows for.
pub const ANSWER_BYTES_PER_S_MIN: u64 = 1024 * 1024;
/// Largest body of an administrative request, in bytes: the text of a few files and a path, never a model.
pub const ADMIN_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest that a client may take to send a body, from its head; then 408.
pub const BODY_READ_MAX: Duration = Duration::from_secs(30);
/// Longest that a connection may take to send the head of its next request, idle time included; then it is closed. As long
/// as nginx waits, so that pools of clients rarely meet a connection that closes as they take it.
pub const HEAD_READ_MAX: Duration = Duration::from_secs(75);
/// Requests of a deployment that failed in a row, by the model's fault, from which it is degraded: more than a few bad inputs make,
/// and few enough that it shows within seconds where requests come.
pub const DEGRADED_AFTER: u64 = 20;
/// Longest that the rest of a refused body is read and thrown away, so that a client which sends first and reads later
/// meets the refusal and not a reset connection.
pub const REFUSED_BODY_LINGER: Duration = Duration::from_secs(2);
/// Longest that an answer waits for the rest of a small body that nobody needs, so that its connection can go on: the body of a client
/// that sends it apart from the head is a moment behind.
pub const REST_READ_MAX: Duration = Duration::from_millis(20);
/// Largest head of a request, in bytes; a larger one gets 431. As much as Azure and nginx allow for, and little enough that thousands of
/// heads that never end are a few MB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of the headers of a scoring script in an answer. As many as a request may bring: what is in front of a server bounds both.
pub const SCRIPT_HEAD_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// Most bytes that are read at once of a client that is not known, while no request of its is answered: who sends requests and reads
/// no answers holds little.
pub const STRANGER_READ_BYTES: usize = 4 * 1024;
/// Idle time after which a connection on which a request with a valid credential was answered may be closed, when another one needs
/// its place. Longer than the pauses between requests of a busy client, so that those who work keep their connections.
pub const KNOWN_IDLE_MIN: Duration = Duration::from_secs(5);
/// Strangers that have sent several requests at once and are answered again in one turn of a thread. A turn of all of them is short, so
/// that nobody else feels them.
pub const STRANGER_TURNS: usize = 32;
/// The part of all places that strangers make free at once: one in so many, and never more than `STRANGERS_LEAVE_MAX`.
pub const STRANGERS_LEAVE_PART: usize = 64;
/// Most strangers that make room at once.
pub const STRANGERS_LEAVE_MAX: usize = 64;
/// Longest wait for the place of a connection that was asked to go; then another one is asked.
pub const PLACE_WAIT_MAX: Duration = Duration::from_millis(10);
/// The time between two looks whether a client that has ended its side has left: its run is ended as much later at most.
pub const LEFT_LOOK_PERIOD: Duration = Duration::from_millis(20);
/// Most scoring connections at once, unless the server is told otherwise. When all are taken, one that is not needed makes room; further
/// ones wait in the kernel's backlog.
pub const CONNECTIONS_DEFAULT: usize = 4096;
/// Connections that the kernel keeps until they are accepted; the system may have a lower bound.
pub const BACKLOG: i32 = 1024;
/// Least file descriptors that are kept from connections: some 30 has a server that does nothing, and trying a model takes a dozen.
pub const DESCRIPTORS_RESERVED_MIN: usize = 48;
/// Most file descriptors that are kept from connections, for models, processes of lanes and the store.
pub const DESCRIPTORS_RESERVED_MAX: usize = 1024;
/// Most administrative connections at once; fewer where there are few file descriptors.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Pause after the system refused a connection (no file descriptors left), so that the acceptor does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The time between two lines of the log that say so.
pub const ACCEPT_TOLD_PERIOD: Duration = Duration::from_secs(10);
/// Longest `x-request-id`, `x-ms-request-id` or `x-ms-client-request-id`, in characters; a longer one gets 431.
pub const REQUEST_ID_LEN_MAX: usize = 100;
/// Characters kept of `x-ms-client-request-id` (Azure's limit).
pub const CLIENT_REQUEST_ID_LEN_KEPT: usize = 40;
/// Longest that `GET /v1/operations/{id}?wait_ms=` holds its answer; the client asks again.
pub const OPERATION_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest that a command waits for an answer that the server has at hand, beyond what it asked the server to wait; then it gives
/// up.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest that a command waits for an answer that comes after work: a change and a registration copy models.
pub const WORK_ANSWER_MAX: Duration = Duration::from_secs(600);
/// Silence of the server after which a command says what it waits for.
pub const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(2);
/// Most journal entries of one answer.
pub const JOURNAL_LAST_MAX: usize = 10_000;
/// Longest that requests in flight may take to end when the server exits, unless it is told otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(10);
/// Shortest time for which an idle connection is waited for when the server exits: a request that crosses the close would be lost. It is
/// as long as the drain delay, where there is one.
pub const IDLE_WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest time for which an idle connection is waited for when the server exits and nobody takes its place.
pub const IDLE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Longest that requests which are cut may take to be told so.
pub const CUT_ANSWER_MAX: Duration = Duration::from_millis(500);
/// Longest that a process which is to end at once may take for its last words.
pub const AT_ONCE_MAX: Duration = Duration::from_secs(2);
/// Longest that administrative requests in flight may take to end when the server exits: held answers are given up.
pub const ADMIN_GRACE: Duration = Duration::from_millis(500);
/// Most I/O threads of scoring, unless the server is told otherwise: they move bytes and execute small work inline
/// ([`INLINE_MAX`]), and the cores are for the models.
pub const EDGE_THREADS_MAX: usize = 4;

/// Changes that may wait for the controller; further ones are refused as busy.
pub const CONTROLLER_MAILBOX_MAX: usize = 256;
/// Past states kept in the store, so that a look back is possible and the file stays small; the oldest go first.
pub const REVISIONS_KEPT: u64 = 256;
/// Operations remembered, in memory and in the store; of those that have ended the oldest go first, and then their number is
/// unknown.
pub const OPERATIONS_KEPT: u64 = 1024;
/// Operations of an endpoint that may be under way at once; a further change that needs instances is refused as busy. Changes of
/// rules end at once and are never refused so.
pub const OPERATIONS_UNDER_WAY_MAX: usize = 64;
/// Lines kept of the journal; older ones make room.
pub const JOURNAL_KEPT: u64 = 100_000;
/// Longest that a server which serves some of its traffic again waits for the rest before it says that it is ready. What is
/// missing is named where readiness is asked for. As long as models of some 100 MB take to load; one that hangs delays nobody.
pub const RECOVERY_WAIT_MAX: Duration = Duration::from_secs(3);
/// Longest that an instance may take to load and warm up; then its operation fails.
pub const START_MAX: Duration = Duration::from_secs(120);
/// Longest that a child process may take to load a model and run it once; then the model is refused.
pub const PROBE_MAX: Duration = Duration::from_secs(60);
/// Most memory that a child process may take to load a model and run it once, in bytes, unless the server is told otherwise.
pub const PROBE_MEMORY_BYTES_DEFAULT: u64 = 8 * 1024 * 1024 * 1024;
/// Longest that the child may then take to prepare the model; after that the model is served as it is.
pub const PREPARE_MAX: Duration = Duration::from_secs(120);
/// Longest that a deployment waits for its environment: for the build of another process and then for its own, of an hour each.
pub const ENVIRONMENT_READY_MAX: Duration = Duration::from_secs(130 * 60);
/// Longest from the first try of a model until instances may load it; then whoever waits for it fails.
pub const MODEL_READY_MAX: Duration = Duration::from_secs(200);
/// Time after which memory that a session keeps for its next run goes back, when none came.
pub const IDLE_MEMORY_KEPT: Duration = Duration::from_secs(5);
/// Smallest model that is prepared, in bytes: below it neither the memory nor the time to load is worth a file.
pub const PREPARE_BYTES_MIN: u64 = 1_000_000;
/// Time after which a model is prepared again whose preparation was ended from outside, or for want of memory or time.
pub const PREPARE_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Most bytes of prepared models in the cache folder; the least recently used that no process has in use go first.
pub const PREPARED_BYTES_MAX: u64 = 16_000_000_000;
/// Age from which an unfinished entry of the cache is what a killed process has left; longer than any preparation takes.
pub const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);
/// Longest that work at background priority may wait for a core, in all; then it is done at the usual one.
pub const BACKGROUND_WAIT_MAX: Duration = Duration::from_secs(5);
/// The time between two looks at how long background work has waited.
pub const BACKGROUND_LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Longest that admitted requests of an instance that leaves may take to end; then it is stopped under them, and counted.
/// Longer than any request may take, so only a run that cannot be terminated meets it.
pub const DRAIN_MAX: Duration = Duration::from_secs(200);
/// Longest that instances may take to become idle and end when the server exits: the edge has ended by then, so nobody reads
/// what still runs.
pub const STOP_MAX: Duration = Duration::from_secs(5);
/// Pause before the system is asked again for a thread that stops instances, when it had none.
pub const THREAD_PAUSE: Duration = Duration::from_secs(1);
/// The time between two looks of the controller for instances that have died.
pub const HEALTH_PERIOD: Duration = Duration::from_millis(500);
/// Pause before an instance that died is replaced; doubled after each failure in a row.
pub const REPAIR_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause before an instance that died is replaced.
pub const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Lanes that have a place in the black box at once; what further ones run is not told after a death.
pub const BLACK_BOX_SLOTS: usize = 1024;
/// Pause of the supervisor before it starts the server again, from the second death in a row on; doubled after each further one.
pub const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause of the supervisor; clients that connect wait as long.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest that a server whose sockets were open before it began waits for its deployments to serve before it accepts requests; those
/// that come wait in the kernel.
pub const RESTART_HOLD_MAX: Duration = Duration::from_secs(3);
/// Longest that a request waits for a server which starts to serve its deployment again; less where its deployment's own time is less.
pub const START_HOLD_MAX: Duration = Duration::from_secs(10);
/// Most requests that wait so at once; further ones are told to come again.
pub const START_HELD_MAX: usize = 1024;
/// Longest that a server which is to take the place of another may take to serve all that the other serves.
pub const REPLACE_READY_MAX: Duration = Duration::from_secs(120);
/// Longest that two servers wait for a word of each other while one takes the place of the other.
pub const HANDOVER_WORD_MAX: Duration = Duration::from_secs(15);
/// Longest such word, in bytes.
pub const HANDOVER_WORD_BYTES_MAX: u64 = 1 << 20;
/// Longest that a word to systemd may wait for room in its queue.
pub const NOTIFY_MAX: Duration = Duration::from_millis(200);
/// The same for the word that says that the server is alive, which comes again.
pub const WATCHDOG_NOTIFY_MAX: Duration = Duration::from_millis(1);
/// The time for which a server must have been ready for its death not to count as one of a row.
pub const RESTART_STEADY: Duration = Duration::from_secs(60);
/// Time between two tries to show metrics at an address that the server before still has.
pub const METRICS_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Time between two tries to write `server.json` where the disk has no room for it.
pub const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Most bytes of the log that wait to be written; further lines are dropped and counted. As much again may be in the hands of the
/// system, when nobody reads.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Longest that the end of the process waits for the last lines of a log that nobody reads.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);
/// Time in which lines of a kind are counted, and after which those that were left out are told of.
pub const LOG_WINDOW: Duration = Duration::from_secs(1);
/// Most lines of one kind that are written in that time: what more would say the number says too.
pub const LOG_LINES_PER_WINDOW: u32 = 20;
/// Kinds of lines that are told apart; further ones share what one may write.
pub const LOG_KINDS_MAX: usize = 256;
/// Characters of a request's path that the log repeats.
pub const LOG_PATH_LEN_MAX: usize = 256;
/// Longest file with the level of the log, in bytes.
pub const LOG_LEVEL_BYTES_MAX: u64 = 4096;
/// Most bytes of the log of a deployment; then it is set aside, in place of the one that was before, so that the two take twice that.
pub const DEPLOYMENT_LOG_BYTES_MAX: u64 = 1024 * 1024;
/// Longest note in the log of a deployment, in bytes; a longer one is cut.
pub const DEPLOYMENT_LOG_LINE_BYTES_MAX: usize = 4096;
/// Most lines that a script prints in [`LOG_WINDOW`] which its log keeps: enough for several traces of Python's.
pub const SCRIPT_LINES_PER_WINDOW: u32 = 500;
/// Wrong keys of one client that are answered at once; after them each answer waits for [`WRONG_KEY_DELAY`].
pub const WRONG_KEYS_FREE: u32 = 10;
/// The wait for the answer to a wrong key of a client that has sent many; after as long one more is free.
pub const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);
/// Answers to one client that wait so at once; further wrong keys get 429. A quarter of the administrative connections.
pub const WRONG_KEYS_WAITING_MAX: u32 = 16;
/// Clients that have sent wrong keys of late and are told apart; further ones share what one may send.
pub const WRONG_KEY_CLIENTS_MAX: usize = 4096;
/// Life of a token, unless the server is told otherwise.
pub const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Longest YAML file of an endpoint, a deployment, a model or instance types. Azure's largest have some kilobytes.
pub const SPEC_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest scoring request that the command line reads; the server has a bound of its own.
pub const REQUEST_FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest sample request of a model that is looked at.
pub const SAMPLE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest description of an endpoint, a deployment or a model, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Most tags, and most properties: as many as Azure takes.
pub const TAGS_MAX: usize = 50;
/// Longest name of a tag or a property, in bytes: Azure's bound.
pub const TAG_NAME_BYTES_MAX: usize = 512;
/// Longest value of a tag or a property, in bytes. Azure has 256 for tags, and notes of programs are longer.
pub const TAG_VALUE_BYTES_MAX: usize = 1024;
/// Longest endpoint or deployment in its stored form, in bytes: it is written again with every revision.
pub const SPEC_BYTES_MAX: usize = 128 * 1024;
/// Longest name of who asked for a change, in bytes.
pub const BY_BYTES_MAX: usize = 256;
/// Most files and folders of one model.
pub const MODEL_FILES_MAX: usize = 10_000;
/// Most bytes of one model: more than the memory of the machines that it would be scored on.
pub const MODEL_BYTES_MAX: u64 = 64_000_000_000;
/// The part of a disk that a model never takes, as 1 / this, at most [`DISK_RESERVE_BYTES_MAX`].
pub const DISK_RESERVE_PART: u64 = 20;
/// Most bytes that are left for everything else on a large disk.
pub const DISK_RESERVE_BYTES_MAX: u64 = 1_000_000_000;
/// Longest that an interpreter may take to say which version it is; one on a cold disk takes a second.
pub const INTERPRETER_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Most interpreters that are asked at the same time.
pub const INTERPRETERS_ASKED_AT_ONCE: usize = 4;
/// Longest that an environment may take to build. The largest packages are gigabytes, and some are compiled.
pub const ENVIRONMENT_BUILD_MAX: Duration = Duration::from_secs(60 * 60);
/// The time between two looks at a build: whether it is still wanted, whether another process has ended its own.
pub const ENVIRONMENT_LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Most bytes of environments in the cache folder; the least recently used that no process has in use go first.
pub const ENVIRONMENTS_BYTES_MAX: u64 = 20_000_000_000;
/// Most bytes that are kept of the output of a build; its last lines are kept in any case.
pub const ENVIRONMENT_LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Last lines of a build that are looked at for the reason of its failure.
pub const ENVIRONMENT_LAST_LINES: usize = 200;
/// Most logs of builds that failed, or of environments that have gone; the oldest go first.
pub const ENVIRONMENT_LOGS_MAX: usize = 50;

// The relations: a reader of one line may rely on the others.
const _: () = {
    assert!(NAME_LEN_MIN < NAME_LEN_MAX);
    // What a file may say a program may say too.
    assert!(NAME_LEN_MAX <= PROGRAM_NAME_LEN_MAX);
    assert!(REQUEST_TIMEOUT_DEFAULT.as_millis() <= REQUEST_TIMEOUT_MAX.as_millis());
    assert!(REQUEST_TIMEOUT_MAX.as_millis() <= DEADLINE_MAX.as_millis());
    // A lane has at least one vCPU and one request.
    assert!(CONCURRENCY_MAX <= VCPUS_MAX);
    assert!(BATCH_SIZE_DEFAULT_MAX <= BATCH_SIZE_MAX);
    // Every request of an instance may be in one batch.
    assert!(CONCURRENCY_MAX <= BATCH_SIZE_MAX);
    assert!(BATCH_DELAY_MAX.as_millis() < REQUEST_TIMEOUT_MAX.as_millis());
    assert!(INLINE_MAX.as_nanos() <= EDGE_COMPUTE_MAX.as_nanos());
    // Small work that is handed over within a turn leaves time for other requests of it.
    assert!(INLINE_MAX.as_nanos() * 2 <= EDGE_TURN_MAX.as_nanos());
    assert!(INLINE_RUN_MAX.as_nanos() >= EDGE_COMPUTE_MAX.as_nanos() * 20);
    assert!(WATCH_PERIOD.as_nanos() <= INLINE_RUN_MAX.as_nanos());
    assert!(CLIENT_REQUEST_ID_LEN_KEPT <= REQUEST_ID_LEN_MAX);
    assert!(ADMIN_BODY_BYTES_MAX <= BODY_BYTES_DEFAULT);
    assert!(DEGRADED_AFTER > 1);
    assert!(SMALL_BYTES <= BODY_BYTES_DEFAULT);
    assert!(STRANGER_READ_BYTES <= HEAD_BYTES_MAX && HEAD_BYTES_MAX <= SMALL_BYTES);
    assert!(KNOWN_IDLE_MIN.as_millis() < HEAD_READ_MAX.as_millis());
    assert!(BYTES_IN_FLIGHT_PART > 0);
    // A body that waits for room is not given up for being slow meanwhile, and no connection for being idle.
    assert!(ROOM_WAIT_MAX.as_millis() < HEAD_READ_MAX.as_millis());
    assert!(BODY_READ_MAX.as_millis() < HEAD_READ_MAX.as_millis());
    // A held answer must come before the client's own patience ends (`admin::Client` adds a margin to what it asks for).
    assert!(OPERATION_WAIT_MAX.as_millis() < HEAD_READ_MAX.as_millis());
    assert!(SILENCE_TOLD_AFTER.as_millis() < ANSWER_MAX.as_millis());
    assert!(ANSWER_MAX.as_millis() < WORK_ANSWER_MAX.as_millis());
    assert!(EDGE_THREADS_MAX >= 1);
    assert!(DRAIN_MAX.as_millis() > REQUEST_TIMEOUT_MAX.as_millis());
    // Work that is begun once more has time left.
    assert!(BACKGROUND_WAIT_MAX.as_millis() < START_MAX.as_millis());
    assert!(BACKGROUND_LOOK_PERIOD.as_millis() < BACKGROUND_WAIT_MAX.as_millis());
    assert!(ENVIRONMENT_LOOK_PERIOD.as_millis() < INTERPRETER_ANSWER_MAX.as_millis());
    assert!(ENVIRONMENT_LAST_LINES * 80 < ENVIRONMENT_LOG_BYTES_MAX);
    assert!(LEFTOVER_AGE.as_millis() > PROBE_MAX.as_millis() + PREPARE_MAX.as_millis());
    assert!(MODEL_READY_MAX.as_millis() > PROBE_MAX.as_millis() + PREPARE_MAX.as_millis());
    assert!(REPAIR_PAUSE_MIN.as_millis() <= REPAIR_PAUSE_MAX.as_millis());
    assert!(RESTART_PAUSE_MIN.as_millis() <= RESTART_PAUSE_MAX.as_millis());
    assert!(IDLE_WAIT_MIN.as_millis() <= IDLE_WAIT_MAX.as_millis());
    assert!(CUT_ANSWER_MAX.as_millis() < AT_ONCE_MAX.as_millis());
    // A row of deaths with the longest pauses between them stays one.
    assert!(RESTART_PAUSE_MAX.as_millis() < RESTART_STEADY.as_millis());
    // Who sends wrong keys to administration leaves most of its connections to others.
    assert!((WRONG_KEYS_WAITING_MAX as usize) * 4 <= ADMIN_CONNECTIONS_MAX);
    // An operation that is known has its revision still in the store, unless many newer ones came.
    assert!(REVISIONS_KEPT <= OPERATIONS_KEPT);
    assert!(DESCRIPTION_BYTES_MAX <= SPEC_BYTES_MAX);
    assert!(SPEC_BYTES_MAX <= ADMIN_BODY_BYTES_MAX);
};
/// Most files and folders of a folder that are looked at for a scoring script.
pub const SCRIPT_FILES_MAX: usize = 10_000;
