"""Times as text or numbers to epoch milliseconds; whole columns at once where the form is a common one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

BAD = -1
LAST = 253_402_300_800_000  # ms, the year 10000
_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?( ?UTC|[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# positions of digits and of what stands between them in 2016-08-01T07:00:12.000Z
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


def to_ms(values: Sequence[object]) -> NDArray[np.int64]:
    """Epoch ms of each value, BAD (-1) where it is none: RFC 3339 text (a blank for the T and UTC for the Z
    are taken too), or whole epoch milliseconds, from 1970 to 9999; finer fractions are cut off."""
    kinds = set(map(type, values))
    lengths = set(map(len, values)) if kinds == {str} else set()  # type: ignore[arg-type]
    if len(lengths) == 1 and (width := lengths.pop()) in (20, 23, 24):
        try:
            text = "".join(values).encode("ascii")  # type: ignore[arg-type]
        except UnicodeEncodeError:
            return np.array([_parse(v) for v in values], np.int64)
        times, good = _fixed(np.frombuffer(text, np.uint8).reshape(len(values), width), width)
        for i in np.flatnonzero(~good).tolist():
            times[i] = _parse(values[i])
        return times
    if kinds == {int}:
        with suppress(OverflowError):
            whole = np.array(values, np.int64)
            return np.where((whole >= 0) & (whole < LAST), whole, BAD)
    return np.array([_parse(v) for v in values], np.int64)


def _fixed(text: NDArray[np.uint8], width: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times of texts (n, width) in UTC with fields at fixed positions, and which of them have that form, (n,) each."""
    digits = text[:, _DIGITS] - np.uint8(48)  # anything but a digit wraps above 9
    good = (digits <= 9).all(1)
    good &= (text[:, 4] == 45) & (text[:, 7] == 45) & (text[:, 13] == 58) & (text[:, 16] == 58)
    good &= (text[:, 10] == 84) | (text[:, 10] == 32)
    fraction = np.zeros(len(text), np.int64)
    if width == 24:
        part = text[:, 20:23] - np.uint8(48)
        good &= (part <= 9).all(1) & (text[:, 19] == 46) & (text[:, 23] == 90)
        fraction = part.astype(np.int64) @ np.array([100, 10, 1])
    elif width == 20:
        good &= text[:, 19] == 90
    else:
        good &= (text[:, 19:] == np.frombuffer(b" UTC", np.uint8)).all(1)
    d = digits.astype(np.int64)
    year = d[:, 0] * 1000 + d[:, 1] * 100 + d[:, 2] * 10 + d[:, 3]
    month, day = d[:, 4] * 10 + d[:, 5], d[:, 6] * 10 + d[:, 7]
    hour, minute, second = d[:, 8] * 10 + d[:, 9], d[:, 10] * 10 + d[:, 11], d[:, 12] * 10 + d[:, 13]
    good &= (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60) & (year >= 1970)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= (day >= 1) & (day <= _DAYS[np.where(good, month, 0)] + (leap & (month == 2)))
    # days since the epoch in the proleptic Gregorian calendar, years counted from March
    y = year - (month <= 2)
    days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719_468
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + fraction, good


def _parse(value: object) -> int:
    """One value, whatever its form."""
    if type(value) is int:
        return value if 0 <= value < LAST else BAD
    if type(value) is not str or not _FORM.fullmatch(value):
        return BAD
    try:
        when = datetime.fromisoformat(re.sub(r" ?UTC$", "Z", value).upper())
    except ValueError:
        return BAD
    ms = (when - _EPOCH) // timedelta(milliseconds=1)
    return ms if 0 <= ms < LAST else BAD
