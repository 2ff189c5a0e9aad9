"""What every entry point shares: errors for people, exit codes, arguments that are dates."""

from __future__ import annotations

import argparse
import inspect
import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, cast

from features.errors import NightjarError

EXIT_ERROR = 2


def session_for(launcher: str, name: str) -> AbstractContextManager[Any]:
    """The Spark session that a launcher's workers run in; nothing for the local launcher."""
    if launcher == "local":
        return nullcontext()
    from jobs.spark_session import spark_session

    return spark_session(name)


class Main(Protocol):
    """An entry point: the command line's arguments (sys.argv's if None) to an exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def entry_point(main: Main) -> Main:
    """Make `main(argv)` report a NightjarError as one message on standard error and exit status 2."""

    name = Path(inspect.getfile(cast(FunctionType, main))).stem

    @wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("py4j").setLevel(logging.WARNING)
        try:
            return main(argv)
        except NightjarError as error:
            message = str(error)
        except OSError as error:
            message = f"{error}. Is there room, and may this user read and write there?"
        print(f"{name}: error: {message}", file=sys.stderr)
        return EXIT_ERROR

    return guarded


def day(text: str) -> date:
    """An argparse type: YYYY-MM-DD."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; give YYYY-MM-DD") from error
