"""The numbers and times in the values of a record, compiled."""

from __future__ import annotations

import numpy as np

from state.compiled import compiled
from streams.schemas.scan.fields import MINUS, NINE, POINT, TEXT, WHOLE, ZERO
from streams.schemas.scan.words import Words, byte_at
from streams.schemas.timestamps import LAST

DIGITS = 15  # a double holds every whole number of so many digits
NO_TIME = -1
_POWERS_OF_TEN = 10.0 ** np.arange(DIGITS + 1)  # exact
_DAYS_OF_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@compiled
def whole(words: Words, begin: int, end: int) -> int:
    """A whole number of at most DIGITS digits."""
    negative = byte_at(words, begin) == MINUS
    value = 0
    for place in range(begin + negative, end):
        value = value * 10 + byte_at(words, place) - ZERO
    return -value if negative else value


@compiled
def decimal(words: Words, begin: int, end: int) -> float:
    """The double nearest to a number of at most DIGITS digits.

    Doubles hold the digits, as a whole number, and the power of ten exactly, so one division rounds once.
    """
    negative = byte_at(words, begin) == MINUS
    value, decimals, behind_point = 0, 0, False
    for place in range(begin + negative, end):
        byte = byte_at(words, place)
        if byte == POINT:
            behind_point = True
        else:
            value = value * 10 + byte - ZERO
            decimals += behind_point
    nearest = float(value) / _POWERS_OF_TEN[decimals]
    return -nearest if negative else nearest


@compiled
def read_time(words: Words, kind: int, begin: int, end: int) -> int:
    """A value of a kind as a time in epoch ms; NO_TIME where it is none, or not in one of the common forms."""
    if kind == TEXT:
        return _read_date(words, begin, end - begin)
    if kind != WHOLE or end - begin > DIGITS:
        return NO_TIME
    time = whole(words, begin, end)
    return time if 0 <= time < LAST else NO_TIME


@compiled
def _read_date(words: Words, begin: int, size: int) -> int:
    """2016-08-01T07:00:12Z, 2016-08-01T07:00:12.000Z or 2016-08-01T07:00:12 UTC, with T or a blank, as epoch ms."""
    if size != 20 and size != 23 and size != 24:
        return NO_TIME
    between = byte_at(words, begin + 10)
    if between != ord("T") and between != ord(" "):
        return NO_TIME
    if byte_at(words, begin + 4) != MINUS or byte_at(words, begin + 7) != MINUS:
        return NO_TIME
    if byte_at(words, begin + 13) != ord(":") or byte_at(words, begin + 16) != ord(":"):
        return NO_TIME
    ms = _read_fraction_and_zone(words, begin + 19, size - 19)
    year, month, day = _digits(words, begin, 4), _digits(words, begin + 5, 2), _digits(words, begin + 8, 2)
    hour, minute, second = _digits(words, begin + 11, 2), _digits(words, begin + 14, 2), _digits(words, begin + 17, 2)
    if min(ms, hour, minute, second) < 0 or hour > 23 or minute > 59 or second > 59:
        return NO_TIME
    if year < 1970 or not 1 <= month <= 12:
        return NO_TIME
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _DAYS_OF_MONTH[month] + (is_leap and month == 2):
        return NO_TIME
    # days since the epoch in the proleptic Gregorian calendar, years counted from March
    year -= month <= 2
    days = 365 * year + year // 4 - year // 100 + year // 400
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719_468
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms


@compiled
def _read_fraction_and_zone(words: Words, begin: int, size: int) -> int:
    """The milliseconds of Z, .000Z or UTC behind a blank; below 0 where it is none of these."""
    if size == 1:
        return 0 if byte_at(words, begin) == ord("Z") else -1
    if size == 5:
        whole = byte_at(words, begin) == POINT and byte_at(words, begin + 4) == ord("Z")
        return _digits(words, begin + 1, 3) if whole else -1
    first, second = byte_at(words, begin) == ord(" "), byte_at(words, begin + 1) == ord("U")
    return (
        0
        if first and second and byte_at(words, begin + 2) == ord("T") and byte_at(words, begin + 3) == ord("C")
        else -1
    )


@compiled
def _digits(words: Words, begin: int, count: int) -> int:
    """The number that so many digits make; below 0 where one of them is no digit."""
    value = 0
    for place in range(begin, begin + count):
        byte = byte_at(words, place)
        if not ZERO <= byte <= NINE:
            return -1
        value = value * 10 + byte - ZERO
    return value
