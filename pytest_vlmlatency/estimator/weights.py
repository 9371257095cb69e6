"""A network's weights as safetensors, beside the estimator's JSON file. Never a pickle.

The JSON file holds the name and digest of the weights' file: changed weights, or those of another
network, are refused.
"""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.files import N_DIGITS, WEIGHTS_SUFFIX, from_plain, to_plain
from pytest_vlmlatency.estimator.layers import LatencyNetwork
from pytest_vlmlatency.estimator.recipes import Recipe
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """The network's recipe and sizes, and the file of its weights with its digest."""

    recipe: Recipe
    hidden_dim: int
    num_layers: int
    weights: str
    sha256: str

    def __post_init__(self) -> None:
        if self.hidden_dim < 1 or self.num_layers < 1:
            raise EstimatorProblem(
                f"a network has {self.num_layers} layers of {self.hidden_dim}; expected 1 or more"
            )

    @property
    def n_weights(self) -> int:
        """At least so many numbers: those between the layers."""
        return self.hidden_dim * self.hidden_dim * (self.num_layers - 1) + self.hidden_dim


SMALLEST_BYTES = 2  # of a weight, as float16 has
A_NAME = re.compile(r"[^/\\\x00]+")


def write_weights(network: LatencyNetwork, path: Path) -> Mapping[str, object]:
    """Write the weights beside an estimator's file; return what that file says of them.

    Their name holds their digest: the file that is there, and its weights, stay whole meanwhile.
    """
    _check_finite(network, "this network")
    content = save({name: value.cpu() for name, value in network.state_dict().items()})
    digest = hashlib.sha256(content).hexdigest()
    beside = path.with_name(f"{path.name}.{digest[:N_DIGITS]}{WEIGHTS_SUFFIX}")
    write_whole(beside, content)
    return to_plain(
        WeightsFile(
            recipe=network.recipe,
            hidden_dim=network.hidden_dim,
            num_layers=network.num_layers,
            weights=beside.name,
            sha256=digest,
        )
    )


def read_weights(plain: Mapping[str, object], path: Path) -> LatencyNetwork:
    """Return the network of an estimator's file, of its recipe and dtype.

    The first files named no recipe: a legacy network could not be saved.
    """
    said = from_plain(WeightsFile, {"recipe": Recipe.MENDED.value, **plain})
    if not A_NAME.fullmatch(said.weights) or said.weights in {".", ".."}:
        raise EstimatorProblem(f"its weights are in {said.weights!r}; expected a file beside it")
    beside = path.with_name(said.weights)
    try:
        if not stat.S_ISREG(beside.stat().st_mode):  # a pipe would be waited for
            raise OSError("it is no regular file")
        content = beside.read_bytes()
    except OSError as error:
        raise EstimatorProblem(f"its weights cannot be read from {beside}: {error}") from error
    if hashlib.sha256(content).hexdigest() != said.sha256:
        raise EstimatorProblem(f"its weights in {beside} are not those that were saved with it")
    if said.n_weights * SMALLEST_BYTES > len(content):
        raise EstimatorProblem(f"{beside} is too small for a network of {said.n_weights} weights")
    try:
        weights = load(content)
        network = LatencyNetwork(said.hidden_dim, said.num_layers, recipe=said.recipe)
        network.to(_dtype(weights, beside)).load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise EstimatorProblem(f"{beside} does not hold this network: {error}") from error
    _check_finite(network, str(beside))
    return network.eval()


def _dtype(weights: Mapping[str, Tensor], beside: Path) -> torch.dtype:
    """Return the dtype of all weights: a network is what it was, to the last bit."""
    dtypes = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(dtypes) != 1:
        raise EstimatorProblem(f"{beside} holds weights of {len(dtypes)} dtypes; expected one")
    return dtypes.pop()


def _check_finite(network: LatencyNetwork, where: str) -> None:
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        raise EstimatorProblem(
            f"{where} holds a weight that is not finite; expected finite ones: train it again"
        )
