"""A version's segments carried over into another space: from the windows into an embedding, and back.

Ids stay with their people: each segment's centre goes to the mean of its people there, then moves as at any refit.
"""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.clustering.refit import means, refit
from online_models.distances import Floats, distances
from online_models.encoder.encoder import Encoder
from online_models.evaluation.promotion import Contender
from online_models.evaluation.scoring import mean
from online_models.outcomes import Outcomes
from online_models.training_rows import Ints, Rows
from online_models.version import Space, Version, assign, index


def cross(version: Version, raw: Floats, space: Space, encoder: Encoder | None) -> Version:
    """The version with its centres in a space, by the people of some rows (n, 2R + L), n >= 1.

    encoder: of the embedding; the version goes on with it in any case. Profiles, weights and the error are those of
    the rows under the new centres. ValueError where there is no encoder to make an embedding with.
    """
    if space == "embedding" and encoder is None:
        raise ValueError("no encoder to make an embedding with")
    judged = assign(version, raw)
    before = index(version.ids, judged.segment.astype(np.int64)).astype(np.int32)
    there = msgspec.structs.replace(version, space=space, encoder=encoder)
    lines = there.place(raw, judged.features)
    centres = refit(lines, before, len(version.ids))
    distance = distances(lines, centres)
    label = distance.argmin(0)
    there = msgspec.structs.replace(there, lineage=[], centre_bytes=centres.astype("<f8").tobytes())
    return described(there, judged.features, label, distance[label, np.arange(len(label))], version.profile)


def described(version: Version, features: Floats, label: Ints, distance: Floats, nobody: Floats) -> Version:
    """With what its people are like: profile, weights and error.

    Of n people features (n, F), centre label (n,) with -1 for none, squared distance (n,); nobody (k, F) or (F,): the
    profile of a segment without people.
    """
    profile, count = means(features, label, len(version.ids))
    profile = np.where(count[:, None] > 0, profile, nobody)
    return msgspec.structs.replace(
        version, profile_bytes=profile.astype("<f8").tobytes(), weights=(count / max(1, count.sum())).tolist(),
        error=mean(distance),
    )  # fmt: skip


def contender(name: str, version: Version, rows: Rows, came: Outcomes) -> Contender:
    """What a version makes of the ROWs among some rows: each user's in their order, held as its hysteresis says."""
    mine = rows.take(came.at)
    user = np.unique(mine.user, return_inverse=True)[1].reshape(-1)
    order = np.argsort(user, kind="stable")
    judged = assign(version, mine.raw[order], user[order], np.full(int(user.max(initial=-1)) + 1, -1))
    segment = np.empty(len(order), np.int64)
    segment[order] = index(version.ids, judged.segment.astype(np.int64))
    lines = np.empty((len(order), version.centres.shape[1]))
    lines[order] = version.place(mine.raw[order], judged.features)
    return Contender(name, version.space, list(version.ids), version.centres, lines, segment)
