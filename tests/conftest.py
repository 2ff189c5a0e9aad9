"""Fixtures that every test may use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.kits.real_hdfs import HDFS_URL

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# An example that takes long on a busy machine is not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def encodable(value: Any) -> Any:
    """``value`` with every lone surrogate escaped: between processes a report travels as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(encodable(item) for item in value)
    return value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    """A report that holds hostile text, in a captured log say, does not end the process that sends it."""
    return encodable((yield))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local Spark session for the whole run; imported here so that tests without Spark never load it."""
    # The first JIT tier only: tests run much code once, and compiling it well costs more than it saves.
    jvm = "--driver-memory 1g --driver-java-options -XX:TieredStopAtLevel=1"
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", f"--master local[2] {jvm} pyspark-shell")
    from nightjar.jobs.common.spark_session import spark_session

    with spark_session("tests", shuffle_partitions=2) as session:
        yield session


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket on an S3-compatible server in this process."""
    from tests.kits.object_store import s3_bucket

    with s3_bucket() as url:
        yield url


@pytest.fixture
def bucket(s3: str) -> str:
    """An empty place in that bucket."""
    return f"{s3}/{uuid.uuid4().hex}"


@pytest.fixture
def hdfs() -> Iterator[str]:
    """An empty place on a file system that promises what HDFS does."""
    from tests.kits.fake_hdfs import fake_hdfs

    with fake_hdfs() as url:
        yield url


@pytest.fixture
def real_hdfs() -> Iterator[str]:
    """An empty place on the HDFS that `make hdfs` has started."""
    from nightjar.features.contract import storage

    url = f"{os.environ[HDFS_URL]}/{uuid.uuid4().hex}"
    yield url
    storage.remove(url)
