"""How many vectors vision gave, whatever the feature method returns them in."""

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pytest_vlmlatency.calls.image_tokens import count_feature_rows

WIDTH = 8


def vectors(*sizes: int) -> torch.Tensor:
    return torch.zeros(*sizes, WIDTH)


def test_each_image_of_a_list_counts() -> None:
    assert count_feature_rows([vectors(4), vectors(6)]) == 10
    assert count_feature_rows(vectors(2, 5)) == 10


def test_images_in_lists_of_their_prompts_count() -> None:
    assert count_feature_rows([[vectors(4), vectors(6)], [vectors(5)]]) == 15


def test_features_of_further_layers_beside_them_do_not_count() -> None:
    features, of_further_layers = (vectors(4), vectors(6)), [vectors(10), vectors(10)]

    assert count_feature_rows((features, of_further_layers)) == 10


def test_the_towers_own_output_beside_them_does_not_count() -> None:
    of_the_tower = BaseModelOutputWithPooling(last_hidden_state=vectors(1, 17))

    assert count_feature_rows((vectors(1, 4), of_the_tower)) == 4


def test_vectors_that_mark_where_an_image_goes_do_not_count() -> None:
    assert count_feature_rows((vectors(1, 4), vectors(5))) == 4


def test_no_features_are_no_vectors() -> None:
    assert count_feature_rows(None) == count_feature_rows([]) == 0
    assert count_feature_rows(torch.zeros(0, WIDTH)) == 0
