"""Rows of the topic `training-rows`: what models are learned from, and what came of it. All times are ms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats

Ints = NDArray[np.int64]
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
# kinds, as stored: a row that segments are learned from; a cart or a purchase; a new user when its first day has ended
SAMPLE_ROW, OUTCOME_ROW, FIRST_DAY_ROW = range(3)
USER = np.dtype("V16")  # a pseudonym


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """n rows in log order; R ratios and L plain columns."""

    offset: Ints  # (n,)
    now: Ints  # (n,) as of when
    kind: NDArray[np.int8]  # (n,)
    user: NDArray[np.void]  # (n,) of USER
    born: Ints  # (n,) the user's first event, floored to five minutes; 0: not known
    carts: Ints  # (n,) lifetime totals, this event included
    orders: Ints  # (n,)
    sessions: Ints  # (n,)
    raw: Floats  # (n, 2R + L): R numerators, R denominators, L plain columns (state/vector.py makes them)

    def __len__(self) -> int:
        return len(self.offset)

    def take(self, selected: Ints | slice | NDArray[np.bool_]) -> TrainingRows:
        """Some of the rows, as numpy selects them."""
        return TrainingRows(**{column.name: getattr(self, column.name)[selected] for column in fields(self)})

    def pseudonyms(self) -> list[bytes]:
        """Of each row's user, 16 bytes."""
        joined, size = self.user.tobytes(), USER.itemsize
        return [joined[start : start + size] for start in range(0, len(joined), size)]


def join(parts: Sequence[TrainingRows]) -> TrainingRows:
    """Parts, at least one, as a whole."""
    columns = {name.name: [getattr(part, name.name) for part in parts] for name in fields(TrainingRows)}
    return TrainingRows(**{name: np.concatenate(column) for name, column in columns.items()})
