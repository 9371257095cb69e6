from __future__ import annotations

import pytest

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models import images
from pytest_vlmlatency.models.images import FILES, photograph


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("astronaut", (512, 512)),
        ("chelsea", (451, 300)),
        ("coffee", (600, 400)),
        ("page", (384, 191)),
        ("rocket", (640, 427)),
        ("text", (448, 172)),
    ],
)
def test_a_picture_is_rgb_at_its_own_size(name: str, size: tuple[int, int]) -> None:
    picture = photograph(name)

    assert (picture.mode, picture.size) == ("RGB", size)


def test_every_file_is_shipped() -> None:
    pictures = {name: photograph(name) for name in FILES}

    assert len({picture.tobytes() for picture in pictures.values()}) == 6


@pytest.mark.parametrize(
    ("longest_side", "size"), [(150, (150, 100)), (1200, (1200, 800)), (1, (1, 1))]
)
def test_a_picture_is_scaled_to_its_longest_side(longest_side: int, size: tuple[int, int]) -> None:
    assert photograph("coffee", longest_side=longest_side).size == size


def test_an_unknown_picture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageProblem) as refusal:
        photograph("dog")

    assert str(refusal.value) == (
        "there is no photograph 'dog'; there are astronaut, chelsea, coffee, page, rocket, text"
    )


def test_a_side_of_no_pixels_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"longest_side is 0; expected at least 1 pixel"):
        photograph("coffee", longest_side=0)


def test_without_scikit_image_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "find_spec", lambda _name: None)

    with pytest.raises(UsageProblem, match=r"pip install 'pytest-vlmlatency\[images\]'"):
        photograph("coffee")
