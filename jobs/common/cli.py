"""What every entry point shares: errors for people, exit codes, arguments that are dates.

Exit status: 0 done, 1 unexpected (with a traceback), 2 something about the input, the settings or the storage is wrong,
3 the gate rejected a model, 4 there was nothing to do, 5 another run is at work, 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, cast

from nightjar.features.contract.errors import NightjarError

LOGS_HELP = "folder of date=YYYY-MM-DD folders with Parquet files, or what the config's section `input` says instead"
EXIT_ERROR, EXIT_REJECTED, EXIT_NOTHING_TO_DO, EXIT_TERMINATED = 2, 3, 4, 143


def session_for(launcher: str, name: str) -> AbstractContextManager[Any]:
    """The Spark session that a launcher's workers run in; nothing for the local launcher."""
    if launcher == "local":
        return nullcontext()
    from nightjar.jobs.common.spark_session import spark_session

    return spark_session(name)


class Main(Protocol):
    """An entry point: the command line's arguments (sys.argv's if None) to an exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def entry_point(main: Main) -> Main:
    """Make `main(argv)` report a NightjarError as one message on standard error and its exit status."""

    name = Path(inspect.getfile(cast(FunctionType, main))).stem

    @wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("py4j").setLevel(logging.WARNING)
        try:
            return main(argv)
        except NightjarError as error:
            message, status = str(error), error.exit_status
        except OSError as error:
            message = f"{error}. Is there room, and may this user read and write there?"
            status = EXIT_ERROR
        print(f"{name}: error: {message}", file=sys.stderr)
        return status

    return guarded


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """Turn SIGTERM, by which schedulers end a job, into an exit that releases what is held. For the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def day(text: str) -> date:
    """An argparse type: YYYY-MM-DD."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; give YYYY-MM-DD") from error
