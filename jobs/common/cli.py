"""What every entry point shares: a job as a command, errors for people, exit statuses.

Exit status: 0 done, 1 unexpected (with a traceback), 2 something about the input, the settings or the storage is wrong,
3 the gate rejected a model or a replay found differences, 4 there was nothing to do, 5 another run is at work, 6 a
model passed the gate but found another champion, 130 interrupted, 143 ended by SIGTERM.

A module of a job imports Spark, torch and whatever else is heavy inside its functions: `--help` and a mistake in the
config file are answered without them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from nightjar.features.contract.errors import MaskingFormatter, NightjarError, masked

log = logging.getLogger(__name__)

EXIT_ERROR, EXIT_REJECTED, EXIT_NOTHING_TO_DO, EXIT_SUPERSEDED = 2, 3, 4, 6
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
# Java names a file before the reason, in brackets or after a colon; Python after it, in quotes.
_NO_ROOM = re.compile(
    r"(?:(/[^\s():]+)(?: \(|: ))?(?:No space left on device|Disk quota exceeded)\)?(?:: '(/[^'\n]+)')?"
)
LOG_LEVELS = ("debug", "info", "warning", "error")


class Several(click.Option):
    """An option that takes all words up to the next option, and may be repeated: `--only gate publish`.

    With nargs=1 its value is a tuple of all words. With nargs=n it is a tuple of n-tuples, one an occurrence, filled up
    with empty words.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"multiple": True})

    def spread(self, flag: str, words: Sequence[str]) -> list[str]:
        """The same, as click understands it."""
        if self.nargs == 1 or not words:
            return [part for word in words for part in (flag, word)] or [flag]
        if len(words) > self.nargs:
            message = f"Option '{flag}' takes at most {self.nargs} words; got {list(words)}."
            raise click.UsageError(message, click.get_current_context(silent=True))
        return [flag, *words, *[""] * (self.nargs - len(words))]


def spread(args: Sequence[str], options: Mapping[str, Several]) -> list[str]:
    """The command line with each of the options before each of its words."""
    result: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*result, word, *rest]
        option = options.get(word)
        if option is None:
            result.append(word)
            continue
        words = []
        while rest and not rest[0].startswith("-"):
            words.append(rest.pop(0))
        result += option.spread(word, words)
    return result


