from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.dummy import build_dummy, find_shape
from pytest_vlmlatency.models.random_weights import n_parameters
from pytest_vlmlatency.models.shapes import DUMMY_SHAPES


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # As the hub counts the checkpoints' tensors.
        ("dummy:smolvlm-256m", 256_484_928),
        ("dummy:qwen2-vl-2b", 2_208_985_600),
        ("dummy:llava-1.5-7b", 7_063_427_072),
        # "7.2B total parameters" (its model card)
        ("dummy:molmoe-1b-7b", pytest.approx(7.2e9, rel=0.01)),
    ],
)
def test_a_published_shape_has_the_published_size(name: str, published: int) -> None:
    model, _ = build_dummy(name, dtype=torch.bfloat16, device="meta", attn="sdpa")

    assert n_parameters(model) == published


@pytest.mark.parametrize(
    ("small", "published"),
    [
        ("smolvlm-tiny", "smolvlm-256m"),
        ("qwen2-vl-tiny", "qwen2-vl-2b"),
        ("llava-tiny", "llava-1.5-7b"),
        ("molmoe-nano", "molmoe-1b-7b"),
    ],
)
def test_a_small_variant_has_the_same_wiring(small: str, published: str) -> None:
    kinds = [
        {
            type(part)
            for part in build_dummy(name, dtype=torch.float32, device="meta", attn="sdpa")[
                0
            ].modules()
        }
        for name in (small, published)
    ]

    assert kinds[0] == kinds[1]


def test_every_name_is_described() -> None:
    assert {
        name: (shape.family, shape.dtype, shape.description) for name, shape in DUMMY_SHAPES.items()
    } == {
        "smolvlm-256m": (
            "idefics3",
            "bfloat16",
            "SmolVLM-256M: SigLIP base at 512 pixels a tile, 30-block Llama text, 256 M",
        ),
        "smolvlm-tiny": (
            "idefics3",
            "float32",
            "SmolVLM's wiring at a size for CPUs: up to 17 tiles of 16 tokens, 1 M",
        ),
        "qwen2-vl-2b": (
            "qwen2_vl",
            "bfloat16",
            "Qwen2-VL-2B: a 32-layer tower at native resolution, 28-block Qwen2, 2.2 B",
        ),
        "qwen2-vl-tiny": (
            "qwen2_vl",
            "float32",
            "Qwen2-VL's wiring at a size for CPUs: up to 256 image tokens, 1 M",
        ),
        "llava-1.5-7b": (
            "llava",
            "float16",
            "LLaVA-1.5-7B: CLIP ViT-L/14-336, 576 image tokens, 32-block Llama, 7.06 B",
        ),
        "llava-tiny": (
            "llava",
            "float32",
            "LLaVA-1.5's wiring at a size for CPUs: 144 image tokens, 2 M",
        ),
        "molmoe-1b-7b": (
            "molmoe",
            "bfloat16",
            "MolmoE-1B-7B: CLIP ViT-L/14-336 crops, OLMoE text, 7.2 B",
        ),
        "molmoe-nano": (
            "molmoe",
            "float32",
            "MolmoE's wiring, smallest: 40 to 96 image tokens, 2 M",
        ),
        "molmoe-tiny": (
            "molmoe",
            "float32",
            "MolmoE's wiring for CPUs: 96 to 288 image tokens, 8 M",
        ),
        "molmoe-small": (
            "molmoe",
            "float32",
            "MolmoE's wiring, larger: 160 to 384 image tokens, 58 M",
        ),
    }


def test_names_are_known_without_heavy_packages() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'PIL', 'tokenizers'}"
    script = (
        "import sys; import pytest_vlmlatency.models.shapes, pytest_vlmlatency.models.knobs; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["dummy:llava-tiny", "llava-tiny"])
def test_a_shape_is_found_with_and_without_the_prefix(name: str) -> None:
    assert find_shape(name) is DUMMY_SHAPES["llava-tiny"]


def test_an_unknown_shape_is_refused_with_the_nearest_and_all() -> None:
    with pytest.raises(UsageProblem) as refusal:
        find_shape("dummy:molmo-nano")

    assert str(refusal.value) == (
        "there is no shape dummy:molmo-nano; did you mean dummy:molmoe-nano? There are "
        "smolvlm-256m, smolvlm-tiny, qwen2-vl-2b, qwen2-vl-tiny, llava-1.5-7b, llava-tiny, "
        "molmoe-1b-7b, molmoe-nano, molmoe-tiny, molmoe-small."
    )


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(UsageProblem, match=r"there is no shape dummy:zzz\. There are smolvlm-256m"):
        find_shape("dummy:zzz")
