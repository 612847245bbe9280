"""What is odd about a key, judged by its days: each finding with the numbers it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import sqrt
from statistics import median
from typing import Literal, NamedTuple

import msgspec

Code = Literal["spike", "error_burst", "dormant", "reactivated", "unexpected_environment"]
Severity = Literal["info", "warning", "critical"]

#: So many days before today are compared with it.
COMPARED_DAYS = 28
#: A spike needs so many earlier days of its kind, so many calls, and so many times the median.
SPIKE_DAYS, SPIKE_CALLS, SPIKE_TIMES, SPIKE_SPREADS = 6, 20, 3, 6
#: A burst of errors needs so many calls, such a rate, and so many times the earlier rate.
BURST_CALLS, BURST_RATE, BURST_TIMES = 100, 0.1, 3
#: A key sleeps after so many days without a call; one that was never used, after so many since it was made.
DORMANT_DAYS, UNUSED_DAYS = 90, 30
#: A key that is used after so many days without a call is back.
AWAY_DAYS = 30

#: Makes a median deviation comparable with a standard deviation.
_MAD_TO_SIGMA = 1.4826


class Day(NamedTuple):
    """What a key did on a day."""

    calls: int
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDays:
    """What flags are judged by.

    Attributes:
        today: the customer's local day.
        days: the days with calls, from `COMPARED_DAYS` before today on.
        known_since: since when the key exists, or was first seen; no earlier day is compared.
        previous_activity: the last day with a call before today; None if there is none.
        environment: the key's own; `environments`: how many of today's calls said which.
    """

    today: date
    days: Mapping[date, Day] = field(default_factory=dict)
    known_since: date | None = None
    previous_activity: date | None = None
    environment: str | None = None
    environments: Mapping[str, int] = field(default_factory=dict)

    @property
    def now(self) -> Day:
        """Today so far."""
        return self.days.get(self.today, Day(0))

    @property
    def earlier(self) -> Sequence[tuple[date, Day]]:
        """The days before today that are compared, those without calls among them."""
        found = ((self.today - timedelta(back)) for back in range(1, COMPARED_DAYS + 1))
        return [(day, self.days.get(day, Day(0))) for day in found if self.known_since is None or day >= self.known_since]


class KeyFlag(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is odd about a key.

    Attributes:
        value: what was found.
        baseline: what it was compared with; None where with nothing.
        since: the day it is about.
        message: a sentence for a person.
    """

    code: Code
    severity: Severity
    value: float
    baseline: float | None
    since: str
    message: str


def flags(key: KeyDays) -> list[KeyFlag]:
    """All that is odd about a key, the most urgent first."""
    order = ("critical", "warning", "info")
    return sorted(_found(key), key=lambda flag: order.index(flag.severity))


def _found(key: KeyDays) -> Iterator[KeyFlag]:
    for judge in (_spike, _error_burst, _dormant, _reactivated, _unexpected_environment):
        flag = judge(key)
        if flag is not None:
            yield flag


def _spike(key: KeyDays) -> KeyFlag | None:
    """Today against the earlier days of its kind: workdays with workdays, weekends with weekends."""
    same = [day.calls for at, day in key.earlier if (at.weekday() >= 5) == (key.today.weekday() >= 5)]
    calls = key.now.calls
    if len(same) < SPIKE_DAYS or calls < SPIKE_CALLS:
        return None
    usual = median(same)
    deviation = median(abs(each - usual) for each in same)
    spread = max(_MAD_TO_SIGMA * deviation, sqrt(max(usual, 1)), 0.1 * usual)
    if calls < SPIKE_TIMES * usual or calls <= usual + SPIKE_SPREADS * spread:
        return None
    message = f"{calls:,} calls today; usual for such a day are {usual:,g}."
    return _flag("spike", "warning", calls, usual, key.today, message)


def _error_burst(key: KeyDays) -> KeyFlag | None:
    calls, errors = key.now
    if calls < BURST_CALLS or errors < BURST_RATE * calls:
        return None
    before_calls = sum(day.calls for _, day in key.earlier)
    usual = sum(day.errors for _, day in key.earlier) / before_calls if before_calls else 0.0
    rate = errors / calls
    if rate < BURST_TIMES * usual:
        return None
    message = f"{rate:.1%} of the calls today failed; in the weeks before, {usual:.1%} did."
    return _flag("error_burst", "critical", rate, usual, key.today, message)


def _dormant(key: KeyDays) -> KeyFlag | None:
    last, limit = (key.previous_activity, DORMANT_DAYS) if key.previous_activity else (key.known_since, UNUSED_DAYS)
    if key.now.calls or last is None:
        return None
    quiet = (key.today - last).days
    if quiet < limit:
        return None
    message = f"No call for {quiet} days." if key.previous_activity else f"Never used since it was made {quiet} days ago."
    return _flag("dormant", "info", quiet, limit, last, message)


def _reactivated(key: KeyDays) -> KeyFlag | None:
    if not key.now.calls or key.previous_activity is None:
        return None
    quiet = (key.today - key.previous_activity).days
    if quiet <= AWAY_DAYS:
        return None
    message = f"Used again today; the last call before was {quiet} days ago."
    return _flag("reactivated", "warning", quiet, AWAY_DAYS, key.today, message)


def _unexpected_environment(key: KeyDays) -> KeyFlag | None:
    if key.environment is None:
        return None
    others = {name: calls for name, calls in key.environments.items() if calls and name not in (key.environment, "(none)")}
    calls = sum(others.values())
    if not calls:
        return None
    names = ", ".join(sorted(others))
    message = f"{calls:,} calls today said they are of {names}; the key is of {key.environment}."
    return _flag("unexpected_environment", "warning", calls, None, key.today, message)


def _flag(code: Code, severity: Severity, value: float, baseline: float | None, since: date, message: str) -> KeyFlag:
    return KeyFlag(code=code, severity=severity, value=value, baseline=baseline, since=since.isoformat(), message=message)
