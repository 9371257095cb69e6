"""What a decoder attends to beside its own tokens: an encoder's states, padding left out."""

import pytest
import torch

from pytest_vlmlatency.calls.hooks import Attended, find_attended

N_ROWS, N_STATES, WIDTH = 2, 5, 8
HIDDEN = torch.zeros(N_ROWS, 1, WIDTH)
STATES = torch.zeros(N_ROWS, N_STATES, WIDTH)
IS_STATE = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
MASK = IS_STATE[:, None, None, :]
N_TRUE = 5 + 3


def n_attended(*inputs: object) -> int:
    found = find_attended(HIDDEN, inputs)
    assert found is not None
    return found.n_tokens()


def test_without_a_mask_all_states_count() -> None:
    assert n_attended(HIDDEN, STATES) == N_ROWS * N_STATES


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(MASK, id="of truths"),
        pytest.param(torch.where(MASK, 0.0, float("-inf")), id="to add, infinite"),
        pytest.param(torch.where(MASK, 0.0, torch.finfo().min), id="to add, finite"),
        pytest.param(MASK.expand(-1, 4, 3, -1), id="for every head and query"),
    ],
)
def test_padding_under_a_mask_does_not_count(mask: torch.Tensor) -> None:
    assert n_attended(HIDDEN, STATES, mask) == N_TRUE


def test_a_mask_for_all_rows_counts_in_each() -> None:
    assert n_attended(HIDDEN, STATES, MASK[1:]) == 2 * 3


def test_a_mask_of_another_length_is_none_over_the_states() -> None:
    own = torch.zeros(N_ROWS, 1, 1, N_STATES + 1).bool()

    assert n_attended(HIDDEN, own, STATES) == N_ROWS * N_STATES


def test_the_decoders_own_mask_comes_first_and_is_passed_over() -> None:
    own = torch.ones(N_ROWS, 1, 1, N_STATES).bool()

    assert n_attended(HIDDEN, own, STATES, MASK) == N_TRUE


def test_a_block_without_other_states_attends_to_nothing_beside() -> None:
    assert find_attended(HIDDEN, (HIDDEN, MASK, torch.zeros(N_ROWS, 1))) is None


def test_only_sizes_and_the_mask_are_kept_of_the_states() -> None:
    assert find_attended(HIDDEN, (STATES,)) == Attended(N_ROWS, N_STATES, None)
