"""A project of a model whose code says how long its phases take, and one with a slower decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = """\
from tests.hand_moved import captioner

model = captioner(vision_ms=200.0, prompt_ms=60.0, step_ms=5.0)
"""
SLOWER = MODEL.replace("step_ms=5.0", "step_ms=5.25")

FILES: Mapping[str, str] = {
    "src/own/__init__.py": MODEL,
    "benchmarks/conftest.py": """\
        import pytest


        @pytest.fixture(scope="session")
        def _vlm_engine():
            from tests.hand_moved import HandMovedEngine

            return HandMovedEngine()
        """,
    "benchmarks/test_x.py": """\
        from tests.measure.custom_models import ASKED


        def test_caption(vlm_latency):
            from own import model

            vlm_latency(model.generate, **ASKED)
        """,
    "pytest.ini": "[pytest]\npythonpath = src\n",
    ".gitignore": "__pycache__/\n.vlm_latency/\n.benchmarks/\n",
}
