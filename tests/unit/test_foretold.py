"""What versions say of users to come: refused where it is damaged, carried by changes, shown in tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from online_models.version import dumps, loads
from state import vector
from tests.build import foretelling, version

MODEL = foretelling(version(1, 3))
NAN = float("nan")
WIDTH = len(vector.NAMES)


def test_a_version_that_foretells_is_read_as_it_was_written() -> None:
    assert loads(dumps(MODEL)) == msgspec.structs.replace(MODEL, checksum=loads(dumps(MODEL)).checksum)


def damaged(**changes: Any) -> Any:
    """The version with parts of its models (young__nodes__left) set, or put through a function."""
    whole = msgspec.to_builtins(MODEL)
    for path, value in changes.items():
        *way, last = path.split("__")
        part = whole
        for name in way:
            part = part[int(name) if name.isdigit() else name]
        part[last] = value(part[last]) if callable(value) else value
    return msgspec.convert(whole, type(MODEL))


def at(i: int, value: float) -> Callable[[list[Any]], list[Any]]:
    return lambda column: [*column[:i], value, *column[i + 1 :]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"young__root": [0, 1]}, "different lengths"),
        ({"young__stayed": at(0, NAN)}, "share"),
        ({"young__stay": -0.1}, "share"),
        ({"young__segment": [0, 1, 3, 2]}, "ascend"),
        ({"young__segment": [-1, 1, 2, 3]}, "ascend"),
        ({"young__segment": [0, 1, 2, 4]}, "never were"),
        ({"young__root": at(2, 12)}, "root"),
        ({"young__root": at(2, -1)}, "root"),
        ({"young__nodes__left": lambda column: column[:-1]}, "different lengths"),
        ({"young__nodes__threshold": at(0, NAN)}, "finite"),
        ({"young__nodes__feature": at(0, WIDTH)}, f"feature {WIDTH} of {WIDTH}"),
        ({"young__nodes__feature": at(0, -2)}, "feature -2"),
        ({"young__nodes__left": at(3, 3)}, "branches of 3"),
        ({"young__nodes__right": at(3, 0)}, "branches of 3"),
        ({"young__nodes__right": at(3, 12)}, "branches of 3"),
        ({"young__nodes__left": at(3, 1 << 63)}, "branches of 3"),
        ({"young__nodes__label": at(1, 4)}, "leaf 1"),
        ({"young__nodes__label": at(1, -1)}, "leaf 1"),
        ({"young__nodes__label": at(0, 1 << 63)}, "branches of 0"),
        ({"young__nodes__probability": at(1, 1.5)}, "leaf 1"),
        ({"young__trees__value": []}, "trees: the probabilities"),
        ({"young__trees__value": [0.5, 0.4]}, "trees: the probabilities"),
        ({"young__staying__value": [0.5, NAN]}, "staying: the probabilities"),
        ({"young__staying__value": [0.5, 1.5]}, "staying: the probabilities"),
        ({"young__trees__high": 0.0}, "scores from 0.0 to 0.0"),
        ({"young__trees__low": float("-inf")}, "scores from -inf"),
        ({"propensity__ratios": 3}, "3 heads over 3 ratios"),
        ({"propensity__heads": [None]}, "1 heads"),
        ({"propensity__heads__0__weight": [1.0]}, "purchase_visit is not for lines"),
        ({"propensity__heads__2__mean": at(0, NAN)}, "cart has a weight that is no finite"),
        ({"propensity__heads__2__deviation": at(0, -1.0)}, "cart has a deviation"),
        ({"propensity__heads__2__length": 0.0}, "cart has a deviation or a length"),
        ({"propensity__heads__2__calibration__value": []}, "cart: the probabilities"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        loads(dumps(damaged(**changes)))
