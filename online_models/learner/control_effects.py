"""What a control message makes of a version: the new one, or in words why not. Pure, so that a rebuild repeats it."""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.distances import Floats
from online_models.encoder import encoder as encoders
from online_models.encoder.encoder import Encoder
from online_models.learner.control_messages import ControlMessage
from online_models.learner.space_change import change_space
from online_models.lineage import Lineage
from online_models.version import Version, loads


def offered_encoder(message: ControlMessage, names: list[str], ratios: int) -> Encoder | str:
    """The encoder of a candidate, where it fits the features."""
    try:
        return encoders.loads(message.encoder, names, ratios)
    except ValueError as error:
        return str(error)


def promoted(version: Version, raw: Floats, message: ControlMessage, candidate: Encoder | None) -> Version | str:
    """The version's segments in the space that is asked for, by the people of some rows (n, 2R + L), n >= 1."""
    if message.space == "embedding":
        known = (encoder for encoder in (candidate, version.encoder) if encoder is not None)
        encoder = next((encoder for encoder in known if encoder.ident == message.ident), None)
        if encoder is None:
            return f"there is no encoder {message.ident!r} that was offered or is in use"
        if version.space == "embedding" and version.encoder == encoder:
            return "segments are made of this embedding already"
        return change_space(version, raw, "embedding", encoder)
    if version.space == "windows":
        return "segments are made of the windows already"
    return change_space(version, raw, "windows", candidate or version.encoder)


def rolled_back(version: Version, message: ControlMessage) -> Version | str:
    """The segments of a former version after this one: its centres, its ids, its space."""
    try:
        former = loads(message.version)
    except ValueError as error:
        return str(error)
    if (former.names, former.ratios) != (version.names, version.ratios):
        return f"version {former.number} is for other features"
    if former.number >= version.number:
        return f"version {former.number} does not lie before {version.number}"
    ended = np.setdiff1d(version.ids, former.ids).tolist()
    restored = np.setdiff1d(former.ids, version.ids).tolist()
    lineage = [Lineage("restored", segment) for segment in restored]
    lineage += [Lineage("retired", segment) for segment in ended]
    return msgspec.structs.replace(
        former,
        next_id=max(version.next_id, former.next_id),
        rows=version.rows,
        event_time=version.event_time,
        lineage=lineage,
    )
