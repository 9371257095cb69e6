from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.models.molmoe import AttentionPooling, MolmoeProjector, without_overlap


@settings(deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    margin=st.integers(1, 3),
    window=st.integers(1, 4),
)
def test_crops_cut_with_an_overlap_join_to_the_whole(
    rows: int, columns: int, margin: int, window: int
) -> None:
    side = window + 2 * margin
    height, width = rows * window + 2 * margin, columns * window + 2 * margin
    whole = torch.arange(height * width).view(height, width, 1)
    overview = -torch.ones(side, side, 1, dtype=torch.long)
    crops = [
        whole[row * window : row * window + side, column * window : column * window + side]
        for row in range(rows)
        for column in range(columns)
    ]

    joined = without_overlap(torch.stack([overview, *crops]), rows, columns, margin)

    assert joined.flatten().tolist() == [-1] * side**2 + list(range(height * width))


def test_a_square_of_equal_patches_pools_to_their_value() -> None:
    pooling = AttentionPooling(features_width=8, width=4, n_heads=2)
    patch = torch.randn(8)

    pooled = pooling(patch.expand(1, 2, 2, 8))

    torch.testing.assert_close(pooled, pooling.o_proj(pooling.v_proj(patch)).expand(1, 1, 1, 4))


def test_a_square_attends_to_no_other() -> None:
    pooling = AttentionPooling(features_width=8, width=4, n_heads=2)
    patches = torch.randn(1, 4, 4, 8)
    other = patches.clone()
    other[:, 2:, 2:] += 1

    changed = (pooling(patches) - pooling(other)).abs().sum(-1) > 0

    assert changed.squeeze(0).tolist() == [[False, False], [False, True]]


def test_the_projector_has_the_text_decoders_width() -> None:
    projector = MolmoeProjector(features_width=8, width=4, n_heads=2, inner_width=6, text_width=10)

    assert projector(torch.randn(3, 4, 4, 8)).shape == (3, 2, 2, 10)
