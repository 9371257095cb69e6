"""Padding is no token, in every family: a batch of two prompts, one of them shorter."""

import pytest
import torch

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.calls.arguments import find_mask
from tests.measure.custom_models import Captioner
from tests.zoo import ZOO, Inputs, Specimen, available, build
from tests.zoo.earlier import ENCODES_EACH_STEP, ENCODES_FIRST
from tests.zoo.shrink import PAD

N_PADDING = 2
IN_ONE_ROW = ("minicpm_ocr", "minicpmv4_6", "minicpmv4_7")
"""They put the patches of all images of a batch in one row."""
_ROW_BY_ROW = {"fuyu": "it encodes row by row, and the same image in two rows is refused"}
OTHERWISE = {
    **({} if ENCODES_FIRST else _ROW_BY_ROW),
    "molmo": "it has no mask that could tell padding",
    "udop": "fewer words lie before fewer patches",
    "pix2struct": "it has no prompt",
    "pp_formulanet": "it has no prompt",
    "vision-encoder-decoder": "it has no prompt",
    **dict.fromkeys((*IN_ONE_ROW, *ENCODES_EACH_STEP), "it takes no such batch"),
}
BATCHED = [name for name in available() if name not in OTHERWISE]


def in_batch(specimen: Specimen) -> Inputs:
    """Return the inputs twice, the second time without the last words, padded on the left."""
    shape = specimen.inputs["input_ids"].shape
    return {
        name: torch.cat([value, shortened(value, PAD if name == "input_ids" else 0)])
        if value.shape[:2] == shape
        else torch.cat([value, value])
        for name, value in specimen.inputs.items()
    }


def shortened(value: torch.Tensor, padding: int) -> torch.Tensor:
    filled = torch.full_like(value[:, :N_PADDING], padding)
    return torch.cat([filled, value[:, :-N_PADDING]], dim=1)


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_has_the_tokens_of_its_rows_and_no_padding(name: str) -> None:
    specimen = build(name)

    case = measure_generate(specimen.generate, kwargs=in_batch(specimen), rounds=1)

    call = case.calls[0]
    assert call.batch_size == 2
    assert call.n_vision_tokens == 2 * specimen.n_vision_tokens
    assert call.n_text_tokens == 2 * specimen.n_text_tokens - N_PADDING


class Masked(Captioner):
    """Is told of padding by a mask of a name of its own."""

    def generate(  # type: ignore[override]  # it takes a mask, too
        self, input_ids: torch.Tensor, keep_mask: torch.Tensor
    ) -> torch.Tensor:
        return super().generate(input_ids)


def test_padding_is_told_by_a_mask_of_any_name() -> None:
    inputs = {"input_ids": torch.tensor([[0, 0, 3, 4]]), "keep_mask": torch.tensor([[0, 0, 1, 1]])}

    case = measure_generate(Masked().generate, kwargs=inputs, rounds=1)

    assert case.calls[0].n_text_tokens == 2


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([[0, 1, 1, 0, 0, 0]]),
        torch.tensor([[1, 1, 0, 0, 0, 0]]),
        torch.tensor([[2, 2, 1, 1, 1, 1]]),
        torch.tensor([[0, 0, 1, 1]]),
        torch.tensor([[0.0, 0, 1, 1, 1, 1]]),
    ],
    ids=["within", "of words that differ", "of kinds", "narrower", "of shares"],
)
def test_a_mask_of_something_else_tells_no_padding(mask: torch.Tensor) -> None:
    ids = torch.tensor([[9, 9, 3, 4, 5, 6]])

    assert find_mask({"input_ids": ids, "some_mask": mask}, ids) is None


def test_what_is_left_out_is_in_the_zoo() -> None:
    assert set(OTHERWISE) <= set(ZOO)


def test_fewer_words_before_fewer_patches_leave_more_vision_tokens() -> None:
    """UDOP fuses a word with the patch behind it; padding lies before the first one."""
    udop = build("udop")

    case = measure_generate(udop.generate, kwargs=in_batch(udop), rounds=1)

    call = case.calls[0]
    n_covered = udop.n_text_tokens - N_PADDING
    n_patches = udop.n_vision_tokens + udop.n_text_tokens
    assert call.n_text_tokens == 2 * udop.n_text_tokens - N_PADDING
    assert call.n_vision_tokens == udop.n_vision_tokens + n_patches - n_covered
