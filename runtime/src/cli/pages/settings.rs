//! `docs/settings.md`: environment variables, folders and signals. A test finds in the page whatever variable the sources read.

use std::fmt::Write as _;

use super::cell::cell;

/// A variable: its name, what stands where it is not set, and what it says.
type Variable = (&'static str, &'static str, &'static str);

/// Variables that are serin's own.
const OWN: &[Variable] = &[
    (
        "SERIN_DATA",
        "`$XDG_DATA_HOME/serin`",
        "The data folder, by which commands find their server; `--data` counts before it",
    ),
    (
        "SERIN_PORT",
        "`PORT`, else 5001",
        "The port for scoring of `serve` and `up`; `--port` counts before it",
    ),
    (
        "SERIN_CACHE",
        "`$XDG_CACHE_HOME/serin`",
        "The folder of what can be made anew; it may be deleted while no server runs",
    ),
    (
        "SERIN_LOG",
        "`info`",
        "The level of the log: `off`, `error`, `warn`, `info`, `debug` or `trace`, or levels by module, such as \
         `info,serin::engine=debug`; anything else is refused. What `--log-level-file` says counts before it",
    ),
    (
        "SERIN_LOCKS",
        "`/tmp/serin-<uid>`",
        "The folder of locks by which servers on one machine know of each other's cores",
    ),
    (
        "SERIN_KEY",
        "",
        "The key that `bench --url` sends, where no `--key` is given: a command line is there for all users of a machine to read",
    ),
    (
        "SERIN_ONNXRUNTIME_LIB",
        "the one that the binary carries",
        "A `libonnxruntime.so` to use instead, when serin is built and when it runs",
    ),
];

/// Variables of the system, of platforms and of other programs that are heard.
const OF_OTHERS: &[Variable] = &[
    (
        "PORT",
        "5001",
        "The port for scoring, as platforms that run containers set it; `SERIN_PORT` counts before it",
    ),
    ("HOME", "", "The folder below which the others lie"),
    (
        "XDG_DATA_HOME",
        "`~/.local/share`",
        "The data folder is `serin` in it; an absolute path",
    ),
    ("XDG_CACHE_HOME", "`~/.cache`", "The cache is `serin` in it"),
    (
        "XDG_CONFIG_HOME",
        "`~/.config`",
        "Defaults of `az configure` and kept environments are in `serin` in it; an absolute path",
    ),
    (
        "XDG_RUNTIME_DIR",
        "`serin-<uid>` in the temporary folder",
        "Where a server says its address when its data folder takes no file; an absolute path",
    ),
    (
        "TMPDIR",
        "`/tmp`",
        "The temporary folder: copies of models while there is no cache, data of `demo`, `bench` and `tune`",
    ),
    (
        "USER",
        "`LOGNAME`, else the user of the process",
        "Who asks, for the journal",
    ),
    ("LOGNAME", "", "The same where `USER` is not set"),
    ("NO_COLOR", "", "Anything in it: no colours"),
    (
        "COLUMNS",
        "",
        "The width of the tables of `status` and `journal`, before that of the terminal",
    ),
    (
        "ORT_DISABLE_TELEMETRY",
        "`1`",
        "Set by serin before it loads ONNX Runtime; a program that embeds serin is started with it",
    ),
    (
        "LISTEN_PID",
        "",
        "With the next two: sockets that systemd hands over",
    ),
    ("LISTEN_FDS", "", "How many: one or two"),
    (
        "LISTEN_FDNAMES",
        "",
        "Their names, `scoring` and `admin`; without names the first is for scoring",
    ),
    (
        "NOTIFY_SOCKET",
        "",
        "Where systemd is told that the server is ready, ends or is alive",
    ),
    (
        "WATCHDOG_USEC",
        "",
        "How often systemd wants to hear that it is alive",
    ),
    ("WATCHDOG_PID", "", "Which process is meant"),
    (
        "PATH",
        "",
        "Where `python3` and `uv` are looked for, for scoring scripts",
    ),
    (
        "PYENV_ROOT",
        "`~/.pyenv`",
        "Where the Python versions of pyenv are",
    ),
    (
        "CONDA_PREFIX",
        "",
        "An installation of conda whose environments are looked through",
    ),
    (
        "UV_PYTHON_INSTALL_DIR",
        "`$XDG_DATA_HOME/uv/python`",
        "Where the Python versions of `uv` are",
    ),
    (
        "PIP_INDEX_URL",
        "",
        "Heard by pip when an environment is built, and passed on to `uv` with the next three, where its own variable is not set",
    ),
    ("PIP_EXTRA_INDEX_URL", "", "The same"),
    ("PIP_FIND_LINKS", "", "The same"),
    ("PIP_CERT", "", "The same"),
    (
        "SSL_CERT_FILE",
        "the system's",
        "Certificates of the authorities that https hooks of rollouts and https servers of `serin bench` are known by",
    ),
    ("SSL_CERT_DIR", "the system's", "The same, a folder of them"),
];

/// Folders and files: the place, what lies there, and whether it may go.
const FOLDERS: &[Variable] = &[
    (
        "data folder",
        "`--data`, `SERIN_DATA`",
        "`serin.db`, the secret, models, logs of deployments, `server.json` while a server runs. It must last, for its user alone: one that \
         others may write to is refused",
    ),
    (
        "cache",
        "`SERIN_CACHE`",
        "ONNX Runtime as it was unpacked, prepared forms of large models (at most 16 GB), environments of scripts (at most 20 GB). It may be \
         deleted while no server runs",
    ),
    (
        "locks of cores",
        "`SERIN_LOCKS`",
        "One file for a core. They go with the server",
    ),
    (
        "configuration",
        "`XDG_CONFIG_HOME`",
        "`az-defaults.json` and environments by name and version",
    ),
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "finishes what is in flight and ends; the second one ends it at once",
    ),
    (
        "SIGHUP",
        "opens the log file again, for `logrotate`, and reads the level again from `--log-level-file FILE`, whose text (`info`, or \
         `warn,serin::engine=debug`) counts before `SERIN_LOG`. When the terminal that it was started on has gone, it ends as by SIGTERM; \
         under `nohup` it hears none",
    ),
    (
        "SIGUSR1",
        "writes its status to the log, whatever the level: deployments, what starts or has failed, requests in flight, bytes held, sockets",
    ),
];

