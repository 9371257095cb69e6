"""Models that do otherwise once they were watched: every measured call is judged for itself."""

from types import SimpleNamespace

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import IMAGE, PROMPT, Captioner, Images, measure_custom
from tests.zoo import Specimen, vision_module

N_WATCHED_AND_UNMEASURED = 3


class Turncoat(Captioner):
    """Does what a subclass says from its fourth call on, the first that is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls, self.n_forwards = 0, 0

    @property
    def has_turned(self) -> bool:
        return self.n_calls > N_WATCHED_AND_UNMEASURED

    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        self.n_calls, self.n_forwards = self.n_calls + 1, 0
        return super().generate(input_ids, images, max_new_tokens)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        self.n_forwards += 1
        return super().forward(input_ids, images)


class WithoutStep(Turncoat):
    def __call__(self, *args: object) -> object:
        return self.forward(*args) if self.has_turned else super().__call__(*args)  # type: ignore[arg-type]  # as they came


class WithoutBlocks(Turncoat):
    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if not self.has_turned:
            return super().forward(input_ids, images)
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        for block in self.blocks:
            states = block.forward(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class BlocksLate(WithoutBlocks):
    """Goes round its blocks for the prompt only."""

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if images is None:
            return Turncoat.forward(self, input_ids, images)
        return super().forward(input_ids, images)


class KeepsFeatures(Turncoat):
    kept: torch.Tensor

    def encode(self, images: Images) -> torch.Tensor:
        if self.has_turned:
            return self.kept
        self.kept = super().encode(images)
        return self.kept


class EncodesTwice(Turncoat):
    def encode(self, images: Images) -> torch.Tensor:
        if self.has_turned:
            super().encode(images)
        return super().encode(images)


class EncodesLate(Turncoat):
    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if self.has_turned and self.n_forwards == 4:
            self.vision(IMAGE)
        return super().forward(input_ids, images)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (WithoutStep(), "step module '' was never seen to finish the prompt"),
        (WithoutBlocks(), r"hook on the first block 'blocks.0' never fired"),
        (BlocksLate(), r"first block 'blocks.0' ran only after the prompt's logits"),
        (KeepsFeatures(), "pixels were passed but vision was never seen to run"),
        (EncodesTwice(), "vision ran otherwise than when .* vision 2 times, proj 2 times now"),
        (EncodesLate(), "vision ran again after the prompt's logits: vision 1 times"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Turncoat) else "",
)
def test_a_model_that_turns_after_it_was_watched_is_refused(
    model: Turncoat, problem: str, clock: FakeClock
) -> None:
    with pytest.raises(InvalidMeasurement, match=problem):
        measure_custom(model, clock)


class SeesThings(Turncoat):
    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if self.has_turned and self.n_forwards == 0:
            self.encode(IMAGE)
        return super().forward(input_ids, images)


def test_vision_that_only_runs_once_watched_is_over_is_refused(clock: FakeClock) -> None:
    named = {"vision": ["vision", "proj"], "blocks": "blocks", "step": ""}

    with pytest.raises(InvalidMeasurement, match="vision 1 times, proj 1 times now, not at all"):
        measure_custom(SeesThings(), clock, {"input_ids": PROMPT}, phases=named)


def test_a_step_prepared_twice_for_the_prompt_is_refused(llava: Specimen) -> None:
    n_calls = 0

    def prepare_again() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls > N_WATCHED_AND_UNMEASURED:
            llava.model.prepare_inputs_for_generation(  # type: ignore[operator]  # a method
                llava.inputs["input_ids"], cache_position=torch.tensor([0])
            )

    with (
        delayed(vision_module(llava), prepare_again),
        pytest.raises(InvalidMeasurement, match=r"2 forwards ran until the prompt's .* expected 1"),
    ):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)
