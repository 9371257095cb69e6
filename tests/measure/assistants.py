"""Small language models that draft for a vision-language model."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM


class Drafter(LlamaForCausalLM):  # type: ignore[no-untyped-call]  # transformers' own
    """Leaves pixels alone: earlier transformers hand an assistant all that the model is given."""

    def forward(self, *args: object, pixel_values: object = None, **kwargs: object) -> object:
        return super().forward(*args, **kwargs)


def small_language_model(
    vocab_size: int, kind: type[LlamaForCausalLM] = Drafter
) -> LlamaForCausalLM:
    """Return a language model of one block, the same to the last bit each time, in eval mode."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
    assert model.generation_config is not None
    model.generation_config.pad_token_id = 0
    model.train(mode=False)
    return model
