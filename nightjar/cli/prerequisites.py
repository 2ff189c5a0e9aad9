"""Programs that training needs on a machine. Shared by `nightjar doctor` and .ci/setup_environment.py.

Standard library only, and Python 3.9 can run it: the set-up imports this file before anything is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

JAVA_VERSIONS = ("17", "21")  # what Spark 4.0 runs on


class Missing(NamedTuple):
    """What is missing, and the command that provides it (on Debian and its like)."""

    what: str
    command: str


def missing_java() -> Iterator[Missing]:
    """The Java that Spark starts."""
    wanted = " or ".join(JAVA_VERSIONS)
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    output = first_output([java, "-version"])
    found = re.search(r'version "(?:1\.)?(\d+)', output or "")
    if found and found.group(1) in JAVA_VERSIONS:
        return
    problem = f"Java {wanted} ({java!r} " + (f"is {found.group(1)})" if found else "does not run)")
    elsewhere = [p for v in JAVA_VERSIONS for p in sorted(Path("/usr/lib/jvm").glob(f"java-{v}-*/bin/java"))]
    if elsewhere:
        yield Missing(f"{problem}; one is installed elsewhere", f"export JAVA_HOME={elsewhere[0].parent.parent}")
    else:
        yield Missing(problem, "sudo apt-get install -y openjdk-17-jre-headless")


def missing_compiler() -> Iterator[Missing]:
    """The compiler that builds Horovod."""
    compiler = os.environ.get("CXX", "g++")  # the variable CMake goes by
    probe = "#include <optional>\nstd::optional<int> probe = 17;\n"
    command = [*compiler.split(), "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    if first_output(command, stdin=probe) is None:
        yield Missing(f"a C++17 compiler ({compiler!r} does not compile C++17)", "sudo apt-get install -y g++")


def first_output(command: Sequence[str], stdin: str = "") -> str | None:
    """What a command prints on both streams, or None when it cannot be run or fails."""
    try:
        done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
