"""Which segment a shopper is in, under a version: the nearest centre, unless the one before is near enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats, distances
from online_models.segment_ids import centre_index
from online_models.training_rows import Ints

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
    features = version.scaler.transform(raw)
    squared = distances(version.coordinates(raw, features), version.centres)
    nearest = chosen = squared.argmin(0)  # of equals the lower index
    if user is not None and held is not None and version.hysteresis > 0:
        nearer = (1.0 - version.hysteresis) ** 2
        chosen = _with_hysteresis(squared, nearest, user, centre_index(version.ids, held), nearer)
    every = np.arange(len(raw))
    to_chosen = squared[chosen, every]
    if len(version.ids) > 1:
        squared[chosen, every] = np.inf
    second = squared.argmin(0)
    to_second = squared[second, every]
    total = to_chosen + to_second
    margin = np.where(total > 0, (to_second - to_chosen) / np.where(total > 0, total, 1.0), 0.0)
    ids = np.array(version.ids, np.int32)
    return Assignment(ids[chosen], ids[second], margin, features)


def _with_hysteresis(squared: Floats, nearest: NDArray[np.int64], user: Ints, held: Ints, nearer: float) -> Ints:
    """Centres (n,) as users keep them: the one before where it is near enough, else the nearest.

    squared (k, n) distances; nearest (n,); held (users,) index of the centre that each user comes from, -1 for none;
    nearer: what another centre's squared distance has to fall below, as a share of that to the centre before.
    """
    near_enough = squared * nearer <= squared[nearest, np.arange(len(nearest))]
    # elsewhere only the nearest centre is near enough, and no loop is needed
    undecided = np.flatnonzero(np.count_nonzero(near_enough, axis=0) > 1)
    chosen = nearest.tolist()
    users, came_from = user.tolist(), held.tolist()
    for row in undecided.tolist():
        before = chosen[row - 1] if row and users[row - 1] == users[row] else came_from[users[row]]
        if before >= 0 and near_enough[before, row]:
            chosen[row] = before
    return np.array(chosen, np.int64)
