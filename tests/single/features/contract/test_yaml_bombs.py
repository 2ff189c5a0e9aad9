"""A YAML file that means harm, or only looks like it, is a message at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightjar.features.contract.errors import SpecError, UsageError
from nightjar.features.contract.yaml_document import read_document, with_overrides


def doubled(first: str, level: str, close: str = "") -> str:
    """Nine levels, each of ten times the one before."""
    lines, before = [f"a: &a {first}"], "a"
    for name in "bcdefghi":
        lines.append(f"{name}: &{name} " + level.format(",".join([f"*{before}"] * 10)) + close)
        before = name
    return "\n".join(lines) + "\n"


BOMBS = {
    "lists": doubled("[x,x,x,x,x,x,x,x,x,x]", "[{}]"),
    "mappings": doubled("{k: v}", "{{k: [{}]}}"),
    "merge keys": doubled("{k: v}", "{{<<: [{}]}}"),
    "keys": doubled("[x,x]", "[{}]") + "? *i\n: 1\n",
    "itself": "a: &a [*a]\n",
    "itself, further down": "a: &a {b: [1, {c: *a}]}\n",
    "deep": "a: " + "[" * 5000,
    "deep mappings": "{a: " * 5000,
    "a date that is none": "a: 2026-02-30\n",
    "a number that is none": "a: !!int abc\n",
    "a number of many digits": "a: " + "9" * 10_000 + "\n",
    "a timestamp that is none": "a: !!timestamp abc\n",
    "an object": "a: !!python/object/apply:os.system [true]\n",
    "a NUL": "a: \0\n",
    "twice": "a: 1\na: 2\n",
}
LIMITED = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
signal.alarm(100)
from nightjar.features.contract.errors import SpecError
from nightjar.features.contract.yaml_document import read_document
for path in sys.argv[1:]:
    try:
        read_document(path)
    except SpecError as error:
        print(len(str(error)))
"""


def test_bombs_end_in_a_message_and_little_memory(tmp_path: Path) -> None:
    paths = []
    for number, text in enumerate(BOMBS.values()):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(text)
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")
    lengths = [int(line) for line in said.stdout.split()]
    assert len(lengths) == len(BOMBS)
    assert max(lengths) < 2000


@pytest.mark.parametrize("name", BOMBS)
def test_an_override_is_no_way_around(name: str) -> None:
    value = "{" + BOMBS[name].strip().replace("\n", ", ") + "}"
    with pytest.raises(UsageError, match="is not valid YAML"):
        with_overrides({}, [f"a={value}"])


def test_modest_aliases_and_merges_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("base: &b {x: 1, y: [1, 2]}\none: {<<: *b, x: 2}\ntwo: [*b, *b]\nempty:\n")
    base = {"x": 1, "y": [1, 2]}
    assert read_document(path) == {"base": base, "one": {"x": 2, "y": [1, 2]}, "two": [base, base], "empty": None}
    path.write_text("")
    with pytest.raises(SpecError, match="it holds NoneType"):
        read_document(path)
