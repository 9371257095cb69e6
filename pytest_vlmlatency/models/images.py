"""Real input: the photographs and scanned pages that scikit-image's wheel ships.

Nothing is downloaded, and no picture is ours. Owns finding and scaling them only.
"""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec

from PIL import Image

from pytest_vlmlatency.errors import UsageProblem

FILES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "page": "page.png",
    "rocket": "rocket.jpg",
    "text": "text.png",
}
"""Four photographs (chelsea is the cat), and two scanned texts: `page` and `text`."""


def photograph(name: str, *, longest_side: int | None = None) -> Image.Image:
    """Return a picture as RGB; with `longest_side`, scaled to that many pixels, up or down."""
    if name not in FILES:
        raise UsageProblem(f"there is no photograph {name!r}; there are {', '.join(FILES)}")
    if longest_side is not None and longest_side < 1:
        raise UsageProblem(f"longest_side is {longest_side}; expected at least 1 pixel")
    if find_spec("skimage") is None:
        raise UsageProblem(
            "the photographs come with scikit-image, which is not installed: "
            "pip install 'pytest-vlmlatency[images]'"
        )
    with (resources.files("skimage.data") / FILES[name]).open("rb") as file:
        image = Image.open(file).convert("RGB")
    return image if longest_side is None else _scaled(image, longest_side)


def _scaled(image: Image.Image, longest_side: int) -> Image.Image:
    scale = longest_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
