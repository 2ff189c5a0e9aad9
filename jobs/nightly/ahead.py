"""Nights of a range overlap where that is safe: while one trains, the next one's log is validated and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from nightjar.features.contract.errors import NightjarError
from nightjar.features.input.timestamped import GetSpark
from nightjar.jobs.nightly.night import Night

log = logging.getLogger(__name__)


@contextmanager
def looking_ahead(night: Night | None, spark: GetSpark) -> Iterator[None]:
    """Validate and count the log of `night` in the background of the block; wait for that at its end.

    Neither depends on the model that the block may publish. What is wrong with the log is found again, and told, when
    the night's turn comes. Workers in Spark's tasks hold the cores that the counting needs: then nothing is done ahead.
    """
    if night is None or night.launcher == "spark" or night.validation.accepted:
        yield
        return
    session = spark()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_look, replace(night), lambda: session)
        yield


def _look(night: Night, spark: GetSpark) -> None:
    try:
        night.validation.run(spark)
        log.info("the log of %s was validated and counted ahead", night.date)
    except NightjarError:
        log.info("the log of %s will stop its night", night.date)
    except Exception:
        log.warning("the log of %s could not be looked at ahead", night.date, exc_info=True)
