"""Loops of a model's own: one forward after the last token, a first token that none gave."""

from types import SimpleNamespace

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement
from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock
from tests.measure.custom_models import (
    Captioner,
    HeadAtRoot,
    Images,
    measure_custom,
)

N_TOKENS = 6
START = 0
DELAYS_MS = {"vision": 60, "proj": 11, "blocks.0": 3}


class Loop(Captioner):
    """Generates by a loop that a test shapes: what it returns first, and when it stops.

    Logits of fixed tokens, none of them twice, so that no two steps are alike.
    """

    has_start = False
    runs_after_last = False
    keeps_end = False
    end = 30

    def next_of(self, logits: torch.Tensor) -> torch.Tensor:
        self.n_given += 1
        return torch.full((len(logits), 1), 20 + self.n_given)

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = N_TOKENS
    ) -> torch.Tensor:
        self.n_given = 0
        token = self.next_of(self(input_ids, images).logits)
        tokens = [torch.full_like(token, START)] if self.has_start else []
        while not (self.keeps_end and self.n_given > max_new_tokens):
            tokens.append(token)
            is_last = self.n_given == max_new_tokens
            if is_last and not (self.runs_after_last or self.keeps_end):
                break
            token = self.next_of(self(token).logits)
            if is_last:
                break
        return torch.cat(tokens, dim=1)


