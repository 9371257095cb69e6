"""A model that a folder brings along as code, which no library knows, phase by phase."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, dynamic_module_utils

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.measure.remote_code import write_folder

PROMPT = torch.tensor([[1, 9, 9, 9, 9, 9, 9, 9, 9, 2, 3, 4]])
N_PATCHES, N_CROPS = 4, 2
CROPS = torch.linspace(0, 1, N_CROPS * 3 * 16 * 16).reshape(1, N_CROPS, 3, 16, 16)
BATCH = {
    "input_ids": PROMPT,
    "images": CROPS,
    "image_input_idx": torch.arange(1, 9).reshape(1, N_CROPS, N_PATCHES),
}
VISION = "model.vision_backbone"
BLOCKS = "model.transformer.blocks"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code, and a place for the copy that transformers makes of it."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    code = tmp_path / "owl"
    code.mkdir()
    return write_folder(code)


def load(auto: type, folder: Path) -> nn.Module:
    """Load a model the way that users do: drawn, saved with its code, and read back."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    drawn = auto.from_config(config, trust_remote_code=True)  # type: ignore[attr-defined]  # Auto...
    drawn.save_pretrained(folder)
    model: nn.Module = auto.from_pretrained(folder, trust_remote_code=True)  # type: ignore[attr-defined]  # as above
    return model


@contextmanager
def delays(model: nn.Module, clock: FakeClock) -> Iterator[None]:
    """60 ms in the tower, 3 ms in the first block."""
    with (
        delayed(model.get_submodule(VISION), lambda: clock.advance_ms(60)),
        delayed(model.get_submodule(f"{BLOCKS}.0"), lambda: clock.advance_ms(3)),
    ):
        yield


def check(case: Case, *, n_dropped: int = 0) -> None:
    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60, 3, 7 * 3)
    assert (call.n_vision_tokens, call.n_text_tokens) == (8 - n_dropped, 4 + n_dropped)
    assert (call.n_vision_calls, call.n_output_tokens) == (1, 8)
    assert case.phase_map is not None
    assert case.phase_map.blocks == tuple(f"{BLOCKS}.{index}" for index in range(3))
    assert (case.phase_map.vision, case.phase_map.vision_runs) == ((VISION,), "inside")


def test_a_method_that_ends_in_transformers_generate_is_measured(
    folder: Path, clock: FakeClock
) -> None:
    model = load(AutoModelForCausalLM, folder)
    kwargs = {"max_new_tokens": 8, "do_sample": False}

    with delays(model, clock):
        case = measure_generate(
            model.generate_from_batch,  # type: ignore[arg-type]  # a method
            args=(BATCH,),
            kwargs=kwargs,
            rounds=1,
            clock=clock,
        )

    check(case)


def test_a_generate_of_its_own_is_measured(folder: Path, clock: FakeClock) -> None:
    model = load(AutoModel, folder)

    with delays(model, clock):
        case = measure_generate(model.generate, kwargs=BATCH, rounds=1, clock=clock)  # type: ignore[arg-type]  # a method

    check(case)


def test_features_that_go_nowhere_are_no_tokens(folder: Path, clock: FakeClock) -> None:
    model = load(AutoModel, folder)
    places = torch.tensor([[[1, 2, 3, -100], [4, 5, 6, -100]]])

    with delays(model, clock):
        case = measure_generate(
            model.generate,  # type: ignore[arg-type]  # a method
            kwargs={**BATCH, "image_input_idx": places},
            rounds=1,
            clock=clock,
        )

    check(case, n_dropped=2)
