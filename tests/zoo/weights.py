"""Random weights for tiny models: every part matters to the output, and only words come out."""

import torch

from tests.zoo.shrink import FIRST_WORD, N_WORDS

# How far biases, norms and gates stray from where the architecture starts them.
_VECTOR_DEVIATION = 0.1


@torch.no_grad()
def draw_weights(model: torch.nn.Module, generator: torch.Generator, *, gain: float) -> None:
    """Draw all parameters anew, matrices with deviation `gain` over the root of their fan-in.

    The usual initialisation (deviation 0.02, gates at zero) suits large widths: here it would let
    a model repeat one token, whatever its image. Embeddings, read one row at a time, get 1.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if id(parameter) in embeddings:
            parameter.copy_(noise)
        elif parameter.ndim < 2:
            parameter.add_(_VECTOR_DEVIATION * noise)
        else:
            parameter.copy_(noise * gain / _fan_in(parameter) ** 0.5)


@torch.no_grad()
def forbid_special_tokens(model: torch.nn.Module) -> None:
    """Give every token but words a logit of exactly 0, which is never the highest of 300.

    Padding, end of sequence or an image token in an answer would be mistaken for what they mean.
    """
    found = (getattr(module, "get_output_embeddings", None) for module in model.modules())
    heads = [get_head() for get_head in found if get_head is not None]
    for parameter in (parameter for head in heads if head for parameter in head.parameters()):
        parameter[:FIRST_WORD] = 0
        parameter[N_WORDS:] = 0


def _fan_in(parameter: torch.Tensor) -> int:
    """Return how many inputs each output has: a 3-dimensional weight is a stack of matrices."""
    return parameter.shape[-1] if parameter.ndim == 3 else parameter[0].numel()