class Job(click.Command):
    """A job as a command. Called with a command line (sys.argv's if None) it returns the exit status.

    `nightjar VERB`, `python -m nightjar.jobs.NAME` and `spark-submit jobs/NAME.py` are the same command. A
    NightjarError becomes one message on standard error and its exit status; what nobody expected, a traceback and 1.
    """

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params.append(_log_level())

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        return run(self, argv, self.name or "")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        several = {flag: option for option in self.params if isinstance(option, Several) for flag in option.opts}
        return super().parse_args(ctx, spread(args, several))

    def invoke(self, ctx: click.Context) -> Any:
        """See click.Command."""
        try:
            with leaving_in_order():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            print(f"{ctx.command_path}: interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Exception as error:
            room = no_room(error)
            if room:
                message, status = room, EXIT_ERROR
            elif isinstance(error, NightjarError):
                message, status = str(error), error.exit_status
            elif isinstance(error, OSError):
                message = f"{error}. Is there room, and may this user read and write there?"
                status = EXIT_ERROR
            else:
                raise
        print(f"{ctx.command_path}: error: {masked(message)}", file=sys.stderr)
        return status

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, with the lines as they are."""
        write_example(formatter, self.example)


def entry_point(main: Callable[[Sequence[str] | None], int]) -> Job:
    """A program that parses its command line itself, such as a benchmark: `main(argv)` gives the exit status."""

    def parse(ctx: click.Context) -> int:
        return main(ctx.args)

    as_it_is = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    name = main.__module__.rpartition(".")[2] if main.__module__ != "__main__" else Path(sys.argv[0]).stem
    return Job(name, callback=click.pass_context(parse), context_settings=as_it_is, example="")


class JobGroup(click.Group):
    """Jobs of one subject, called like a Job. Options before the verb are the verb's, as if they stood behind it."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        return run(self, argv, self.name or "")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Group."""
        own = [flag for option in self.get_params(ctx) for flag in option.opts]
        verb = 0
        while verb < len(args) and args[verb].startswith("-") and args[verb] not in own:
            verb += 1 if "=" in args[verb] else 2
        if 0 < verb < len(args):
            args = [args[verb], *args[:verb], *args[verb + 1 :]]
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, with the lines as they are."""
        write_example(formatter, self.example)


def write_example(formatter: click.HelpFormatter, example: str) -> None:
    """The end of a command's help."""
    with formatter.section("Example"):
        for line in example.strip().splitlines():
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def run(command: click.Command, argv: Sequence[str] | None, name: str) -> int:
    """Run a command under a name; the exit status. What click has to say becomes one message and EXIT_ERROR."""
    try:
        status = command.main(argv, prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_ERROR
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else name
        print(f"{path}: error: {error.format_message()} See: {path} --help", file=sys.stderr)
        return EXIT_ERROR
    except click.Abort:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return int(status or 0)


def _log_level() -> click.Option:
    return click.Option(
        ["--log-level"],
        type=click.Choice(LOG_LEVELS),
        default="info",
        show_default=True,
        expose_value=False,
        callback=_start_logging,
        help="Least serious lines that the console shows.",
    )


def _start_logging(ctx: click.Context, parameter: click.Parameter, level: str) -> None:
    """Log to standard error. Whatever the level, the run's file (telemetry.structured_log) has all from `info` on."""
    console = logging.StreamHandler()
    console.setLevel(level.upper())
    console.setFormatter(MaskingFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[console])
    sys.excepthook = _print_masked
    if level == "debug":
        logging.getLogger("nightjar").setLevel(logging.DEBUG)
    logging.getLogger("py4j").setLevel(logging.WARNING)


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback without secrets, in the place of Python's own."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def session_for(launcher: str, name: str) -> AbstractContextManager[Any]:
    """The Spark session that a launcher's workers run in; nothing for the local launcher."""
    if launcher == "local":
        return nullcontext()
    from nightjar.jobs.common.spark_session import spark_session

    return spark_session(name)


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Turn SIGTERM, by which schedulers end a job, into an exit that releases what is held, and SIGINT likewise.

    For the main thread. Whatever fails on the way out, such as a call to Spark that the signal cut in two, the exit
    status is the signal's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    left: list[BaseException] = []
    root = logging.getLogger()

    def leave(number: int, *_: object) -> None:
        if left:
            return  # once is enough: it is on its way out
        root.addFilter(_is_not_of_py4j)
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        left.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(EXIT_TERMINATED))
        threading.Thread(target=_end_spark_jobs, name="leaving", daemon=True).start()
        raise left[0]

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, leave) for number in signals}
    try:
        yield
    except BaseException as error:
        if left and error is not left[0]:
            log.debug("an error on the way out", exc_info=error)
            raise left[0] from None
        raise
    finally:
        root.removeFilter(_is_not_of_py4j)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    """Spark's gateway logs by the root logger, with a traceback, that a call was cut in two."""
    return f"{os.sep}py4j{os.sep}" not in record.pathname


def _end_spark_jobs() -> None:
    """Threads wait for Spark's answers. What Spark has to say of jobs that are cancelled is of no use now."""
    pyspark = sys.modules.get("pyspark")
    context = pyspark and pyspark.SparkContext._active_spark_context
    if context:
        with suppress(Exception):
            context.setLogLevel("OFF")
            context.cancelAllJobs()


def no_room(error: BaseException) -> str | None:
    """A message for people if a full disk is behind an error: Python's own, a worker's, or Java's; else None."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    full = [one for one in seen if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)]
    told = [found for one in seen if (found := _NO_ROOM.search(str(one)))]
    if not (full or told):
        return None
    paths = [str(one.filename) for one in full if one.filename]
    paths += [path for found in told for path in found.groups() if path]
    where = paths[0] if paths else f"one of {', '.join(_scratch())}, or the output"
    return f"no space left on device: {where}. Make room there, and run the same command again."


def _scratch() -> list[str]:
    """Where Spark, the workers and Python put what is temporary, each with what is free there."""
    places = [*os.environ.get("SPARK_LOCAL_DIRS", "").split(","), tempfile.gettempdir(), "/dev/shm"]
    return [
        f"{place} ({shutil.disk_usage(place).free >> 20} MiB free)"
        for place in dict.fromkeys(places)
        if place and os.path.isdir(place)
    ]
