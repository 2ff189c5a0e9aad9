"""The registry: published models under one root, and the pointer that says which of them is the champion.

    <root>/<version>/                artifacts, immutable (features.contract.publishing)
    <root>/counters/<name>/          counters to serve them with, one a night and frequencies (features.counts.counters)
    <root>/history/<sequence>.json   every move of the pointer, as it was written
    <root>/champion.json             the pointer: the last move, or where to look for it

Weights and counters are two published things, and the pointer names both: a night that publishes no model moves it to
newer counters, and a rollback to older weights keeps the newest counters that fit them.

The last entry of the history decides (serving.pointer): a move creates it, which of several runs only one can do, and
champion.json follows. Any number of readers may look on; moves and prunes are for one process at a time, and a move of
one that has lost its lease is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice
from typing import TypeVar

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import ArtifactManifest, CountersManifest, StateManifest
from nightjar.features.contract.outputs import COUNTERS, PRUNING, judged_of, night_of
from nightjar.features.contract.publishing import (
    MANIFEST,
    is_published,
    manifest_digest,
    read_manifest,
    unpublish,
    verify,
)
from nightjar.features.contract.strict import Strict, Version
from nightjar.serving.pointer import (
    Pointer,
    before,
    last_move,
    last_moves,
    make,
    read,
    require_lease,
    settled,
    write,
)

T = TypeVar("T")


class Pruning(Strict):
    """Versions that a prune has begun to remove."""

    versions: tuple[Version, ...]


def champion(root: str) -> Pointer | None:
    """The champion; None before the first promotion. Raises DataError if the pointer is damaged."""
    return last_move(root)


def last_token(root: str) -> int:
    """The token of the last move; 0 if it has none. The number of a lease must be greater."""
    last = last_move(root)
    return (last.token if last else None) or 0


def versions(root: str) -> list[str]:
    """Published versions, the latest first: by their nights; of one night by the pointer's last move to them, then by
    name. When files were written does not matter, so that a restored or copied registry has the same order.
    """
    suffix = f"/{MANIFEST}"
    found = [path.removesuffix(suffix) for path in storage.list_files(root, suffix)]
    nights = {version: night_of(version) or "" for version in found if "/" not in version}
    again = {night for night, count in Counter(nights.values()).items() if night and count > 1}
    moved = last_moves(root) if again else {}

    def place(version: str) -> tuple[str, int, str]:
        night = nights[version]
        return night, moved.get(version, 0) if night in again else 0, version

    return sorted(nights, key=place, reverse=True)


def promote(root: str, version: str, reason: str, counters: str | None = None, token: int | None = None) -> Pointer:
    """Make `version` the champion, after every file of it has been compared with its manifest.

    Nothing is written if it is the champion already, with these counters or newer ones.

    Args:
        root: of the registry.
        version: name of its directory.
        reason: who or what decided.
        counters: name of the counters to serve it with; None for the newest that fit it.
        token: number of the lease that is held, if any.

    Raises:
        LockedError: another run has moved the pointer or taken the lease over.
        UsageError: `version` is not published under `root`.
        DataError: it is damaged or is not an artifact, or the counters are damaged or do not fit it.
    """
    current = settled(root)
    digest = _verified(root, version)
    if current is not None and (current.version, current.digest) == (version, digest):
        return renew(root, counters, reason, token) if counters else current
    last = current.sequence if current else 0
    judged = read_manifest(storage.join(root, version), ArtifactManifest).lineage.judged
    move = Pointer(
        version=version, digest=digest, reason=reason, sequence=last + 1, previous=last or None, judged=judged
    )
    return make(root, _with_counters(root, move, counters or newest_counters(root, version)), token)


def renew(root: str, counters: str, reason: str, token: int | None = None) -> Pointer:
    """Serve the champion with these counters from now on, unless it is served with them or with newer ones.

    Args:
        root: of the registry.
        counters: their name.
        reason: who or what decided.
        token: see promote.

    Raises UsageError if there is no champion, DataError if the counters are damaged or do not fit it, LockedError as
    promote does.
    """
    current = settled(root)
    if current is None:
        raise UsageError(f"{root} has no champion whose counters could be renewed. Promote a version first.")
    if current.counters == counters or _is_older(root, counters, current):
        return current
    move = current.model_copy(update={"sequence": current.sequence + 1, "reason": reason})
    return make(root, _with_counters(root, move, counters), token)


def newest_counters(root: str, version: str, on: date | None = None) -> str | None:
    """Name of the newest counters that fit a version; None if there are none.

    on: a day; counters that count anything logged on it or later are left out: those that the version served with on
    that day, or would have.
    """
    folder, fingerprint = storage.join(root, COUNTERS), None
    for name in sorted(storage.list_folders(folder), reverse=True):  # by the days that they are for
        if not is_published(storage.join(folder, name)):
            continue
        manifest = read_manifest(storage.join(folder, name), CountersManifest)
        if on is None or manifest.through_date < on.isoformat():
            fingerprint = fingerprint or _counters_fingerprint(root, version)
            if manifest.fingerprint == fingerprint:
                return name
    return None


def directory_of(root: str, version: str) -> str:
    """Where a version is. Raises UsageError if it is not published there."""
    published = versions(root)
    if version not in published:
        raise UsageError(f"{root} holds no published version {version!r}; it holds {published}.")
    return storage.join(root, version)


def counters_directory(root: str, name: str) -> str:
    """Where counters are."""
    return storage.join(root, COUNTERS, name)


def rollback(root: str, reason: str = "rollback", token: int | None = None) -> Pointer:
    """Return to the version that was champion before. Repeated, it goes back further and never forth.

    Args:
        root: of the registry.
        reason: who or what decided.
        token: see promote.

    Raises UsageError if there is none or if it was pruned, DataError if it was damaged or changed since, LockedError as
    promote does.
    """
    current = settled(root)
    if current is None:
        raise UsageError(f"{root} has no champion to roll back from. Promote a version first.")
    target = before(root, current)
    if target is None:
        raise UsageError(f"{root} had no champion before {current.version}. Promote one of {versions(root)}.")
    if _verified(root, target.version) != target.digest:
        raise DataError(f"{target.version} has changed since it was champion. Promote it by name, if it is wanted.")
    move = target.model_copy(update={"sequence": current.sequence + 1, "reason": reason})
    return make(root, _with_counters(root, move, newest_counters(root, target.version) or target.counters), token)


def prune(root: str, keep_last: int, token: int | None = None) -> list[str]:
    """Remove all versions but the `keep_last` latest, the champion and the one before it.

    A version and what it became by learning the day that judged it count as one, and stay or go together. Returns the
    removed versions, with those that a killed prune had begun to remove. A version stops being published before its
    files go.

    Args:
        root: of the registry.
        keep_last: how many of the latest stay.
        token: see promote; it is looked at before each version.

    Raises UsageError if keep_last is negative, LockedError if another run has taken the lease over.
    """
    if keep_last < 0:
        raise UsageError(f"the number of versions to keep must be 0 or more; got {keep_last}.")
    kept, doomed = _sorted_out(root, keep_last)
    begun = read(storage.join(root, PRUNING), Pruning)
    gone = (v for v in begun.versions if v not in kept) if begun else ()
    doomed += [version for version in gone if not is_published(storage.join(root, version))]
    require_lease(root, token)
    if doomed:
        write(storage.join(root, PRUNING), Pruning(versions=tuple(doomed)))
        for version in doomed:
            require_lease(root, token)
            unpublish(storage.join(root, version))
    storage.remove(storage.join(root, PRUNING))
    return doomed


def superfluous(root: str, keep_last: int) -> list[str]:
    """The versions that `prune` would remove."""
    return _sorted_out(root, keep_last)[1]


def champions(root: str) -> list[Pointer]:
    """The champion and the one that a rollback would return to, as far as there are any. Raises as `line` does."""
    return list(islice(line(root), 2))


def _sorted_out(root: str, keep_last: int) -> tuple[set[str], list[str]]:
    """What stays: the champion, the one before it, the latest, and what was judged or finished with them; and the
    published versions that do not.
    """
    used, published = [pointer.version for pointer in champions(root)], versions(root)
    families = {*list(dict.fromkeys(map(judged_of, published)))[:keep_last], *map(judged_of, used)}
    kept = {*used, *(version for version in published if judged_of(version) in families)}
    return kept, [version for version in published if version not in kept]


def was_promoted(root: str, version: str) -> bool:
    """True if the pointer has ever stood at `version`, or at what it became by learning the day that judged it."""
    return version in last_moves(root)


def line(root: str) -> Iterator[Pointer]:
    """The champion, then what rollbacks would return to, one after the other; some may be pruned by now.

    Raises DataError if the pointer or an entry of the history is damaged or missing.
    """
    pointer = champion(root)
    while pointer is not None:
        yield pointer
        pointer = before(root, pointer)


def load_champion(root: str) -> str:
    """The champion's directory, its manifest checked against the pointer. DataError if there is none."""
    return with_champion(root, lambda directory: directory)


