"""A row remembers its newest ids."""

import numpy as np

from state.recent_ids import remember


def test_the_oldest_is_forgotten() -> None:
    recent = np.zeros(3, np.uint64)
    new = [remember(recent, np.uint64(ident)) for ident in (5, 6, 5, 7, 8, 5, 0)]
    assert new == [True, True, False, True, True, True, False]
    assert recent.tolist() == [5, 8, 7]
