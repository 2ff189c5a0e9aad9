"""The one file that builds a SparkSession."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# Always set, whatever spark-submit says: a log's hour, weekday and date are UTC on every machine.
# Names are compared exactly, as the spec does: two columns of a file may differ by case alone.
FIXED = {"spark.sql.session.timeZone": "UTC", "spark.sql.caseSensitive": "true"}

# Set unless spark-submit or spark-defaults.conf says otherwise.
SQL_DEFAULTS = {
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # HotSpot never compiles a method above 8000 bytes of bytecode. Spark's own limit (65535) lets wide
    # expressions, such as jobs/imports/simulation.py's, run interpreted in one huge method: measured 3x slower.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    "spark.sql.debug.maxToStringFields": "1000",
}
CORE_DEFAULTS = {"spark.ui.enabled": "false", "spark.master": "local[*]"}
# Spark's 200 shuffle partitions are meant for a cluster. Tables of known size do not depend on the number, and adaptive
# execution merges what is small.
LOCAL_DEFAULTS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "32",
}

# On a console, bars and lines of the log would write over each other.
CORE_FIXED = {"spark.ui.showConsoleProgress": "false"}

# It warns, once an attempt, of a window without partitions, whose rows all meet in one task. The only one is over
# MovieTweetings' ratings, which are few (jobs.imports.movietweetings); windows of features are by table or by key.
# And, once a file, of a CSV header that has more columns than are read.
QUIET = (
    "org.apache.spark.sql.execution.window.WindowExec",
    "org.apache.spark.sql.catalyst.csv.CSVHeaderChecker",
)
# On this machine, what they say of a failed task is all in the error that is raised: a hundred lines of Java's, twice.
REPEATING = ("org.apache.spark.executor.Executor", "org.apache.spark.scheduler.TaskSetManager")


@contextmanager
def session_on_demand(app_name: str) -> Iterator[Callable[[], SparkSession]]:
    """Yield what starts `spark_session` when it is first called; the session stops on exit if it ever was."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(spark_session(app_name)))


@contextmanager
def spark_session(app_name: str, *, shuffle_partitions: int | None = None) -> Iterator[SparkSession]:
    """Yield a SparkSession with the project's settings, and stop it on exit.

    What spark-submit configured wins over the project's defaults, except for the session time zone: UTC.
    Without a configured master the session runs on local[*]; a local driver listens on 127.0.0.1 only.
    In a process that already runs a session (a test, a notebook, a nested call) the yielded session is a new
    one on the same SparkContext, with SQL settings of its own, and the outer one keeps running on exit.

    shuffle_partitions: spark.sql.shuffle.partitions for this session; None leaves it as configured.
    """
    shuffle = {} if shuffle_partitions is None else {"spark.sql.shuffle.partitions": str(shuffle_partitions)}
    # Not getActiveSession(): the JVM knows that one by thread, and forgets it with the thread's connection.
    if SparkContext._active_spark_context is not None:
        outer = SparkSession.builder.getOrCreate()
        inner = outer.newSession()
        configured = outer.sparkContext.getConf()
        sql_defaults = {k: v for k, v in SQL_DEFAULTS.items() if not configured.contains(k)}
        for key, value in {**sql_defaults, **FIXED, **shuffle}.items():
            inner.conf.set(key, value)
        yield inner
        return

    # The gateway to spark-submit's JVM must be up before SparkConf can see what spark-submit configured.
    SparkContext._ensure_initialized()
    conf = SparkConf()
    for key, value in {**SQL_DEFAULTS, **CORE_DEFAULTS}.items():
        conf.setIfMissing(key, value)
    if str(conf.get("spark.master")).startswith("local"):
        # Local Python workers need the driver's packages; on a cluster spark-submit says where they are.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        for key, value in LOCAL_DEFAULTS.items():
            conf.setIfMissing(key, value)
    for key, value in {**FIXED, **CORE_FIXED, **shuffle}.items():
        conf.set(key, value)
    interrupt = signal.getsignal(signal.SIGINT)
    session = SparkSession.builder.config(conf=conf).appName(app_name).getOrCreate()
    if threading.current_thread() is threading.main_thread():
        # PySpark's own handler calls Spark in the middle of whatever call the signal came upon.
        signal.signal(signal.SIGINT, interrupt)
    session.sparkContext.setLogLevel("WARN")
    _silence(session)
    try:
        yield session
    finally:
        try:
            session.stop()
        except Exception:  # a call that a signal cut in two has left the gateway out of step
            log.debug("Spark did not stop in order", exc_info=True)
            _abandon()


def _abandon() -> None:
    """End the JVM, and forget it."""
    gateway = SparkContext._gateway
    SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None
    process = getattr(gateway, "proc", None)
    if process:
        process.kill()


def _silence(session: SparkSession) -> None:
    jvm = session.sparkContext._jvm
    assert jvm is not None
    log4j = jvm.org.apache.logging.log4j
    for logger in QUIET:
        log4j.core.config.Configurator.setLevel(logger, log4j.Level.ERROR)
    if str(session.sparkContext.master).startswith("local"):
        for logger in REPEATING:
            log4j.core.config.Configurator.setLevel(logger, log4j.Level.OFF)
