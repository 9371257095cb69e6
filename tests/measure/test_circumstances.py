"""The same circumstances in every round: random numbers, garbage, threads."""

import gc
import random

import torch

from pytest_vlmlatency import measure_generate
from tests.builders import delayed
from tests.zoo import Specimen, vision_module


def test_the_random_state_is_the_same_in_every_round(llava: Specimen) -> None:
    drawn: list[tuple[float, float]] = []

    def draw() -> None:
        drawn.append((random.random(), float(torch.rand(()))))

    with delayed(vision_module(llava), draw):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=3)

    assert len(drawn) == 4 + 3
    assert len(set(drawn)) == 1


def test_garbage_is_not_collected_inside_a_round(llava: Specimen) -> None:
    states: list[bool] = []
    with delayed(vision_module(llava), lambda: states.append(gc.isenabled())):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert not any(states)
    assert gc.isenabled()


def test_one_thread_measures_by_default_and_is_given_back(llava: Specimen) -> None:
    counts: list[int] = []
    before = torch.get_num_threads()
    with delayed(vision_module(llava), lambda: counts.append(torch.get_num_threads())):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert set(counts) == {1}
    assert torch.get_num_threads() == before
    assert case.n_threads == 1


def test_threads_are_left_alone_when_asked(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, threads=0)

    assert case.n_threads == torch.get_num_threads()
