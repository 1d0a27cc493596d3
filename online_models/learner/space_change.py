"""A version's segments carried over into another space: from the windows' features into an embedding, and back.

Ids stay with their people: each segment's centre goes to the mean of its people there, then moves as at any refit.
"""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.assignment import assign
from online_models.clustering.refit import label_means, refit
from online_models.distances import Floats, distances, mean
from online_models.encoder.encoder import Encoder
from online_models.segment_ids import centre_index
from online_models.training_rows import Ints
from online_models.version import Space, Version


def change_space(version: Version, raw: Floats, space: Space, encoder: Encoder | None) -> Version:
    """The version with its centres in a space, by the people of some rows (n, 2R + L), n >= 1.

    encoder: of the embedding; the version goes on with it in any case. Profiles, weights and the error are those of
    the rows under the new centres. ValueError where there is no encoder to make an embedding with.
    """
    if space == "embedding" and encoder is None:
        raise ValueError("no encoder to make an embedding with")
    assigned = assign(version, raw)
    before = centre_index(version.ids, assigned.segment.astype(np.int64)).astype(np.int32)
    changed = msgspec.structs.replace(version, space=space, encoder=encoder, lineage=[])
    points = changed.coordinates(raw, assigned.features)
    centres = refit(points, before, len(version.ids))
    squared = distances(points, centres)
    label = squared.argmin(0)
    changed = msgspec.structs.replace(changed, centre_bytes=centres.astype("<f8").tobytes())
    to_centre = squared[label, np.arange(len(label))]
    return with_description(changed, assigned.features, label, to_centre, version.profile)


def with_description(version: Version, features: Floats, label: Ints, squared: Floats, without: Floats) -> Version:
    """The version with what its people are like: profile, weights and error.

    Of n people features (n, F), index of the centre (n,) with -1 for none, squared distance to it (n,); without (k, F)
    or (F,): the profile of a segment without people.
    """
    profile, count = label_means(features, label, len(version.ids))
    profile = np.where(count[:, None] > 0, profile, without)
    return msgspec.structs.replace(
        version,
        profile_bytes=profile.astype("<f8").tobytes(),
        weights=(count / max(1, count.sum())).tolist(),
        error=mean(squared),
    )
