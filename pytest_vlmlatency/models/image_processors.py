"""The image processors that work with Pillow alone, under the names that they have had.

Where a family has one with torchvision as well, transformers 5 says "Pil" in this one's name;
before that, it was the family's plain name. Owns finding the class only.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import BaseImageProcessor


def pillow_processor(family: str, name: str) -> Callable[..., BaseImageProcessor]:
    """Return a family's image processor; `name` is its class's without "Pil"."""
    folder = f"transformers.models.{family}"
    today = f"{folder}.image_processing_pil_{family}"
    if find_spec(today) is not None:
        found = getattr(import_module(today), f"{name}Pil")
    else:
        found = getattr(import_module(f"{folder}.image_processing_{family}"), name)
    return cast("Callable[..., BaseImageProcessor]", found)
