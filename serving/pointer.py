"""The champion pointer and its history: every move is an entry that is created once, and none is made behind another.

    <root>/history/<sequence>.json    a move; to create it, which only one of several writers can do, is to make it
    <root>/history/last-moves.json    the last move to every version, so that years of moves are not read again
    <root>/champion.json              the last move, or one shortly before it: where a reader begins to look

A reader goes on from champion.json as long as there is an entry after it. So neither a writer that was killed between
the two writes, nor one that slept there while another moved on, leaves an older champion behind. The token is the
number of the mover's lease: one whose lease was taken over since has a lower one than the last move's, and is refused.

Retention removes entries that nobody asks for any more (`outlived`), never the one that LAST_MOVES goes through, nor
one after it. So whoever stands before a gap goes on from there: a reader with an old champion.json, and a writer that
made its move where another one's was removed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

from pydantic import Field, ValidationError, model_validator

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, LockedError
from nightjar.features.contract.outputs import HISTORY, LAST_MOVES, LOCK, POINTER, night_of, number_of, numbered_file
from nightjar.features.contract.strict import FileName, Sha256, Strict, Version, explain

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Strict)

# The names of entries have six digits.
LAST_SEQUENCE = 999_999
# So many moves are read one by one before they are put into LAST_MOVES.
_MOVES_READ = 8


class Pointer(Strict):
    """A move of the champion pointer.

    digest: sha256 of the version's manifest. reason: who or what decided. sequence: counts the moves from 1.
    previous: sequence of the move that made the champion before, None for the first; a rollback takes it over
    from the move that it returns to. counters, counters_digest: name of the counters that it is served with, and sha256
    of their manifest; None for those that the version was packed with. judged: the version that the gate judged, where
    this one has learned the judging day on top of it. token: number of the lease that the mover held; None of a move
    without one.
    """

    version: Version
    digest: Sha256
    reason: str
    sequence: int = Field(ge=1, le=LAST_SEQUENCE)
    previous: int | None = Field(default=None, ge=1)
    counters: FileName | None = None
    counters_digest: Sha256 | None = None
    judged: Version | None = None
    token: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _leads_back(self) -> Pointer:
        """Walks back through the history end."""
        if self.previous is not None and self.previous >= self.sequence:
            raise ValueError(f"previous must be less than sequence {self.sequence}; got {self.previous}")
        return self


class LastMoves(Strict):
    """What the history says through a move, `through`. sequences: of the last move to each version, and to what it
    became by learning the day that judged it, as far as retention has left their entries.
    """

    through: Pointer
    sequences: Mapping[Version, int]


def last_move(root: str) -> Pointer | None:
    """The champion; None before the first promotion. Raises DataError if the pointer or a later move is damaged."""
    found = read(storage.join(root, POINTER), Pointer)
    while True:
        while following := read(_entry(root, found.sequence + 1 if found else 1), Pointer):
            found = following
        known = _last_moves(root)
        if known is None or (found and known.through.sequence <= found.sequence):
            return found
        found = known.through


def settled(root: str) -> Pointer | None:
    """`last_move`, after champion.json was made to say the same; for those who write."""
    last = last_move(root)
    if last and read(storage.join(root, POINTER), Pointer) != last:
        write(storage.join(root, POINTER), last)
    if last and last.sequence - _read_through(_last_moves(root)) >= _MOVES_READ:
        there = set(numbers(storage.join(root, HISTORY)))
        kept = {version: sequence for version, sequence in last_moves(root).items() if sequence in there}
        write(storage.join(root, LAST_MOVES), LastMoves(through=last, sequences=kept))
    return last


def make(root: str, move: Pointer, token: int | None) -> Pointer:
    """Make a move and let champion.json follow.

    Args:
        root: of the registry.
        move: the one after `last_move`.
        token: number of the lease that is held; None takes the last move's over.

    Raises LockedError, and nothing has moved, if another run was faster or has taken the lease over.
    """
    last = read(_entry(root, move.sequence - 1), Pointer)
    newest = last.token if last else None
    if token is not None and newest is not None and token < newest:
        raise LockedError(
            f"another run has taken over {root} and moved its pointer: its lease has the number {newest}, this run's "
            f"{token}. It ends here; the next run finds its work."
        )
    move = move.model_copy(update={"token": newest if token is None else token})
    try:
        storage.create_bytes(_entry(root, move.sequence), _json(move))
    except FileExistsError as error:
        raise LockedError(
            f"another run has moved the pointer of {root} in the same moment; this one has not. Run the same command "
            f"again."
        ) from error
    known = _last_moves(root)
    if known and known.through.sequence > move.sequence:  # in the place of a move that was removed
        raise LockedError(
            f"another run has moved the pointer of {root} while this one stood still; this one has not. Run the same "
            f"command again."
        )
    write(storage.join(root, POINTER), move)
    return move


def require_lease(root: str, token: int | None) -> None:
    """Before something is removed that another run may need by now.

    Args:
        root: of the registry.
        token: number of the lease that is held; None where nobody else can be at work.

    Raises LockedError if another run has taken the lease over, whether or not it has moved the pointer.
    """
    if token is None:
        return
    last = last_move(root)
    newest = max([(last.token if last else None) or 0, *numbers(storage.join(root, LOCK))])
    if token < newest:
        raise LockedError(
            f"another run has taken over {root}: its lease has the number {newest}, this run's {token}. It removes "
            f"nothing more and ends here; the next run finds its work."
        )


def numbers(folder: str) -> list[int]:
    """Those of the entries in a registry's lock or history, in ascending order."""
    found = []
    for name in storage.list_files(folder, ".json"):
        with suppress(ValueError):  # somebody else's file
            found.append(number_of(name))
    return sorted(found)


