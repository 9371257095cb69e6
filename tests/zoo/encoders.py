"""Architectures whose decoder attends to an encoder's output, or is given an image's codes."""

from dataclasses import replace

from tests.zoo import pixels, prompts
from tests.zoo.further import VISION_ENCODER_DECODER
from tests.zoo.pixels import N_PATCHES, SIDE
from tests.zoo.recipes import GIT, LLAVA, every_patch, every_patch_and_class
from tests.zoo.shrink import DEPTH, PATCH_SIZE, TEXT_WIDTH, VISION_WIDTH
from tests.zoo.specimen import Paths, Recipe

_N_CODES = 8
_T5_SIZES = {"d_kv": TEXT_WIDTH // 4, "d_ff": 2 * TEXT_WIDTH}

_BLIP = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.words,
    count_vision_tokens=every_patch_and_class,
    is_placeholder=False,
    # Its generate() encodes the image itself, and leaves out the prompt's last token.
    n_dropped_words=1,
    paths=Paths(
        vision="vision_model",
        projector=None,
        blocks="text_decoder.bert.encoder.layer",
        step="text_decoder",
    ),
    takes_text_alone=False,
    weight_gain=0.7,
)
_KOSMOS_2_5 = replace(
    GIT,
    make_pixels=pixels.placed_patches,
    make_prompt=prompts.masked_placeholders,
    count_vision_tokens=lambda config: config.latent_query_num,
    is_placeholder=True,
    overrides={
        "latent_query_num": 4,
        "vision_config.patch_embed_hidden_size": 3 * PATCH_SIZE**2,
        "vision_config.max_num_patches": N_PATCHES,
    },
    paths=Paths(
        vision="vision_model",
        projector="image_to_text_projection",
        blocks="text_model.model.layers",
    ),
    # What the image changes is small beside normalised embeddings.
    weight_gain=2.0,
)
_PIX2STRUCT = replace(
    VISION_ENCODER_DECODER,
    make_pixels=pixels.placed_patches,
    count_vision_tokens=every_patch,
    overrides={
        **{f"text_config.{key}": value for key, value in _T5_SIZES.items()},
        **{f"vision_config.{key}": value for key, value in _T5_SIZES.items()},
        "text_config.num_layers": DEPTH,
        # As wide as the decoder, like the real ones.
        "vision_config.hidden_size": TEXT_WIDTH,
        "vision_config.patch_embed_hidden_size": 3 * PATCH_SIZE**2,
        "vision_config.seq_len": N_PATCHES,
    },
    paths=Paths(vision="encoder", projector=None, blocks="decoder.layer"),
)
_UDOP = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.boxed_words,
    # A patch behind a word is added to that word's embedding, and is no token of its own.
    count_vision_tokens=lambda config: N_PATCHES - prompts.N_TEXT_TOKENS,
    is_placeholder=False,
    overrides={
        **_T5_SIZES,
        # The cache is as deep as the encoder.
        "num_layers": DEPTH,
        "num_decoder_layers": DEPTH,
        "image_size": SIDE * PATCH_SIZE,
        "patch_size": PATCH_SIZE,
        "max_2d_position_embeddings": 64,
    },
    paths=Paths(
        vision="encoder.embed_patches",
        projector=None,
        blocks="decoder.block",
        text_encoder="encoder.block.0",
    ),
    weight_gain=1.5,
)
_T5GEMMA2 = replace(
    LLAVA,
    count_vision_tokens=lambda config: config.encoder.mm_tokens_per_image,
    overrides={"encoder.mm_tokens_per_image": 4},
    paths=Paths(
        vision="model.encoder.vision_tower",
        projector="model.encoder.multi_modal_projector",
        blocks="model.decoder.layers",
        text_encoder="model.encoder.text_model",
    ),
)
_PP_FORMULANET = replace(
    VISION_ENCODER_DECODER,
    # Two convolutions halve the image's side twice more.
    count_vision_tokens=lambda config: N_PATCHES // 16,
    overrides={
        "vision_config.global_attn_indexes": [1],
        "vision_config.window_size": 2,
        "vision_config.mlp_dim": 2 * VISION_WIDTH,
        "vision_config.output_channels": VISION_WIDTH,
        "vision_config.post_conv_in_channels": VISION_WIDTH,
        "vision_config.post_conv_mid_channels": VISION_WIDTH,
        "vision_config.post_conv_out_channels": VISION_WIDTH,
        "vision_config.decoder_hidden_size": TEXT_WIDTH,
    },
    paths=Paths(vision="model.encoder", projector=None, blocks="model.decoder.layers"),
)
_CODEC = {
    "vq_config.base_channels": 32,
    "vq_config.num_res_blocks": 1,
    "vq_config.latent_channels": 32,
}
_CHAMELEON = replace(
    LLAVA,
    # Its codec halves the image's side three times: a code for each patch.
    count_vision_tokens=every_patch,
    overrides={
        **_CODEC,
        "vq_config.channel_multiplier": [1, 1, 1, 1],
        "vq_config.resolution": SIDE * PATCH_SIZE,
        "vq_config.num_embeddings": _N_CODES,
        "vocabulary_map": {"<image>": 299}
        | {f"IMGIMG{chr(65 + i // 10)}{chr(65 + i % 10)}Z": 210 + i for i in range(_N_CODES)},
    },
    paths=Paths(
        vision="model.vqmodel.encoder",
        projector="model.vqmodel.quantize",
        blocks="model.layers",
    ),
    weight_gain=1.5,
)
_EMU3 = replace(
    LLAVA,
    make_pixels=pixels.sized_square,
    # A row of four codes ends in a newline.
    count_vision_tokens=lambda config: SIDE * (SIDE + 1),
    overrides={
        **_CODEC,
        "vq_config.channel_multiplier": [1, 1, 1, 1],
        "vq_config.attn_resolutions": [],
        "vq_config.codebook_size": _N_CODES,
        "vocabulary_map": {"<image>": 299, "<|extra_200|>": 250}
        | {f"<|visual token {i:06d}|>": 210 + i for i in range(_N_CODES)},
    },
    paths=Paths(
        vision="model.vqmodel.encoder",
        projector="model.vqmodel.quantize",
        blocks="model.text_model.layers",
    ),
    # Or all features lie nearest to the same code.
    weight_gain=2.0,
)
_APERTUS1P5 = replace(
    LLAVA,
    make_pixels=pixels.sized_square,
    # Its tokenizer halves the image's side three times: a code for each patch.
    count_vision_tokens=every_patch,
    overrides={
        "vision_config.base_channels": 32,
        "vision_config.latent_channels": 32,
        "vision_config.num_res_blocks": 1,
        "vision_config.channel_multiplier": [1, 1, 1, 1],
        "vision_config.attn_resolutions": [],
        # The vocabulary has the codes of images, and those of sound after them.
        "vision_config.codebook_size": _N_CODES,
        "audio_config.codebook_size": 4,
        "text_config.hidden_act": "silu",  # its own may be another package's kernel
        "text_config.rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "audio_config.codebook_dim": TEXT_WIDTH,
        "image_token_offset": 210,
        "audio_token_offset": 210 + _N_CODES,
    },
    paths=Paths(
        vision="model.vision_tokenizer.encoder", projector="model.vision_tokenizer.quantize"
    ),
)

ENCODERS: dict[str, Recipe] = {
    "blip": _BLIP,
    "kosmos-2.5": _KOSMOS_2_5,
    "pix2struct": _PIX2STRUCT,
    "udop": _UDOP,
    "t5gemma2": _T5GEMMA2,
    "pp_formulanet": _PP_FORMULANET,
    "chameleon": _CHAMELEON,
    "emu3": _EMU3,
    "apertus1p5": _APERTUS1P5,
}
