"""What an output takes, by kind, and what of it `nightly.keep` would remove; for `nightjar doctor`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from nightjar.features.contract import storage
from nightjar.features.contract.outputs import COUNTERS, HISTORY, LOCK, MODELS, NIGHTS, night_of
from nightjar.jobs.nightly.retention import KEYS, Past, superfluous

VERSIONS = f"{MODELS}/*"


class Usage(NamedTuple):
    """What one kind takes. entries: directories and files directly in its folder; key: of nightly.keep that bounds it,
    None where nothing does.
    """

    kind: str
    entries: int
    bytes: int
    key: str | None

    def __str__(self) -> str:
        return f"{size(self.bytes)} in {self.entries}; {f'nightly.keep.{self.key}' if self.key else 'stays'}"


def usages(output: str) -> list[Usage]:
    """By kind, the largest first; nothing of an output that is not there yet."""
    sizes = _sizes(output)
    entries: dict[str, set[str]] = defaultdict(set)
    taken: dict[str, int] = defaultdict(int)
    for path, length in sizes.items():
        kind, entry = _place(path)
        entries[kind].add(entry)
        taken[kind] += length
    found = [Usage(kind, len(entries[kind]), taken[kind], KEYS.get(kind)) for kind in taken]
    return sorted(found, key=lambda usage: (-usage.bytes, usage.kind))


def may_go(output: str, config_file: str) -> Iterator[tuple[str, int]]:
    """What a config's nightly.keep would remove after the last night on record, each with the bytes it takes.

    Raises SpecError if the file cannot be used, DataError if the champion pointer is damaged.
    """
    from nightjar.jobs.nightly.config import NightConfig  # more than an installation that only scores has

    config = NightConfig.read(config_file)
    records = filter(None, map(night_of, storage.list_folders(storage.join(output, NIGHTS))))
    last = max(records, default=None)
    if last is None:
        return
    night, taken = date.fromisoformat(last), _with_folders(_sizes(output))
    # A night holds its day against days with rows, which may reach further back; then it keeps more than is said here.
    since = night - timedelta(max(config.nightly.train_days, config.validation.reference_days))
    for path in superfluous(config.nightly.keep, output, night, Past(config.features, since)):
        yield path, taken[path]


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**30:,.2f} GiB" if count >= 2**27 else f"{count / 2**20:,.1f} MiB"


def _sizes(output: str) -> dict[str, int]:
    """Bytes of every file, by its path below the output."""
    fs, path = storage.file_system(output)
    prefix = path.rstrip("/") + "/"
    return {name.removeprefix(prefix): int(info["size"] or 0) for name, info in fs.find(path, detail=True).items()}


def _with_folders(sizes: Mapping[str, int]) -> dict[str, int]:
    """The same of every folder, too."""
    taken: dict[str, int] = defaultdict(int)
    for path, length in sizes.items():
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            taken["/".join(parts[:depth])] += length
    return taken


def _place(path: str) -> tuple[str, str]:
    """The kind of a file, and the entry of its folder that it belongs to."""
    first, *rest = path.split("/")
    if first == MODELS and rest and rest[0] in (COUNTERS, HISTORY, LOCK):
        return f"{first}/{rest[0]}", rest[-1] if len(rest) < 2 else rest[1]
    return (VERSIONS if first == MODELS else first), rest[0] if rest else first
