"""Whether records can tell what a decode costs once from what each of its steps costs.

Both are told apart by outputs of different lengths alone. Of one length, (N - 1) x step and an
offset are the same column twice, and any share of the time fits as offset; of nearly one length,
noise decides. An offset that is not told is none: all of the time is the steps'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.terms import rows_at_once

if TYPE_CHECKING:
    from pytest_vlmlatency.estimator.inputs import FloatArray
    from pytest_vlmlatency.estimator.nonnegative import Fit

LEAST_SPREAD = 0.2
"""Of the offset's share of a record's time, relative: what the steps do not follow of it. An error
of 1 % that goes with the length then moves the step by 5 % at most; 15 and 16 tokens have 0.03, 8
to 24 tokens 0.35."""
N_NOT_ALONE = 3
"""Records without which lengths must still differ: an outlier among fewer would be the offset."""
MOST_DOUBT = 0.02
"""Of the time: the standard error of the offset's share up to which the share is taken as it is."""
LEAST_EXPECTED = 1e-3  # of what was measured, as in the fit: an expected 0 ms has no share
N_DOUBTS = 2.0  # standard errors that it must exceed where they are larger


def is_offset_told(matrix: FloatArray, measured_ms: FloatArray, fit: Fit) -> bool:
    """Return whether the first column, the offset, is told from the others, which are of steps.

    `fit` is of all columns. Seen are relative errors, as in the fit.
    """
    expected_ms = np.maximum(matrix @ fit.coefficients, measured_ms * LEAST_EXPECTED)
    once, alone = _alone(matrix, 1 / expected_ms)
    counted = 1 / expected_ms
    counted[np.argsort(alone**2)[-N_NOT_ALONE:]] = 0
    if not _spread(*_alone(matrix, counted)) >= LEAST_SPREAD:
        return False
    doubt_ms = fit.sigma_ratio / np.linalg.norm(alone)
    return bool(doubt_ms * once.mean() <= MOST_DOUBT or fit.coefficients[0] >= N_DOUBTS * doubt_ms)


def _alone(matrix: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weighted offset's column, and what those of steps cannot make of it.

    Of the columns of steps, some may be alike.
    """
    once = matrix[:, 0] * weights
    gram, toward = np.zeros((matrix.shape[1] - 1,) * 2), np.zeros(matrix.shape[1] - 1)
    for rows in rows_at_once(len(matrix)):
        steps = matrix[rows, 1:] * weights[rows, None]
        gram += steps.T @ steps
        toward += steps.T @ once[rows]
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    follows = np.linalg.pinv(gram / np.outer(scale, scale), rcond=1e-9, hermitian=True)
    parts: FloatArray = follows @ (toward / scale) / scale
    return once, once - matrix[:, 1:] @ parts * weights


def _spread(once: FloatArray, alone: FloatArray) -> float:
    whole = float(np.linalg.norm(once))
    return float(np.linalg.norm(alone)) / whole if whole else 0.0
