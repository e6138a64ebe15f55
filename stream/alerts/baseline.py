"""What a series of counts leads one to expect, and how unlikely a count is.

A count of a window is taken as negative binomial: a Poisson that varies more than it should.
Its level is a mean of the recent windows in which outliers are pulled in to three robust
deviations (a plain median is 0 for a series of few counts), its season the ratio of the same
hour of the week, or of the day, to those hours; both are pulled towards "no difference" while
little is known. Invariant: `fit` depends on the windows given and on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Outliers are pulled in to so many robust standard deviations.
_WINSOR: Final = 3.0
#: From the median absolute deviation to the standard deviation of a normal distribution.
_MAD_TO_SD: Final = 1.4826
#: A series is taken to vary by a fifth (0.2^2) around its level beyond Poisson until it has
#: shown in as many windows as this that it varies more or less.
_PRIOR_DISPERSION: Final = 0.04
_PRIOR_WINDOWS: Final = 20.0
#: No stream of people is steadier than this (7 % around its level).
_LEAST_DISPERSION: Final = 0.005
#: Weeks after which an hour of the week counts as much as no season at all.
_PRIOR_WEEKS: Final = 1.0
_HOURS_OF_WEEK: Final = 168


@dataclass(frozen=True, slots=True)
class Baseline:
    """The level per unit of exposure, how much it varies, and on how many windows that rests."""

    level: float
    dispersion: float
    windows: int

    def expected(self, exposure: float = 1.0, season: float = 1.0) -> float:
        """The count to be expected."""
        return self.level * exposure * season

    def tails(self, count: int, expected: float) -> tuple[float, float]:
        """P(a count this low or lower), P(this high or higher), the level's own error included."""
        mean = max(expected, 1e-9)
        # Relative variance of the mean that the level is: it was learnt from so many windows.
        error = (1.0 / max(self.level, mean, 1e-9) + self.dispersion) / max(self.windows, 1)
        return negative_binomial_tails(count, mean, self.dispersion + error)


def fit(counts: NDArray[np.float64], exposures: NDArray[np.float64]) -> Baseline:
    """The baseline of these windows; those without exposure say nothing.

    Args:
        counts: one number a window, at least 0.
        exposures: by window what the count is in proportion to; all 1 for a plain count.
    """
    known = exposures > 0
    counts, exposures = counts[known], exposures[known]
    number = len(counts)
    if not number:
        return Baseline(0.0, _PRIOR_DISPERSION, 0)
    middle = _median(counts / exposures)
    means = middle * exposures
    deviation = _MAD_TO_SD * _median(np.abs(counts - means))
    cap = means + _WINSOR * np.maximum(deviation, np.sqrt(means + 1.0))
    tamed = np.minimum(counts, cap)
    level = float(tamed.sum() / exposures.sum())
    means = level * exposures
    squares = float((means**2).sum())
    dispersion = _PRIOR_DISPERSION
    if squares > 0:
        excess = (tamed - means) ** 2 - means
        moment = float(excess.sum()) / squares
        mean = _median(means)
        robust = (deviation**2 - mean) / mean**2 if mean > 1 else 0.0
        # The prior weighs more where windows are small: they tell little about dispersion.
        telling = number * min(1.0, mean / 10.0)
        shown = max(moment, robust, 0.0)
        # One standard error up: a tail that is too light costs false alerts, one too heavy little.
        shown *= 1.0 + math.sqrt(2.0 / max(number, 2))
        dispersion = (telling * shown + _PRIOR_WINDOWS * _PRIOR_DISPERSION) / (
            telling + _PRIOR_WINDOWS
        )
    return Baseline(level, max(dispersion, _LEAST_DISPERSION), number)


def _median(values: NDArray[np.float64]) -> float:
    """The median of a few numbers; `np.median` spends ten times as long getting ready."""
    ordered = np.sort(values)
    middle = len(ordered) // 2
    low = ordered[middle if len(ordered) % 2 else middle - 1]
    return float(low + ordered[middle]) / 2.0


def season(hours: dict[int, float], now_hour: int, level_hours: list[int]) -> float:
    """How the hour `now_hour` compares with the hours in which the level was learnt.

    Args:
        hours: mean count of past hours, by hours since the epoch, without those of the level.
        now_hour: the hour to come.
        level_hours: the hours the level comes from.

    The ratio is that of the same hours of the week where weeks are known, of the same hours of
    the day where only days are, and is pulled towards 1 while there are few of either.
    """
    if not hours or not level_hours:
        return 1.0
    ratio = 1.0
    for cycle in (24, _HOURS_OF_WEEK):  # the day first: the week then corrects it
        there = _same(hours, now_hour, cycle)
        here = [value for hour in level_hours for value in _same(hours, hour, cycle)]
        if not there or not here:
            continue
        seen = (float(np.median(there)) + 0.5) / (float(np.median(here)) + 0.5)
        cycles = min(len(there), len(here) / len(level_hours))
        weight = cycles / (cycles + _PRIOR_WEEKS * (1 if cycle == _HOURS_OF_WEEK else 2))
        ratio = ratio ** (1 - weight) * seen**weight
    return min(max(ratio, 0.1), 10.0)


def _same(hours: dict[int, float], hour: int, cycle: int) -> list[float]:
    return [value for h, value in hours.items() if (h - hour) % cycle == 0]


def negative_binomial_tails(count: int, mean: float, dispersion: float) -> tuple[float, float]:
    """P(X <= count) and P(X >= count), where X has variance mean + dispersion * mean^2.

    By the regularised incomplete beta function: P(X >= k) = I_q(k, r), r = 1 / dispersion and
    q = mean / (mean + r) (Abramowitz and Stegun 26.5.26).
    """
    size = min(1.0 / max(dispersion, 1e-9), 1e9)
    q = mean / (mean + size)
    upper = 1.0 if count <= 0 else _beta_share(float(count), size, q)
    lower = 0.0 if count < 0 else _beta_share(size, count + 1.0, 1.0 - q)
    return min(lower, 1.0), min(upper, 1.0)


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), small values exact relative to themselves."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(min(0.0, log_front + math.log(_fraction(a, b, x) / a)))
    return 1.0 - math.exp(min(0.0, log_front + math.log(_fraction(b, a, 1.0 - x) / b)))


def _fraction(a: float, b: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction of the incomplete beta function (A&S 26.5.8)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1.0 + even * d, 1.0 + even / c
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = c if abs(c) > tiny else tiny
        result *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1.0 + odd * d, 1.0 + odd / c
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = c if abs(c) > tiny else tiny
        delta = d * c
        result *= delta
        if abs(delta - 1.0) < 1e-12:
            return result
    return result
