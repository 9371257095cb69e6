"""The code that a folder brings along for `trust_remote_code`: a model that no library knows.

It is what publishers write: vision inside forward, blocks under `transformer.blocks`, a method
`generate_from_batch` that ends in transformers' generate, or a generate of its own. `write_folder`
puts it where AutoModel reads it.
"""

import json
from pathlib import Path

CONFIGURATION = """\
from transformers import PretrainedConfig


class OwlConfig(PretrainedConfig):
    model_type = "owl"

    def __init__(self, width=16, n_words=50, n_blocks=3, **kwargs):
        self.width, self.n_words, self.n_blocks = width, n_words, n_blocks
        super().__init__(**kwargs)
"""

MODELING = """\
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_owl import OwlConfig


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ff_proj = nn.Linear(width, width)

    def forward(self, states):
        return states + torch.tanh(self.ff_proj(states)), None


class Backbone(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.resblocks = nn.ModuleList([Block(width), Block(width)])
        self.image_projector = nn.Linear(width, width)

    def forward(self, images):
        states = self.patch(images.flatten(0, 1)).flatten(2).transpose(1, 2)
        for block in self.resblocks:
            states, _ = block(states)
        return self.image_projector(states)


class Owl(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.vision_backbone = Backbone(config.width)
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.n_words, config.width),
            "blocks": nn.ModuleList([Block(config.width) for _ in range(config.n_blocks)]),
            "ff_out": nn.Linear(config.width, config.n_words),
        })

    def forward(self, input_ids, images=None, image_input_idx=None):
        states = self.transformer.wte(input_ids)
        if images is not None:
            features = self.vision_backbone(images).flatten(0, 1)
            where = image_input_idx.flatten()
            features, where = features[where >= 0], where[where >= 0]
            states[0, where] = states[0, where] + features
        for block in self.transformer.blocks:
            states, _ = block(states)
        return self.transformer.ff_out(states)


class OwlForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = OwlConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = Owl(config)
        self.post_init()

    def forward(self, input_ids, images=None, image_input_idx=None, **kwargs):
        return CausalLMOutput(logits=self.model(input_ids, images, image_input_idx))

    def generate_from_batch(self, batch, generation_config=None, **kwargs):
        return self.generate(
            batch["input_ids"], generation_config=generation_config, images=batch["images"],
            image_input_idx=batch["image_input_idx"], use_cache=False, **kwargs)

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        names = ("images", "image_input_idx")
        return {"input_ids": input_ids, **{name: kwargs.get(name) for name in names}}

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, **kwargs):
        kept = super()._update_model_kwargs_for_generation(outputs, model_kwargs, **kwargs)
        return {key: value for key, value in kept.items() if not key.startswith("image")}


class OwlModel(PreTrainedModel):
    config_class = OwlConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = Owl(config)
        self.post_init()

    def forward(self, input_ids, images=None, image_input_idx=None):
        return CausalLMOutput(logits=self.model(input_ids, images, image_input_idx))

    @torch.no_grad()
    def generate(self, input_ids, images=None, image_input_idx=None, max_new_tokens=8):
        for index in range(max_new_tokens):
            given = () if index else (images, image_input_idx)
            token = self(input_ids, *given).logits[:, -1].argmax(-1, keepdim=True)
            input_ids = torch.cat([input_ids, token], dim=1)
        return input_ids
"""

CONFIG = {
    "model_type": "owl",
    "architectures": ["OwlForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_owl.OwlConfig",
        "AutoModelForCausalLM": "modeling_owl.OwlForCausalLM",
        "AutoModel": "modeling_owl.OwlModel",
    },
}


def write_folder(folder: Path) -> Path:
    """Write a model's folder without weights, and return it."""
    (folder / "configuration_owl.py").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "modeling_owl.py").write_text(MODELING, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return folder
