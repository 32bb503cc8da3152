"""Recipes of pretraining: sizes of networks, shapes of batches, rates and phases."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from tsattn.pretrained.network import ZeroConfig

# Steps of the warm-up at most.
_MOST_WARMUP_STEPS = 1000
# Steps in which no rate falls.
_NEVER = 10**9
# Steps in which the rates rise again after the optimizers have begun anew.
_RISE_STEPS = 50
# Steps of the tokens that a batch fills, about.
_STEPS_A_TOKEN = 9


@dataclass(frozen=True)
class Shape:
    """One kind of batch.

    Args:
        n_tokens: Tokens of the context.
        horizon: Steps ahead.
        n_windows: Windows of a batch; all shapes cost about as much a step.
        share: Of the steps.
    """

    n_tokens: int
    horizon: int
    n_windows: int
    share: float

    @property
    def n_steps(self) -> int:
        """Steps of the context."""
        return _STEPS_A_TOKEN * self.n_tokens


SHAPES = (
    Shape(6, 18, 420, 0.12),
    Shape(12, 24, 256, 0.09),
    Shape(32, 48, 112, 0.12),
    Shape(64, 64, 64, 0.17),
    Shape(128, 128, 28, 0.14),
    Shape(256, 192, 14, 0.16),
    Shape(128, 720, 18, 0.09),
    Shape(256, 900, 10, 0.11),
)

# Networks that weights are shipped of: the usual one, and one that takes about a fifth of the time.
SIZES = {
    "base": ZeroConfig(encode=32, measure="recent"),
    "small": ZeroConfig(
        80, 2, 2, 256, token_len=16, max_len=24, max_tokens=128, encode=16, measure="recent"
    ),
}


@dataclass(frozen=True)
class Recipe:
    """How the network learns.

    The rates rise, fall with the root of the steps, and decay to zero at the end. A run of many
    days is one of phases, each of which begins with fresh optimizers: then weights and their
    average are all that the next phase needs, and they are small enough to be kept. Runs of one
    recipe but for the number of steps are the same up to the decay of the shorter one.

    Args:
        n_steps: Steps in all.
        seed: Of the start values and of every series.
        rate: Of Muon, which moves the matrices inside the blocks.
        other_rate: Of AdamW, which moves the rest.
        warmup: Share of the steps in which the rates rise from zero, 1,000 steps at most.
        half: Steps after which the rates are ``2**-0.5`` of what they were, falling as
            ``(1 + step / half)**-0.5``.
        decay: Share of the steps, the last ones, in which the rates fall to zero.
        average: Share of the steps so far that the running average of weights looks back on.
        phase: Steps of a phase.
        recent_from: First step of the phase from which on windows are measured as the settings of
            the network say; before it, by all that they hold. The inputs that come with it begin
            with weights of zero.
        start: Name of the weights to begin with; default none, random ones.
        teachers: Names of the weights to learn from; default none, the truths teach.
        loss: Function of :mod:`tsattn.pretrained.losses` that compares with the teachers,
            ``"expected_pinball"`` or by default ``distance``.
        faults: Share of the contexts in which the network sees faults, and its teachers do not;
            default none.

    Raises:
        ValueError: If ``recent_from`` lies inside a phase.
    """

    n_steps: int
    seed: int = 0
    rate: float = 0.02
    other_rate: float = 2e-3
    warmup: float = 0.05
    half: int = 4000
    decay: float = 0.2
    average: float = 0.05
    phase: int = 4000
    recent_from: int = 0
    start: str | None = None
    teachers: tuple[str, ...] | None = None
    loss: str | None = None
    faults: float | None = None

    def __post_init__(self) -> None:
        if self.recent_from % self.phase:
            raise ValueError(
                f"recent_from must be a multiple of phase = {self.phase}; got {self.recent_from}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without weights where none are named."""
        # A list, as a file of JSON gives it back.
        teachers = self.teachers and list(self.teachers)
        values = {**asdict(self), "teachers": teachers}
        return {name: value for name, value in values.items() if value is not None}

    def factor(self, step: int) -> float:
        """Factor of the rates in a step, counted from 0."""
        warmup_steps = min(self.warmup * self.n_steps, _MOST_WARMUP_STEPS)
        n_warmup = max(round(warmup_steps), 1)
        warmup = (step + 1) / n_warmup
        decay_steps = max(self.decay * self.n_steps, 1)
        decay = (self.n_steps - step) / decay_steps
        rise = 1.0
        # Fresh optimizers begin with small steps.
        if step >= self.phase:
            step_of_phase = step % self.phase
            rise = (step_of_phase + 1) / _RISE_STEPS
        slow_decay = (1 + step / self.half) ** -0.5
        return slow_decay * min(warmup, 1.0, decay, rise)


# That series which grow are better measured by their recent part was found when so many steps had
# been taken, and what the network had learnt till then was worth keeping.
_RECENT_FROM = 132_000

# A small network cannot tell apart what its teacher can, and has to learn wider intervals.
_TAUGHT_SMALL = Recipe(
    16_000,
    seed=2,
    rate=0.012,
    other_rate=0.0012,
    half=_NEVER,
    decay=1.0,
    phase=2000,
    start="zero-5-small",
    teachers=("zero-5b",),
    loss="expected_pinball",
)

# From where zero-5b ended, nearer to what the teachers forecast.
_TAUGHT_AGAIN = Recipe(
    8_000,
    seed=3,
    rate=0.006,
    other_rate=0.0006,
    half=_NEVER,
    decay=1.0,
    phase=2000,
    start="zero-5b",
    teachers=("zero-5", "zero-5a", "zero-4"),
)

