"""What an estimator learns online: the hardware became faster or slower by one factor a target.

A mean of log ratios with a floor on its weight (an EWMA), in which one record moves it by no more
than a few sigmas (Huber). Three records in a row that are all far off on the same side are no
outliers: the hardware has changed, and the mean starts anew from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from pytest_vlmlatency.errors import EstimatorProblem

LEAST_WEIGHT = 0.1  # of a new record, once many have been seen
MOST_SIGMAS = 2.0  # by which one record can pull
FAR_SIGMAS = 2.5  # from which a record speaks for a change
N_IN_A_ROW = 3  # by chance once in millions of records; with 5 % outliers, in tens of thousands
MOST_LOG = 20.0  # a factor of 500 million is a mistake in the units
N_BEFORE = 10  # records that the fitted level counts for


@dataclass(frozen=True, slots=True)
class Drift:
    """The log of measured / predicted now, of how many records, and what the last ones said."""

    log_ratio: float = 0.0
    n_records: int = N_BEFORE
    last: tuple[float, ...] = ()  # logs against the fitted level, the newest last

    def __post_init__(self) -> None:
        if not all(abs(value) <= MOST_LOG for value in (self.log_ratio, *self.last)):
            raise EstimatorProblem(
                f"an online correction is {self.log_ratio} (the log of a ratio); expected at most "
                f"{MOST_LOG} either way: were the times in ms?"
            )
        if self.n_records < 1 or len(self.last) > N_IN_A_ROW:
            raise EstimatorProblem(
                f"an online correction is of {self.n_records} records and keeps {len(self.last)}; "
                f"expected at least 1, and at most {N_IN_A_ROW} kept"
            )

    @property
    def ratio(self) -> float:
        """What predictions are multiplied with."""
        return math.exp(self.log_ratio)

    def after(self, log_ratio: float, sigma: float) -> Drift:
        """Return the drift after one more record, `log_ratio` being measured / fitted."""
        last = (*self.last, log_ratio)[-N_IN_A_ROW:]
        offs = [value - self.log_ratio for value in last]
        far = FAR_SIGMAS * sigma
        if len(offs) == N_IN_A_ROW and (min(offs) > far or max(offs) < -far):
            return Drift(median(last), N_IN_A_ROW, ())
        weight = max(LEAST_WEIGHT, 1 / (self.n_records + 1))
        pull = max(-MOST_SIGMAS * sigma, min(MOST_SIGMAS * sigma, log_ratio - self.log_ratio))
        return Drift(self.log_ratio + weight * pull, self.n_records + 1, last)
