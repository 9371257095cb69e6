"""Build any transformers model from its configuration, with random weights.

The weights are made where they will live, in the dtype they will have, so a model at full size
needs no more memory than its own. Owns building only; shapes and inputs are elsewhere.
"""

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from transformers import GenerationConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)


def build_random(
    model_class: type[Model],
    config: PreTrainedConfig,
    *,
    seed: int,
    dtype: torch.dtype,
    device: str | torch.device,
    attn: str,
) -> Model:
    """Return a model in eval mode; the global random state is left as it was.

    The end token's logit is fixed at 0, which the largest of many random logits always exceeds:
    a generation is as long as it was asked to be, and the test for its end still runs.
    """
    place = torch.device(device)
    on_accelerator = place.type not in ("cpu", "meta")
    with (
        torch.random.fork_rng(
            devices=[place] if on_accelerator else [],
            device_type=place.type if on_accelerator else "cuda",
        ),
        torch.device(place),
    ):
        torch.manual_seed(seed)
        model: Model = model_class._from_config(config, dtype=dtype, attn_implementation=attn)
    end = config.get_text_config().eos_token_id
    with torch.no_grad():
        model.get_output_embeddings().weight[end] = 0
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=config.get_text_config().pad_token_id
    )
    model.eval()
    return model


def n_parameters(model: torch.nn.Module) -> int:
    """Return the number of weights, tied ones once; a model on "meta" has them too."""
    return sum(parameter.numel() for parameter in model.parameters())