def last_moves(root: str) -> dict[str, int]:
    """The sequence of the last move to each version that the pointer ever stood at, or at what that became by learning
    the day that judged it; as far as entries are there and can be read.
    """
    known, last = _last_moves(root), last_move(root)
    found = dict(known.sequences) if known else {}
    through, end = _read_through(known), last.sequence if last else 0
    for sequence in range(through + 1, end + 1) if known else numbers(storage.join(root, HISTORY)):
        try:
            move = read(_entry(root, sequence), Pointer)
        except DataError as error:  # of long ago: the last one is known
            log.warning("a move of the pointer is left out: %s", error)
            continue
        if move:
            found |= dict.fromkeys(filter(None, (move.judged, move.version)), sequence)
    return found


def _last_moves(root: str) -> LastMoves | None:
    """Those that are kept, if they are of this history: it may have been restored from an older copy since."""
    try:
        known = read(storage.join(root, LAST_MOVES), LastMoves)
        while known and read(_entry(root, known.through.sequence), Pointer) != known.through:
            earlier, known = known, read(storage.join(root, LAST_MOVES), LastMoves)
            if known == earlier:  # else retention has gone on in between
                return None
        return known
    except DataError as error:  # the entries have it all
        log.warning("%s", error)
        return None


def _read_through(known: LastMoves | None) -> int:
    return known.through.sequence if known else 0


def before(root: str, current: Pointer) -> Pointer | None:
    """The move that a rollback returns to: the last of another version that was not rolled back itself."""
    return next((move for move in _back(root, current) if move.version != current.version), None)


def is_whole(root: str) -> bool:
    """Whether the line of champions goes back to the first promotion; retention may have removed its beginning."""
    last = last_move(root)
    return last is None or [last, *_back(root, last)][-1].previous is None


def outlived(root: str, published: Collection[str], since: str) -> list[str]:
    """Names of the entries that nobody asks for any more.

    These stay: the last move of LAST_MOVES and those after it; the last one to every version that is published, or of a
    night from `since` on; and the line of champions back to all of these, and one more. So what of the line is gone is
    before all that is there. The names are in order, and so must they be removed.

    Args:
        root: of the registry.
        published: versions.
        since: the first night that may be run again, YYYY-MM-DD.
    """
    known, last = _last_moves(root), last_move(root)
    if known is None or last is None:
        return []

    def is_needed(version: str) -> bool:
        return version in published or (night_of(version) or "") >= since

    kept = {sequence for version, sequence in known.sequences.items() if is_needed(version)}
    line = [last, *_back(root, last)]
    newest: dict[str, int] = {}
    for move in line:
        newest.setdefault(move.version, move.sequence)
    first = min({*kept, *(sequence for version, sequence in newest.items() if is_needed(version))}, default=0)
    through = sum(move.sequence >= first for move in line)
    kept |= {move.sequence for move in line[: through + 1]}
    there = numbers(storage.join(root, HISTORY))
    return [numbered_file(number) for number in there if number < known.through.sequence and number not in kept]


def _back(root: str, move: Pointer) -> Iterator[Pointer]:
    """The moves before one, each the `previous` of the last, as far as retention has left them."""
    while move.previous is not None:
        entry = read(_entry(root, move.previous), Pointer)
        if entry is None and move.previous < _first_kept(root):
            return
        if entry is None or entry.sequence != move.previous:
            state = "missing" if entry is None else "not the entry of that number"
            raise DataError(f"{_entry(root, move.previous)} is {state}. Promote a version by name instead.")
        yield entry
        move = entry


def read(url: str, model: type[S]) -> S | None:
    """A file of the registry; None if it is not there. Raises DataError if it is damaged."""
    try:
        return model.model_validate_json(storage.read_bytes(url))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        said = explain(error, url) if isinstance(error, ValidationError) else f"{url} cannot be read: {error}."
        raise DataError(f"{said}\nRestore it; the last entry of {HISTORY}/ holds what {POINTER} held.") from error


def write(url: str, value: Strict) -> None:
    """Write a file of the registry, at once."""
    storage.write_bytes(url, _json(value))


def _json(value: Strict) -> bytes:
    return (value.model_dump_json(indent=1) + "\n").encode()


def _entry(root: str, sequence: int) -> str:
    return storage.join(root, HISTORY, numbered_file(sequence))


def _first_kept(root: str) -> int:
    """The first entry that retention has left, those of a writer that slept too long left out; 0 if none is there.
    Only what was removed of the line is before it.
    """
    known, there = _last_moves(root), set(numbers(storage.join(root, HISTORY)))
    return min(there.intersection(known.sequences.values()) if known else there, default=0)
