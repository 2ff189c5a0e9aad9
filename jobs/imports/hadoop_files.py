"""Files on whatever Hadoop file system Spark writes to, and its errors told to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError


@contextmanager
def storage_errors(output: str) -> Iterator[None]:
    """Turn what Spark and Hadoop throw into one DataError."""
    try:
        yield
    except (Py4JError, PySparkException) as error:
        java = getattr(error, "java_exception", None)
        cause = str(java.toString() if java is not None else error).strip().splitlines()[0]
        raise DataError(
            f"cannot write or read the log {output}: {cause}. "
            f"Check that the directory is writable and has room; then start the job again: "
            f"it goes on where it stopped."
        ) from error


class HadoopFiles:
    """The few file operations of the log generator under one root."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        jvm: Any = spark.sparkContext._jvm
        self._jvm = jvm
        self._root = root
        with storage_errors(root):
            self._fs = jvm.org.apache.hadoop.fs.Path(root).getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())

    def path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    def names(self) -> list[str]:
        """Names in the root, sorted; none when there is no root."""
        root = self._jvm.org.apache.hadoop.fs.Path(self._root)
        if not self._fs.exists(root):
            return []
        return sorted(str(status.getPath().getName()) for status in self._fs.listStatus(root))

    def read(self, name: str) -> str | None:
        """The text of a file; None when there is none."""
        if not self.exists(name):
            return None
        stream = self._fs.open(self._path(name))
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, name: str, text: str) -> None:
        """Write a file that is there completely or not at all."""
        staged = f"_staging/{name}"
        stream = self._fs.create(self._path(staged), True)
        try:
            stream.write(bytearray(text, "utf-8"))
        finally:
            stream.close()
        self.rename(staged, name)

    def rename(self, source: str, target: str) -> None:
        """Move a file or a directory, replacing the target."""
        self.delete(target)
        self._fs.mkdirs(self._jvm.org.apache.hadoop.fs.Path(self._root))
        if not self._fs.rename(self._path(source), self._path(target)):
            raise DataError(
                f"cannot rename {self.path(source)} to {self.path(target)}. "
                f"Check that nothing else writes to {self._root}; then start the job again."
            )

    def delete(self, name: str) -> None:
        """Delete a file or a directory tree, if it is there."""
        self._fs.delete(self._path(name), True)

    def _path(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self.path(name))
