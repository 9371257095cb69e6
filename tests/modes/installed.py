"""What the installed transformers can do of the modes: asked of it, never told by its number."""

from transformers import GenerationMixin

CHUNKS_BY_CALL = not hasattr(GenerationMixin, "_prefill_chunking")
"""Whether each chunk of a prompt is a call of the model; it used to be a call of its forward()."""
CONTINUES_WITH_NEW_PART = hasattr(GenerationMixin, "_prefill")
"""Whether a further turn may be passed without those before it, its cache and mask being whole."""
