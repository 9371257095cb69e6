"""Names of the mapping that the zoo doesn't have, each with the reason, in a sentence."""

from types import MappingProxyType

TAKES_NO_PIXELS = "It takes no pixels: {}."
GENERATES_NO_TEXT = "It doesn't generate text: {}."
DECODES_NO_STEPS = "It doesn't decode token by token: {}."
WANTS_ANOTHER_PACKAGE = "Its vision tower is another package's, and no other can stand in: {}."

REASONS = MappingProxyType(
    {
        "evolla": (TAKES_NO_PIXELS, "proteins are what it sees"),
        "mistral4": (TAKES_NO_PIXELS, "a text decoder, which the mapping lists for its family"),
        "pi0": (
            GENERATES_NO_TEXT,
            "a policy gives a robot's actions, and has no generate()",
        ),
        "diffusion_gemma": (
            DECODES_NO_STEPS,
            "a forward denoises a whole block; it is refused",
        ),
        "gemma3n": (WANTS_ANOTHER_PACKAGE, "its configuration insists on timm's"),
    }
)
UNCOVERED = MappingProxyType({name: kind.format(why) for name, (kind, why) in REASONS.items()})
"""Name -> why the zoo doesn't have it."""


def uncovered_for(kind: str) -> tuple[str, ...]:
    """Return the names of which a kind of reason is given."""
    return tuple(name for name, (its_kind, _) in REASONS.items() if its_kind == kind)
