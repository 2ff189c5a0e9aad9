"""A job called in a process that already runs Spark shares that Spark, and leaves it running."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pyspark.sql import SparkSession

from nightjar.jobs.common.spark_session import spark_session


def rows_and_zone() -> tuple[int, str | None]:
    with spark_session("nested") as session:
        return session.range(3).count(), session.conf.get("spark.sql.session.timeZone")


def test_a_nested_session_shares_the_context_and_leaves_it_running(spark: SparkSession) -> None:
    with ThreadPoolExecutor(1) as other_thread:
        assert other_thread.submit(rows_and_zone).result(timeout=60) == (3, "UTC")
    assert rows_and_zone() == (3, "UTC")
    assert spark.range(5).count() == 5
