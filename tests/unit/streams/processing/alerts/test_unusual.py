"""The rule `unusual`."""

from __future__ import annotations

import msgspec
import numpy as np

from state import features
from streams.processing.alerts.registry import AlertSettings
from tests.build import random_encoder, version
from tests.support.alerting import alerts, event


def test_it_says_how_badly_the_encoder_reconstructs_a_user() -> None:
    events = [event("odd", i * 1000, "add_to_cart" if i % 2 else "view", 9.0) for i in range(20)]
    encoder = random_encoder(3)
    high = float(encoder.unusual(np.zeros((1, 2 * features.R + len(features.PLAIN))))[0])
    model = msgspec.structs.replace(version(1, 1), encoder=encoder)
    low = AlertSettings(unusual=(high / 1e6, 1e9))
    found = alerts(events, low, model=model)
    assert [(a["rule"], a["status"], a["severity"]) for a in found] == [("unusual", "open", "warning")]
    assert found[0]["evidence"]["reconstruction_error"] > 0
    assert alerts(events, AlertSettings(unusual=(1e8, 1e9)), model=model) == []
    assert alerts(events, low, model=version(1, 1)) == []  # no encoder yet
    assert alerts(events, AlertSettings(unusual=None), model=model) == []
