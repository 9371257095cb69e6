"""Non-negative least squares on relative errors, robust and with a ridge: the fit of a law.

Each record counts by its relative error, whatever its size, and an outlier by no more than its
direction (Huber). The normal equations are solved, which have a row a coefficient, so that the
records are passed over once an iteration, however many they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from pytest_vlmlatency.estimator.terms import rows_at_once

if TYPE_CHECKING:
    from pytest_vlmlatency.estimator.inputs import FloatArray

HUBER = 1.345  # 95 % efficient where errors are normal (Huber 1964)
MAD_TO_SIGMA = 1.4826
N_ITERATIONS = 8
ENOUGH = 1e-5  # largest change of a fitted share at which iterating ends
LEAST_SIGMA = 1e-4  # errors are never taken to be smaller: noiseless records stay solvable
JITTER = 1e-10


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients in the order of the matrix's columns, and the scale of relative errors."""

    coefficients: FloatArray
    sigma_ratio: float


def fit_nonnegative(matrix: FloatArray, measured_ms: FloatArray, prior: FloatArray) -> Fit:
    """Return coefficients >= 0 with the least robust relative error.

    `prior` says of each column what share of the time it may carry before it has to be paid for: a
    ridge, as of a normal prior of that width on the column's mean share.
    """
    expected_ms, sigma = measured_ms, 0.03
    weights = np.ones(len(measured_ms))
    shares = np.zeros(matrix.shape[1])
    coefficients = shares
    for _ in range(N_ITERATIONS):
        before = shares
        coefficients, shares = _solve(
            matrix, measured_ms, weights / expected_ms, (sigma / prior) ** 2
        )
        expected_ms = np.maximum(matrix @ coefficients, measured_ms * 1e-3)
        errors = measured_ms / expected_ms - 1
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(errors))), LEAST_SIGMA)
        weights = np.sqrt(np.minimum(1, HUBER * sigma / np.maximum(np.abs(errors), 1e-300)))
        if np.max(np.abs(shares - before), initial=0) < ENOUGH:
            break
    return Fit(coefficients, sigma)


def _solve(
    matrix: FloatArray, measured_ms: FloatArray, weights: FloatArray, ridge: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients, and the share of the time that each carries."""
    gram, toward = np.zeros((matrix.shape[1],) * 2), np.zeros(matrix.shape[1])
    for rows in rows_at_once(len(matrix)):
        weighted = matrix[rows] * weights[rows, None]
        gram += weighted.T @ weighted
        toward += weighted.T @ (measured_ms[rows] * weights[rows])
    scale = np.sqrt(np.maximum(np.diag(gram) / len(matrix), 1e-300))
    gram = gram / np.outer(scale, scale)
    gram[np.diag_indices_from(gram)] += ridge + JITTER * len(matrix)
    root = np.linalg.cholesky(gram)
    shares, _ = nnls(root.T, solve_triangular(root, toward / scale, lower=True), maxiter=2000)
    return shares / scale, shares
