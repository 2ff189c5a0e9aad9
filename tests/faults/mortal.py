"""A night that is killed at every point where it writes, each once, and started again until it has ended. Directories
of one kind share their points: the first to come there dies.

    python -m tests.faults.mortal VISITED -- ARGUMENTS OF run_nightly

VISITED: a file that collects the points, one a line; without one (`-`) nobody is killed. Every run is a child forked
from this process, which has imported everything. It dies by SIGKILL, and what it started too, but for Spark's JVM: that
is this process's, so that a kill does not cost the start of another.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nightjar.features.contract import publishing, storage
from nightjar.features.contract.manifests import FileEntry, Manifest


class Fate:
    """Where the runs so far have died; the next point that is not among them is the end of this one."""

    def __init__(self, visited: Path, output: str) -> None:
        self.visited, self.output, self.open = visited, output, "nothing"
        visited.touch()
        self.known = set(visited.read_text().splitlines())

    def strikes(self, moment: str, url: str, before: Callable[[], object] = lambda: None) -> None:
        """Die here unless a run has; `before`: the last thing done."""
        point = f"{moment} {url.removeprefix(self.output + '/')}"
        if point in self.known:
            return
        before()
        with self.visited.open("a") as stream:
            stream.write(point + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.kill(os.getpid(), signal.SIGKILL)

    def kind(self, directory: str) -> str:
        """`datasets` and the like: the folder of the output that a directory is in; of a finished model apart."""
        return kind_of(directory.removeprefix(self.output + "/"))

    def patch(self) -> None:
        """Put a point at every start, middle and commit of a directory, and around every write that is in none."""
        begin, describe_files, commit = publishing.begin, publishing.describe_files, publishing.commit
        write_bytes, create_bytes, remove = storage.write_bytes, storage.create_bytes, storage.remove

        def mortal_begin(directory: str) -> None:
            begin(directory)
            self.open = f"{directory}/"
            self.strikes("started", self.kind(directory))

        def mortal_describe(directory: str, known: Sequence[FileEntry] = ()) -> tuple[FileEntry, ...]:
            self.strikes("half written", self.kind(directory), lambda: tear(directory))
            return describe_files(directory, known)

        def mortal_commit(directory: str, content: Manifest) -> None:
            torn = storage.join(directory, ".manifest.json.torn.tmp")
            self.strikes("committing", self.kind(directory), lambda: Path(torn).write_text('{"kind": '))
            commit(directory, content)
            self.open = "nothing"

        def mortal_unpublish(directory: str) -> None:
            remove(storage.join(directory, publishing.MANIFEST))
            self.strikes("half removed", self.kind(directory))
            remove(directory)
            self.strikes("removed", self.kind(directory))

        def mortal_write(url: str, content: bytes) -> None:
            if url.startswith((self.open, f"{self.output}/models/lock/")) or url.endswith(".jsonl"):
                return write_bytes(url, content)
            self.strikes("before writing", url)
            write_bytes(url, content)
            return self.strikes("after writing", url)

        def mortal_create(url: str, content: bytes) -> None:
            if url.startswith(f"{self.output}/models/lock/"):
                create_bytes(url, content)
                return self.strikes("locked", "the output")
            self.strikes("before writing", url)
            create_bytes(url, content)
            return self.strikes("after writing", url)

        publishing.begin, publishing.describe_files, publishing.commit = mortal_begin, mortal_describe, mortal_commit
        publishing.unpublish = mortal_unpublish
        storage.write_bytes, storage.create_bytes = mortal_write, mortal_create


def kind_of(path: str) -> str:
    """The kind of the directory at a path within an output."""
    folder = path.partition("/")[0]
    return f"finished {folder}" if path.endswith("-finished") else folder


def tear(directory: str) -> None:
    """Cut the largest file in half, as a kill in the middle of its writing leaves it."""
    files = [path for path in Path(directory).rglob("*") if path.is_file()]
    if files:
        largest = max(files, key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)


def share_a_jvm() -> None:
    """Start Spark's JVM here, for all children; a child that finds the Spark context of a dead one takes it over."""
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway

    server = launch_gateway().java_parameters
    os.environ |= {"PYSPARK_GATEWAY_PORT": str(server.port), "PYSPARK_GATEWAY_SECRET": server.auth_token}

    def join(self: SparkContext, settings: Any) -> Any:
        jvm = self._jvm
        return jvm.JavaSparkContext.fromSparkContext(jvm.org.apache.spark.SparkContext.getOrCreate(settings))

    SparkContext._initialize_context = join


def main(visited: str, arguments: list[str]) -> int:
    """Fork runs until one ends by itself; its exit status."""
    output = os.path.abspath(arguments[arguments.index("--output") + 1])
    fate = None if visited == "-" else Fate(Path(visited), output)
    if fate:
        fate.patch()
    share_a_jvm()
    from nightjar.jobs import run_nightly  # after the patch: what it imports takes the mortal functions

    while True:
        child = os.fork()
        if not child:
            os.setsid()
            os._exit(run_nightly.main(arguments))
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        if fate is None or code != -signal.SIGKILL:
            return code
        fate.known = set(fate.visited.read_text().splitlines())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3:]))