_ALL_TEACHERS = ("zero-5b", "zero-5", "zero-5a", "zero-4")

# At rates high enough to leave the place where the small ones before it ended.
_FAST_SMALL = replace(
    _TAUGHT_SMALL,
    n_steps=8_000,
    seed=7,
    rate=0.024,
    other_rate=0.0024,
    start="zero-5e-small",
    teachers=_ALL_TEACHERS,
)

# Recipes of the next weights. A release before the end of a long recipe is a shorter one.
RECIPES = {
    "zero-5a": Recipe(192_000, decay=0.0625, recent_from=_RECENT_FROM),
    "zero-5": Recipe(400_000, recent_from=_RECENT_FROM),
    "zero-5-small": Recipe(24_000, decay=0.25),
    # What it starts from has seen the series of seed 0. The rates fall to zero from the beginning.
    "zero-5b": Recipe(
        12_000,
        seed=1,
        rate=0.006,
        # Its run began so, and 0.0006 is another number.
        other_rate=0.006 / 10,
        half=_NEVER,
        decay=1.0,
        phase=2000,
        start="zero-5",
        teachers=("zero-5", "zero-5a", "zero-4"),
    ),
    "zero-5c": _TAUGHT_AGAIN,
    # The same at three times its rates, which helped small networks, and with one more teacher.
    "zero-5d": replace(
        _TAUGHT_AGAIN, seed=10, rate=0.018, other_rate=0.0018, teachers=_ALL_TEACHERS
    ),
    # From zero-5b by the series alone, as teachers that are no better than it no longer help.
    "zero-5e": replace(_TAUGHT_AGAIN, n_steps=16_000, seed=13, teachers=None),
    # From zero-5b by the mixture of its teachers, where zero-5c and zero-5d went for the mean of
    # their quantiles.
    "zero-5f": replace(_TAUGHT_AGAIN, seed=15, teachers=_ALL_TEACHERS, loss="expected_pinball"),
    # From zero-5b to forecast from contexts with faults what it forecasts from those without.
    "zero-5g": replace(
        _TAUGHT_AGAIN,
        seed=16,
        teachers=("zero-5b", "zero-4"),
        loss="expected_pinball",
        faults=0.4,
    ),
    # From zero-5g back to what zero-5b forecasts, with faults in fewer contexts.
    "zero-5h": replace(
        _TAUGHT_AGAIN,
        n_steps=10_000,
        seed=17,
        start="zero-5g",
        teachers=("zero-5b",),
        faults=0.25,
    ),
    # From zero-5h, with itself as a second teacher.
    "zero-5i": replace(
        _TAUGHT_AGAIN,
        n_steps=6_000,
        seed=19,
        start="zero-5h",
        teachers=("zero-5b", "zero-5h"),
        faults=0.25,
    ),
    # The same at three times its rates, and shorter.
    "zero-5j": replace(
        _TAUGHT_AGAIN,
        n_steps=4_000,
        seed=20,
        rate=0.018,
        other_rate=0.0018,
        start="zero-5h",
        teachers=("zero-5b", "zero-5h"),
        faults=0.25,
    ),
    # From zero-5j at the rates of zero-5i, taught by it too.
    "zero-5k": replace(
        _TAUGHT_AGAIN,
        n_steps=4_000,
        seed=21,
        start="zero-5j",
        teachers=("zero-5b", "zero-5h", "zero-5j"),
        faults=0.25,
    ),
    "zero-5b-small": _TAUGHT_SMALL,
    # Further series from where zero-5b-small ended, twice.
    "zero-5c-small": replace(_TAUGHT_SMALL, seed=4, start="zero-5b-small"),
    "zero-5d-small": replace(_TAUGHT_SMALL, seed=5, start="zero-5b-small"),
    # A better teacher than zero-5b alone: the mean of all that came before it, and itself.
    "zero-5e-small": replace(
        _TAUGHT_SMALL,
        n_steps=12_000,
        seed=6,
        start="zero-5b-small",
        teachers=_ALL_TEACHERS,
    ),
    "zero-5f-small": _FAST_SMALL,
    # The same once more, on further series.
    "zero-5g-small": replace(_FAST_SMALL, seed=8, start="zero-5f-small"),
    # Once more, longer and at rates half as high again.
    "zero-5h-small": replace(
        _FAST_SMALL,
        n_steps=10_000,
        seed=9,
        rate=0.036,
        other_rate=0.0036,
        start="zero-5g-small",
    ),
    # Once more, at rates half as high again.
    "zero-5i-small": replace(
        _FAST_SMALL,
        seed=11,
        rate=0.054,
        other_rate=0.0054,
        start="zero-5h-small",
    ),
    # A short one after it, at a third of those rates.
    "zero-5j-small": replace(
        _FAST_SMALL,
        n_steps=2_000,
        seed=12,
        rate=0.018,
        other_rate=0.0018,
        start="zero-5i-small",
    ),
    # From zero-5h-small at a sixth of its rates.
    "zero-5k-small": replace(
        _FAST_SMALL,
        n_steps=2_000,
        seed=14,
        rate=0.006,
        other_rate=0.0006,
        start="zero-5h-small",
    ),
    # From zero-5h-small to forecast from contexts with faults as the large ones that saw some do.
    "zero-5l-small": replace(
        _FAST_SMALL,
        seed=18,
        rate=0.018,
        other_rate=0.0018,
        start="zero-5h-small",
        teachers=("zero-5b", "zero-5h"),
        faults=0.25,
    ),
}