/// The whole page.
pub(super) fn page() -> String {
    let mut page = "# Settings\n\nMade by `serin __page settings`; a test compares it with the sources. Flags are in [cli.md](cli.md), \
        [exit codes](cli.md#exit-codes) at its end, and what a file may say is in [files.md](files.md). A flag counts before its variable, and a \
        variable that is empty is as one that is not set.\n\n## Variables of serin\n\n"
        .to_owned();
    write_rows(
        &mut page,
        ["variable", "where it is not set", "what it says"],
        OWN,
    );
    page.push_str("\n## Variables of others that are heard\n\n");
    write_rows(
        &mut page,
        ["variable", "where it is not set", "what it says"],
        OF_OTHERS,
    );
    page.push_str(
        "\nA scoring script has the server's variables and those of its deployment's `environment_variables`; `OMP_NUM_THREADS` is its share of \
         the cores. An environment is built without variables that would reach into its interpreter, such as `PYTHONHOME`, `PYTHONPATH`, \
         `VIRTUAL_ENV` and `PIP_TARGET`.\n\n## Folders\n\n",
    );
    write_rows(
        &mut page,
        ["folder", "named by", "what lies there"],
        FOLDERS,
    );
    page.push_str("\n## Signals\n\n| signal | a server |\n|---|---|\n");
    for (signal, words) in SIGNALS {
        _ = writeln!(page, "| {signal} | {} |", cell(words));
    }
    page.push_str(LOG);
    page
}

const LOG: &str = "
A supervisor passes them on. Any other command ends with SIGINT (exit code 130), and undoes nothing.

## The log

The log goes to standard error, or with `--log-file FILE` to the end of a file; `serve` and `up` have the same flags. `--log json` writes one
object a line. Nothing waits for who reads it: what finds no room (1 MiB) is dropped, and the number of lines is told as soon as somebody
reads again (`serin_log_dropped_total`). Of like lines of one deployment 20 a second are written, and then how many more there were
(`serin_log_left_out_total`); `debug` and `trace` come whole.
";

fn write_rows(page: &mut String, heads: [&str; 3], rows: &[Variable]) {
    _ = writeln!(page, "| {} |\n|---|---|---|", heads.join(" | "));
    for (name, default, words) in rows {
        let name = match heads[0] {
            "variable" => format!("`{name}`"),
            _ => (*name).to_owned(),
        };
        _ = writeln!(page, "| {name} | {default} | {} |", cell(words));
    }
}