class EmbedsInLoop(Loop):
    """Embeds each token at the root, and gives its step states."""

    def forward(self, states: torch.Tensor) -> SimpleNamespace:  # type: ignore[override]  # the point
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))

    def __call__(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        found: SimpleNamespace = super().__call__(states)
        return found


def looped(kind: type[Loop], **shape: int) -> Loop:
    model = kind()
    vars(model).update(shape)
    return model


def counts(case: Case) -> tuple[int, int, int | None]:
    call = case.calls[0]
    return call.n_output_tokens, call.n_decode_steps, call.n_generated_tokens


@pytest.mark.parametrize("kind", [Loop, EmbedsInLoop])
@pytest.mark.parametrize(
    ("shape", "n_steps", "labels"),
    [
        ({}, 5, ()),
        ({"runs_after_last": True}, 6, ("extra-step",)),
        ({"keeps_end": True}, 6, ("extra-step",)),
        ({"has_start": True}, 5, ("start-token",)),
        ({"has_start": True, "runs_after_last": True}, 6, ("start-token", "extra-step")),
    ],
    ids=["plain", "one more", "an end kept", "a start", "both"],
)
def test_steps_and_tokens_that_the_loop_explains_are_measured(
    clock: FakeClock,
    kind: type[Loop],
    shape: dict[str, bool],
    n_steps: int,
    labels: tuple[str, ...],
) -> None:
    case = measure_custom(looped(kind, **shape), clock, delays_ms=DELAYS_MS)

    assert counts(case) == (N_TOKENS, n_steps, N_TOKENS)
    assert (case.calls[0].prefill_ms, case.calls[0].decode_ms) == (3, 3 * n_steps)
    assert case.labels == labels
    assert len(case.notes) == len(labels)


def test_a_start_token_that_ends_rows_elsewhere_is_no_end(clock: FakeClock) -> None:
    model = looped(Loop, has_start=True)
    vars(model)["generation_config"] = SimpleNamespace(eos_token_id=START)

    assert counts(measure_custom(model, clock)) == (N_TOKENS, 5, N_TOKENS)


def test_a_second_case_of_such_a_loop_is_counted_alike(clock: FakeClock) -> None:
    model = looped(Loop, has_start=True, runs_after_last=True)

    cases = [measure_custom(model, clock) for _ in range(2)]

    assert counts(cases[0]) == counts(cases[1]) == (N_TOKENS, 6, N_TOKENS)
    assert cases[0].labels == cases[1].labels


class Wastes(Loop):
    """Runs so many forwards for nothing in each call."""

    n_wasted = 1

    def generate(self, input_ids, images=None, max_new_tokens=N_TOKENS):  # type: ignore[no-untyped-def]
        tokens = super().generate(input_ids, images, max_new_tokens)
        for _ in range(self.n_wasted):
            self(tokens[:, :1])
        return tokens


class Unrelated(Loop):
    """Returns other tokens than its steps are given, and one more."""

    def generate(self, input_ids, images=None, max_new_tokens=N_TOKENS):  # type: ignore[no-untyped-def]
        tokens = super().generate(input_ids, images, max_new_tokens)
        return 1 + tokens.roll(1, dims=1)[:, 1:]


@pytest.mark.parametrize(
    ("model", "n_steps"),
    [(looped(Wastes, n_wasted=2), 7), (Unrelated(), 5)],
    ids=["two more", "other tokens"],
)
def test_steps_that_nothing_explains_are_refused_and_measured_once_the_step_is_named(
    clock: FakeClock, model: Loop, n_steps: int
) -> None:
    with pytest.raises(
        InvalidMeasurement, match=rf"ran {n_steps} step forwards .*phases=\{{'step'"
    ):
        measure_custom(model, clock)

    case = measure_custom(model, clock, phases={"step": ""})

    assert case.calls[0].n_decode_steps == n_steps
    assert case.labels[0] in ("uneven-steps", "extra-step")
    assert len(case.notes) == 1


def test_the_head_after_a_step_without_logits_leaves_the_rule_as_it_is(clock: FakeClock) -> None:
    delays_ms = {"vision": 60, "proj": 11, "text.blocks.0": 3}

    assert measure_custom(HeadAtRoot(), clock, delays_ms=delays_ms).labels == ()


class RunsAhead(Loop):
    """Looks for the end after each third token, and puts a prefix before what it generates."""

    n_before = 0
    n_ahead = 2

    @torch.no_grad()
    def generate(self, input_ids, images=None, max_new_tokens=N_TOKENS):  # type: ignore[no-untyped-def]
        self.n_given = 0
        tokens = [self.next_of(self(input_ids, images).logits)]
        while len(tokens) <= max_new_tokens + self.n_ahead:
            tokens.append(self.next_of(self(tokens[-1]).logits))
        before = [torch.full_like(tokens[0], START + it) for it in range(self.n_before)]
        return torch.cat([*before, *tokens[:max_new_tokens]], dim=1)


@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_a_loop_that_runs_ahead_of_its_end_or_returns_a_prefix_is_measured(
    clock: FakeClock, n_before: int
) -> None:
    case = measure_custom(looped(RunsAhead, n_before=n_before), clock, delays_ms=DELAYS_MS)

    assert counts(case) == (N_TOKENS, N_TOKENS + 2, N_TOKENS)
    assert case.labels == (*(["start-token"] if n_before else []), "uneven-steps")
    assert len(case.notes) == len(case.labels)


class Apart(Loop):
    """Has a method for the prompt and another one for each token, and no forward around both."""

    def _states(self, states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            states = block(states)
        return self.lm_head(states[:, -1:])  # type: ignore[no-any-return]  # a module's output

    def _prefill(self, input_ids: torch.Tensor, images: Images | None) -> SimpleNamespace:
        states = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        return SimpleNamespace(logits=self._states(states))

    def _decode_one_token(self, token: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self._states(self.embed(token)))

    def __call__(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if self.n_given == 0:
            return self._prefill(input_ids, images)
        return self._decode_one_token(input_ids)


@pytest.mark.parametrize(
    "step",
    [
        ["_prefill", "_decode_one_token"],
        ["_decode_one_token", "_prefill"],
        lambda model: (model._prefill, model._decode_one_token),
    ],
    ids=["names", "in another order", "methods"],
)
@pytest.mark.parametrize("shape", [{}, {"has_start": True, "runs_after_last": True}])
def test_a_method_for_the_prompt_and_one_for_each_token_are_one_step_where_both_are_named(
    clock: FakeClock, shape: dict[str, bool], step: object
) -> None:
    model = looped(Apart, **shape)
    before = set(vars(model))

    case = measure_custom(model, clock, delays_ms=DELAYS_MS, phases={"step": step})  # type: ignore[dict-item]  # of each kind

    n_steps = N_TOKENS - 1 + len(shape) // 2
    assert counts(case) == (N_TOKENS, n_steps, N_TOKENS)
    assert (case.calls[0].vision_ms, case.calls[0].prefill_ms) == (71, 3)
    assert case.calls[0].decode_ms == 3 * n_steps
    assert case.phase_map is not None
    assert set(case.phase_map.step.split(" + ")) == {"_prefill", "_decode_one_token"}
    assert set(vars(model)) - before <= {"n_given"}


def test_a_method_that_is_a_step_alone_does_not_make_the_prompt(clock: FakeClock) -> None:
    with pytest.raises((InvalidMeasurement, PhasesNotFound)):
        measure_custom(looped(Apart), clock, phases={"step": "_decode_one_token"})
