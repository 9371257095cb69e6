"""What measuring knows by its name in transformers is there: a renamed one fails here first."""

import pytest
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers import PretrainedConfig as PreTrainedConfig

from pytest_vlmlatency.calls.drafts import STEP_UPDATE
from pytest_vlmlatency.calls.hooks import COMPILED_CALL, STEP_PREPARATION
from pytest_vlmlatency.measure.isolation import COMPILE_CONFIG

SETTINGS = (
    "max_new_tokens",
    "min_new_tokens",
    "do_sample",
    "num_beams",
    "num_return_sequences",
    "use_cache",
    "cache_implementation",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "guidance_scale",
    "eos_token_id",
    COMPILE_CONFIG,
)
"""The generation settings that decide what is measured, or how."""


@pytest.mark.parametrize("name", [STEP_PREPARATION, STEP_UPDATE, "generate"])
def test_generating_has_the_methods_that_are_watched(name: str) -> None:
    assert callable(getattr(GenerationMixin, name, None))


@pytest.mark.parametrize("name", [COMPILED_CALL, "get_input_embeddings"])
def test_a_model_has_the_methods_that_are_called(name: str) -> None:
    assert callable(getattr(PreTrainedModel, name, None))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_generation_config_has_the_settings_that_decide(name: str) -> None:
    assert hasattr(GenerationConfig(), name)  # type: ignore[no-untyped-call]  # it has no types


def test_a_configuration_tells_its_attention() -> None:
    assert hasattr(PreTrainedConfig(), "_attn_implementation")
