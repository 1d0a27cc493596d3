"""Which segment a shopper is in, under a version: the nearest centre, unless the one before is near enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats, centre_columns, distances_of
from online_models.segment_ids import centre_index
from online_models.training_rows import Ints
from state.compiled import compiled

if TYPE_CHECKING:
    from online_models.version import Version


@dataclass(frozen=True, slots=True)
class Assignment:
    """Of n rows."""

    segment: NDArray[np.int32]  # (n,) id
    runner_up: NDArray[np.int32]  # (n,) id of the nearest other segment; of the same one where there is only one
    margin: Floats  # (n,) in [-1, 1]: how much farther the runner-up is; below 0 where hysteresis holds the user
    features: Floats  # (n, F) by the version's scaler


def assign(version: Version, raw: Floats, user: Ints | None = None, held: Ints | None = None) -> Assignment:
    """Segments of a raw matrix (n, 2R + L).

    A user stays in the segment of the row before unless another centre is nearer by more than the version's
    hysteresis. A row's answer depends on no other rows but those of the same user before it.

    user (n,): index of each row's user, ascending, a user's rows in their order; held (users,): id of the segment that
    each user comes from, -1 for none. Without them each row is assigned by itself, to the nearest centre.
    """
    n, features = len(raw), version.scaler.transform(raw)
    points = version.coordinates(raw, features)
    if user is not None and held is not None and version.hysteresis > 0:
        came_from = centre_index(version.ids, held)
    else:
        user, came_from = np.arange(n), np.full(n, -1)
    chosen, runner_up, margin = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n)
    _choose(
        np.ascontiguousarray(points),
        centre_columns(version.centres),
        np.ascontiguousarray(user),
        came_from,
        (1.0 - version.hysteresis) ** 2,
        chosen,
        runner_up,
        margin,
    )
    ids = np.array(version.ids, np.int32)
    return Assignment(ids[chosen], ids[runner_up], margin, features)


@compiled
def _choose(
    points: Floats,
    columns: Floats,
    user: Ints,
    came_from: Ints,
    shrink: float,
    chosen: Ints,
    runner_up: Ints,
    margin: Floats,
) -> None:
    """Set chosen (n,) to the centre of each row: the one before where it is near enough, else the nearest; runner_up
    (n,) to the nearest other centre, and margin (n,) to how much farther it is.

    points (n, D); columns (D, k): of the centres; user (n,); came_from (users,): index of the centre that each user
    comes from, -1 for none; shrink: what the squared distance to the centre before is multiplied by, (1 - hysteresis)
    squared.
    """
    squared = np.empty(columns.shape[1])
    for row in range(len(points)):
        distances_of(points, row, columns, squared)
        before = came_from[user[row]]
        if row and user[row - 1] == user[row]:
            before = chosen[row - 1]
        nearest = _nearest(squared, -1)
        stays = before >= 0 and squared[before] * shrink <= squared[nearest]
        mine = before if stays else nearest
        other = _nearest(squared, mine) if len(squared) > 1 else mine
        total = squared[mine] + squared[other]
        chosen[row], runner_up[row] = mine, other
        margin[row] = (squared[other] - squared[mine]) / total if total > 0 else 0.0


@compiled
def _nearest(squared: Floats, but: int) -> int:
    """The nearest centre but one (-1: of all); of equals the lower index."""
    found = -1
    for centre in range(len(squared)):
        if centre != but and (found < 0 or squared[centre] < squared[found]):
            found = centre
    return found
