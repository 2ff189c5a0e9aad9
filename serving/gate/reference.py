"""The reference: an older model that a candidate must be no worse than, so that small losses do not add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightjar.serving.gate.decision import GateConfig, Reference


def choose_reference(config: GateConfig, history: Sequence[tuple[str, date]], judged: date) -> Reference | None:
    """What a night's candidate is compared with beside the champion, i.e. beside the last of `history`.

    The pinned version, if there is one. Else the model that was champion at the end of the night `reference_days`
    before the judged day; where the history begins later, the first champion that there was. None if that is the
    champion itself, if there is no champion or if no reference is wanted.

    Args:
        config: reference and reference_days.
        history: version and night of every move of the pointer before the judged night's own, in order.
        judged: the night whose model is judged.
    """
    if not history:
        return None
    champion, _ = history[-1]
    if config.reference is not None:
        return None if config.reference == champion else Reference(version=config.reference)
    if not config.reference_days:
        return None
    last_night = judged - timedelta(config.reference_days)
    old = [move for move in history if move[1] <= last_night]
    version, night = old[-1] if old else history[0]
    days = config.reference_days if old else (judged - night).days
    return None if version == champion or days < 1 else Reference(version=version, days=days)
