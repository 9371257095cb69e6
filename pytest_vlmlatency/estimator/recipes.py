"""How the network is trained, and which of two decode times it then says.

N output tokens take one prefill and N - 1 decode steps. The legacy recipe divides the decode time
by N, the mended one by N - 1: two different numbers, under two names, and neither is ever given for
the other. Knows no torch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from pytest_vlmlatency.errors import EstimatorProblem

PREFILL = "T_prefill_total"
PER_TOKEN = "T_decode_per_token"
PER_STEP = "T_decode_per_step"

Value = TypeVar("Value")


class Recipe(StrEnum):
    """The legacy recipe, unchanged, or the corrected one."""

    ORIGIN = "origin"
    MENDED = "mended"

    @property
    def decode_key(self) -> str:
        """The name of the decode time that this recipe trains on and predicts."""
        return PER_TOKEN if self is Recipe.ORIGIN else PER_STEP

    @property
    def targets(self) -> tuple[str, str]:
        """The names of both times that this recipe trains on and predicts."""
        return PREFILL, self.decode_key


class OtherDecodeTime(EstimatorProblem, KeyError):
    """The decode time of the other recipe was asked for."""

    __str__ = Exception.__str__  # a KeyError's own puts the sentence into quotation marks


class Predicted(dict[str, Value]):
    """Two times in ms by name; the other recipe's name is an error that says what it would be."""

    __slots__ = ("recipe",)

    def __init__(self, recipe: Recipe, *, prefill_ms: Value, decode_ms: Value) -> None:
        super().__init__({PREFILL: prefill_ms, recipe.decode_key: decode_ms})
        self.recipe = recipe

    def __missing__(self, key: str) -> Value:
        """Explain a name that is not there."""
        raise explained(self.recipe, key)

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]  # explains
        """Return a time; the other recipe's name is an error here, too, and not None."""
        if key in {PER_TOKEN, PER_STEP} and key not in self:
            raise explained(self.recipe, key)
        return super().get(key, default)


def explained(recipe: Recipe, key: str) -> OtherDecodeTime:
    """Return the error for a name that a recipe's prediction does not have."""
    names = f"it has {PREFILL!r} and {recipe.decode_key!r}"
    if key == PER_TOKEN:
        return OtherDecodeTime(
            f"{key!r} was asked of an estimator trained with the {recipe} recipe; {names}. "
            f"{PER_TOKEN} is decode / N: it depends on the number of output tokens N, which no "
            f"estimator is told. With a prediction of {PER_STEP} it is {PER_STEP} * (N - 1) / N; "
            f"a network with recipe='origin' is trained on it directly"
        )
    if key == PER_STEP:
        return OtherDecodeTime(
            f"{key!r} was asked of an estimator trained with the {recipe} recipe; {names}. "
            f"{PER_STEP} is decode / (N - 1), the time of one decode step; this network was "
            f"trained on decode / N, where short outputs look faster than they are. "
            f"Train one with recipe='mended', the default"
        )
    return OtherDecodeTime(f"a prediction has no {key!r}; {names}")