def with_champion(root: str, use: Callable[[str], T]) -> T:
    """`with_pointer` for those who want nothing but the directory of the champion's version."""
    return with_pointer(root, lambda pointer: use(storage.join(root, pointer.version)))


def with_pointer(root: str, use: Callable[[Pointer], T]) -> T:
    """`use(pointer)`, again with the new pointer if that fails and it has moved.

    So a reader that is overtaken by promotions and a prune never sees half a model, nor a model with another's
    counters. Raises DataError if there is no champion or if it is damaged, and whatever `use` raises while the pointer
    stands still.
    """
    pointer = champion(root)
    while pointer is not None:
        try:
            _require_digest(storage.join(root, pointer.version), pointer)
            return use(pointer)
        except Exception:  # whatever `use` makes of files that vanish
            moved = champion(root)
            if moved == pointer:
                raise
            pointer = moved
    raise DataError(f"{root} has no champion. Promote a version first.")


def _with_counters(root: str, move: Pointer, name: str | None) -> Pointer:
    """The move with these counters, after every file of them has been compared with their manifest."""
    if name is None:
        return move.model_copy(update={"counters": None, "counters_digest": None})
    directory = counters_directory(root, name)
    manifest = read_manifest(directory, CountersManifest)
    verify(directory, manifest)
    if manifest.fingerprint != _counters_fingerprint(root, move.version):
        raise DataError(
            f"the counters {directory} do not fit {move.version}: they are of other frequencies. Publish counters for "
            f"its feature spec."
        )
    return move.model_copy(update={"counters": name, "counters_digest": manifest_digest(directory)})


def _is_older(root: str, name: str, current: Pointer) -> bool:
    """Whether counters are as of an earlier day than the champion's, such as those of a night that is run again."""
    if current.counters is None:
        return False
    theirs, ours = (
        read_manifest(counters_directory(root, counters), CountersManifest) for counters in (current.counters, name)
    )
    return ours.through_date < theirs.through_date


def _counters_fingerprint(root: str, version: str) -> str:
    return read_manifest(storage.join(root, version, ENCODER), StateManifest).spec.counters_fingerprint


def _verified(root: str, version: str) -> str:
    """The digest of a version's manifest, after all its files were compared with it."""
    directory = directory_of(root, version)
    verify(directory, read_manifest(directory, ArtifactManifest))
    return manifest_digest(directory)


def _require_digest(directory: str, pointer: Pointer) -> None:
    if not is_published(directory):
        raise DataError(f"the champion {directory} is not published. Restore it, or promote a version.")
    if manifest_digest(directory) != pointer.digest:
        raise DataError(f"the champion {directory} has changed since. Restore it, or promote a version.")
