"""What an order makes of a version: the new one, or in words why not. Pure, so that a rebuild repeats it."""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.distances import Floats
from online_models.encoder.encoder import Encoder, loads
from online_models.learner.control_messages import Order
from online_models.learner.space_change import cross
from online_models.lineage import Lineage
from online_models.version import Version
from online_models.version import loads as version_of


def offered(order: Order, names: list[str], ratios: int) -> Encoder | str:
    """The encoder of a candidate that fits the features."""
    try:
        return loads(order.encoder, names, ratios)
    except ValueError as error:
        return str(error)


def promoted(version: Version, raw: Floats, order: Order, candidate: Encoder | None) -> Version | str:
    """The version's segments in the space that is ordered, by the people of some rows (n, 2R + L), n >= 1."""
    encoder = next((one for one in (candidate, version.encoder) if one is not None and one.ident == order.ident), None)
    if order.space == "embedding":
        if encoder is None:
            return f"there is no encoder {order.ident!r} that was offered or is in use"
        if version.space == "embedding" and version.encoder == encoder:
            return "segments are made of this embedding already"
        return cross(version, raw, "embedding", encoder)
    if version.space == "windows":
        return "segments are made of the windows already"
    return cross(version, raw, "windows", candidate or version.encoder)


def restored(version: Version, order: Order) -> Version | str:
    """The segments of a former version after this one: its centres, its ids, its space."""
    try:
        former = version_of(order.version)
    except ValueError as error:
        return str(error)
    if (former.names, former.ratios) != (version.names, version.ratios):
        return f"version {former.number} is for other features"
    if former.number >= version.number:
        return f"version {former.number} does not lie before {version.number}"
    gone, back = (
        np.setdiff1d(a, b).tolist() for a, b in ((version.ids, former.ids), (former.ids, version.ids))
    )
    lineage = [Lineage("restored", one) for one in back] + [Lineage("retired", one) for one in gone]
    return msgspec.structs.replace(
        former, next_id=max(version.next_id, former.next_id), rows=version.rows, event_time=version.event_time,
        lineage=lineage,
    )  # fmt: skip
