"""Other ways to call than model.generate(**inputs): contexts, threads, streamers, own loops."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from threading import Thread
from typing import cast

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from tests.modes.mode import Asked, asked
from tests.zoo import N_NEW_TOKENS, Specimen, build
from tests.zoo.shrink import BOS, EOS, FIRST_WORD, PAD

Ask = Callable[[Specimen], Asked]
CYCLE = 3
CHUNK = 4


def with_settings(**settings: object) -> Ask:
    """Ask with these arguments beside the inputs."""
    return lambda specimen: asked(specimen, settings=settings)


def sequences(n_sequences: int, **settings: object) -> Ask:
    """Ask for several sequences a row."""
    return lambda specimen: asked(
        specimen,
        n_generated_tokens=n_sequences * N_NEW_TOKENS,
        settings={"num_return_sequences": n_sequences, **settings},
    )


def in_chunks(specimen: Specimen) -> Asked:
    """Ask for a prefill in chunks, which an encoder-decoder doesn't know."""
    n_columns = specimen.inputs["input_ids"].shape[1]
    is_whole = cast("PreTrainedModel", specimen.model).config.is_encoder_decoder
    n_forwards = 1 if is_whole else -(-n_columns // CHUNK)
    return asked(specimen, n_prompt_forwards=n_forwards, settings={"prefill_chunk_size": CHUNK})


def with_an_assistant(*, seed: int) -> Ask:
    """Ask with an assistant of the same architecture; with seed 0, of the same weights."""
    return lambda specimen: asked(
        specimen, settings={"assistant_model": build(specimen.name, seed=seed).model}
    )


def with_itself(specimen: Specimen) -> Asked:
    """Ask with the model as its own assistant."""
    return asked(specimen, settings={"assistant_model": specimen.model})


def by_early_exit(specimen: Specimen) -> Asked:
    """Ask a copy to draft with its first blocks: where that fails, its configuration stays so."""
    copied = replace(specimen, model=copy.deepcopy(specimen.model))
    return asked(copied, settings={"assistant_early_exit": 2})


def looked_up(specimen: Specimen) -> Asked:
    """Ask for words that come round again, which a look into the prompt finds.

    An end that never comes is asked for, too: earlier transformers look for one in what they found.
    """
    return asked(
        specimen,
        settings={
            "logits_processor": [around_and_around],
            "prompt_lookup_num_tokens": 2,
            "eos_token_id": EOS,
        },
    )


def around_and_around(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Let the next word be one of a few, in turn."""
    word = FIRST_WORD + ids.shape[1] % CYCLE
    return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor(word), 0.0)


class Listener(BaseStreamer):
    """A streamer that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[torch.Tensor] = []

    def put(self, value: torch.Tensor) -> None:
        self.heard.append(value)

    def end(self) -> None:
        self.heard.append(torch.tensor([]))


def with_a_quantised_cache(specimen: Specimen) -> Asked:
    """Ask for a quantised cache, in words of its own: earlier transformers take the backend out."""
    settings = {**specimen.inputs, "cache_implementation": "quantized"}
    return asked(specimen, fresh=lambda: {**settings, "cache_config": {"backend": "fp8"}})


def streamed(specimen: Specimen) -> Asked:
    """Ask with a streamer, a fresh one for each call."""
    return asked(specimen, fresh=lambda: {**specimen.inputs, "streamer": Listener()})


def within(context: Callable[[], AbstractContextManager[object]]) -> Ask:
    """Ask inside a context of torch's."""

    def ask(specimen: Specimen) -> Asked:
        def call(**kwargs: object) -> object:
            with context():
                return specimen.generate(**kwargs)

        return asked(specimen, call=call)

    return ask


def on_a_thread(specimen: Specimen) -> Asked:
    """Ask from another thread, as one does who reads a streamer meanwhile."""

    def call(**kwargs: object) -> object:
        outputs: list[object] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                outputs.append(specimen.generate(**kwargs))
            except Exception as error:  # raised again below, by the thread that asked
                errors.append(error)

        thread = Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return outputs[0]

    return asked(specimen, call=call, fresh=lambda: {**specimen.inputs, "streamer": Listener()})


def in_half_precision(dtype: torch.dtype) -> Ask:
    """Ask a copy of the model whose weights are of this type."""

    def ask(specimen: Specimen) -> Asked:
        half = copy.deepcopy(specimen.model).to(dtype)
        inputs: dict[str, torch.Tensor] = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in specimen.inputs.items()
        }
        return asked(replace(specimen, model=half), inputs)

    return ask


def custom_loop(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: object,
    generation_config: GenerationConfig,
    **model_kwargs: object,
) -> object:
    """Decode by a loop of the user's own, which here is the usual one."""
    sample = cast("Callable[..., object]", model._sample)
    return sample(input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)


def by_a_configuration(specimen: Specimen) -> Asked:
    """Ask with all settings in one object."""
    config = GenerationConfig(  # type: ignore[no-untyped-call]  # it has none
        max_new_tokens=N_NEW_TOKENS,
        do_sample=True,
        top_k=20,
        bos_token_id=BOS,
        pad_token_id=PAD,
        decoder_start_token_id=BOS,
    )
    return asked(specimen, settings={"generation_config": config})


def after(n_tokens: int) -> Ask:
    """Ask for as many tokens as a stopping criterion of the user's allows."""

    def ask(specimen: Specimen) -> Asked:
        n_seen = 0

        def stops(ids: torch.Tensor, _scores: object) -> torch.Tensor:
            nonlocal n_seen
            n_seen += 1
            return torch.full((len(ids),), n_seen % n_tokens == 0)

        return asked(specimen, n_generated_tokens=n_tokens, settings={"stopping_criteria": [stops]})

    return ask
