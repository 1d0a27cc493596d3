"""A batch of ids answers as a loop over them would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from state.recent_ids import first_sights


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14)), max_size=60),
    st.lists(st.integers(1, 14), max_size=4, unique=True),
    st.sampled_from([3, 8]),
)
def test_equals_a_loop(events: list[tuple[int, int]], old: list[int], size: int) -> None:
    events.sort(key=lambda event: event[0])
    row = np.array([r for r, _ in events], np.int64)
    ids = np.array([x for _, x in events], np.uint64)
    recent = np.zeros((4, size), np.uint64)
    recent[:, : len(old[:size])] = old[:size]
    memory = {r: recent[r].tolist() for r in range(4)}
    expected = []
    for r, x in events:
        new = x != 0 and x not in memory[r]
        expected.append(new)
        if new:
            memory[r] = [x, *memory[r][:-1]]
    assert first_sights(row, ids, recent).tolist() == expected
    assert recent.tolist() == [memory[r] for r in range(4)]
