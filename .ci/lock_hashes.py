"""Write the SHA-256 of every file that a pin of a lock may be installed from beside the pin.

    .venv/bin/python .ci/lock_hashes.py requirements.lock --wheels FOLDER [--index URL]
    .venv/bin/python .ci/lock_hashes.py requirements.cuda.lock

Run it after every change of a version. Kept are the wheels for CPython 3.11 on Linux, x86_64 and aarch64, glibc 2.34 or
older, and the source where the index has no such wheel. FOLDER holds torch's build for the CPU alone, which is not on
the index. `make setup` installs nothing else (pip's --require-hashes).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from horovod_wheel import BUILT
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pip._internal.models.index import PyPI

PYTHON = (3, 11)
MACHINES = ("x86_64", "aarch64")
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.+!]+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lock", type=Path)
    parser.add_argument("--wheels", type=Path, help="a folder of further builds, such as torch's for the CPU alone")
    parser.add_argument("--index", default=PyPI.simple_url, help="default: the one that pip itself has built in")
    args = parser.parse_args()
    lines = []
    for line in args.lock.read_text().splitlines():
        pin = PIN.match(line)
        if pin is None or pin["name"] in BUILT:
            if not line.lstrip().startswith("--hash="):
                lines.append(line)
            continue
        hashes = sorted({*hashes_of(args.index, pin["name"], pin["version"]), *local(args.wheels, pin)})
        if not hashes:
            print(f"{args.lock}: no file for {pin[0]}", file=sys.stderr)
            return 1
        lines.append(" \\\n".join([pin[0], *(f"    --hash=sha256:{digest}" for digest in hashes)]))
    args.lock.write_text("\n".join(lines) + "\n")
    return 0


def hashes_of(index: str, name: str, version: str) -> Iterator[str]:
    """Of the wheels that may be installed, or of the source."""
    request = urllib.request.Request(
        f"{index}/{canonicalize_name(name)}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = [item for item in files if fits(item["filename"], name, version)]
    sources = [item for item in files if is_source(item["filename"], name, version)]
    for item in wheels or sources:
        yield item["hashes"]["sha256"]


def local(folder: Path | None, pin: re.Match[str]) -> Iterator[str]:
    for path in sorted(folder.glob("*.whl")) if folder else ():
        if fits(path.name, pin["name"], pin["version"]):
            yield hashlib.sha256(path.read_bytes()).hexdigest()


def fits(filename: str, name: str, version: str) -> bool:
    """Whether a wheel is of that version and build, for the machines of the lock."""
    try:
        project, built, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    return project == canonicalize_name(name) and built == Version(version) and not TAGS.isdisjoint(tags)


def is_source(filename: str, name: str, version: str) -> bool:
    stem = filename.removesuffix(".tar.gz")
    return stem != filename and canonicalize_name(stem) == canonicalize_name(f"{name}-{version}")


def tags() -> Iterator[Tag]:
    for machine in MACHINES:
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(5, 35)]
        platforms += [f"{old}_{machine}" for old in ("manylinux1", "manylinux2010", "manylinux2014", "linux")]
        yield from cpython_tags(PYTHON, platforms=platforms)
        yield from compatible_tags(PYTHON, interpreter="cp311", platforms=platforms)


TAGS = frozenset(tags())


if __name__ == "__main__":
    sys.exit(main())
