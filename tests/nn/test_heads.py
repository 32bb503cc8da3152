"""Heads: losses and quantiles against loops, scipy and gluonts; order, holes, extremes, chance,
affine maps.
"""

import math
import warnings

import checkout
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from chance import seeded
from fresh import in_fresh_process
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tsattn.nn.distributions import FAMILIES, MeanScale, count_quantiles
from tsattn.nn.heads import (
    HEADS,
    POINT_LOSSES,
    QUANTILES,
    DistributionHead,
    PointHead,
    QuantileHead,
    make_head,
    point_loss,
)
from tsattn.nn.patching import RevIN

with warnings.catch_warnings():
    # gluonts says at import which faster JSON module it would like.
    warnings.filterwarnings("ignore", message="Using `json`-module", category=UserWarning)
    import gluonts.torch.distributions as theirs
    from gluonts.model.forecast import QuantileForecast
    from gluonts.torch.distributions import AffineTransformed
    from gluonts.torch.scaler import MeanScaler

SHIFTING = ("student_t", "normal")
PROBABLE = [head for head in HEADS if head != "point"]
GLUONTS = {
    "student_t": theirs.StudentTOutput,
    "normal": theirs.NormalOutput,
    "negative_binomial": theirs.NegativeBinomialOutput,
}
F64 = torch.float64


def build(kind, **kwargs):
    return make_head(kind, 3, 4, 5, generator=seeded(), **kwargs)


def raw_of(head, *shape, seed=1, dtype=F64):
    axis = () if isinstance(head, PointHead) else (head.n_parameters,)
    return 1.5 * torch.randn(*shape, *axis, generator=seeded(seed), dtype=dtype)


def truth_of(kind, *shape, seed=2, dtype=F64):
    y = 3 * torch.randn(*shape, generator=seeded(seed), dtype=dtype)
    return {"negative_binomial": y.abs().round(), "log_normal": y.abs() + 0.1}.get(kind, y)


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def minus_log_likelihood(kind, raw, y):
    """From the textbook densities, one number at a time."""
    if kind == "normal":
        loc = raw[0]
        scale = softplus(raw[1])
        return 0.5 * ((y - loc) / scale) ** 2 + math.log(scale) + 0.5 * math.log(2 * math.pi)
    if kind == "log_normal":
        return minus_log_likelihood("normal", raw, math.log(y)) + math.log(y)
    if kind == "student_t":
        df = 2 + softplus(raw[0])
        loc = raw[1]
        scale = softplus(raw[2])
        constant = (
            math.lgamma((df + 1) / 2)
            - math.lgamma(df / 2)
            - 0.5 * math.log(df * math.pi)
            - math.log(scale)
        )
        return (df + 1) / 2 * math.log(1 + ((y - loc) / scale) ** 2 / df) - constant
    count = softplus(raw[0])
    failure = 1 / (1 + math.exp(-raw[1]))
    ways = math.lgamma(y + count) - math.lgamma(count) - math.lgamma(y + 1)
    return -(ways + count * math.log(1 - failure) + y * math.log(failure))


def ladder(raw, trained):
    """Quantiles from raw numbers, one at a time: the median, then step by step outwards."""
    middle = trained.index(0.5)
    z = [scipy.stats.norm.ppf(q) for q in trained]
    values = {middle: raw[middle]}
    for i in range(middle + 1, len(trained)):
        values[i] = values[i - 1] + softplus(raw[i]) / math.log(2) * (z[i] - z[i - 1])
    for i in reversed(range(middle)):
        values[i] = values[i + 1] - softplus(raw[i]) / math.log(2) * (z[i + 1] - z[i])
    return [values[i] for i in range(len(trained))]


# Maps


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_maps_states_alike(kind):
    state = torch.random.get_rng_state()
    head = build(kind)
    states = torch.randn(2, 3, 4, generator=seeded(1))
    assert head(states).shape == ((2, 5) if kind == "point" else (2, 5, head.n_parameters))
    expected = states.flatten(1) @ head.project.weight.T + head.project.bias
    torch.testing.assert_close(head(states).flatten(1), expected)
    assert torch.equal(state, torch.random.get_rng_state())
    assert list(head.state_dict()) == ["project.weight", "project.bias"]
    for name, tensor in build(kind).state_dict().items():
        assert torch.equal(tensor, head.state_dict()[name])


@pytest.mark.parametrize("kind", HEADS)
def test_a_skip_moves_the_location_alone(kind):
    head = build(kind)
    raw = raw_of(head, 2, 5)
    skip = torch.randn(2, 5, generator=seeded(4), dtype=F64)
    before = head.denormalise(raw)
    after = head.denormalise(head.shift(raw, skip))
    if kind == "point":
        torch.testing.assert_close(after, before + skip)
    elif kind == "quantile":
        torch.testing.assert_close(after, before + skip[..., None])
    else:
        names = list(head.family.args_dim)
        for i, name in enumerate(names):
            moved = before[..., i] + skip if name in ("loc", "logits") else before[..., i]
            torch.testing.assert_close(after[..., i], moved)
        ratio = {"negative_binomial": skip.exp(), "log_normal": skip.exp()}
        expected = head.point(before) * ratio[kind] if kind in ratio else head.point(before) + skip
        torch.testing.assert_close(head.point(after), expected)


def test_make_head_refuses_what_it_does_not_know():
    assert isinstance(build("point"), PointHead)
    assert build("quantile").trained == QUANTILES
    with pytest.raises(
        ValueError, match=r"head must be one of point, quantile, student_t, .*; got 'poisson'"
    ):
        build("poisson")
    with pytest.raises(ValueError, match=r"head 'normal' trains no quantiles; got \[0.1\]"):
        build("normal", quantiles=[0.1])
    with pytest.raises(ValueError, match=r"family must be one of student_t, .*; got 'cauchy'"):
        DistributionHead(3, 4, 5, family="cauchy")


REFUSALS = """
import pytest
from tsattn.nn.heads import make_head

for wrong in (["a"], [None], "0.1"):
    with pytest.raises(ValueError, match=r"quantiles must be numbers; got .*; write \\[0.1, 0.9\\]"):
        make_head("quantile", 4, 8, 3, quantiles=wrong)
"""


def test_quantiles_that_are_no_numbers_are_refused():
    # Here the checks of types would speak first, and this module imports much.
    in_fresh_process(checkout.__file__, REFUSALS)


# Losses


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_point_losses_against_a_loop(kind, assert_close):
    head = build("point")
    f = raw_of(head, 4, 5)
    y = truth_of("point", 4, 5)
    mask = torch.rand(4, 5, generator=seeded(5)) < 0.6
    rule = {
        "mse": lambda e: e * e,
        "mae": abs,
        "huber": lambda e: e * e / 2 if abs(e) <= 1 else abs(e) - 0.5,
    }[kind]
    errors = [rule(a - b) for a, b in zip(f.ravel().tolist(), y.ravel().tolist(), strict=True)]
    assert_close(head.loss(f, y, kind=kind), math.fsum(errors) / 20)
    kept = [e for e, seen in zip(errors, mask.ravel().tolist(), strict=True) if seen]
    assert 0 < len(kept) < 20
    assert_close(head.loss(f, y, mask, kind=kind), math.fsum(kept) / len(kept))


def test_missing_values_stay_out_of_an_own_loss(assert_close):
    generator = torch.Generator().manual_seed(0)
    points, y = torch.randn(2, 5, 4, 1, generator=generator)
    mask = torch.rand(5, 4, 1, generator=generator) < 0.6
    y = torch.where(mask, y, torch.nan)

    def loss(points, truth):
        return (truth - points) ** 4

    assert_close(point_loss(points, y, mask, kind=loss), loss(points, y)[mask].mean())


def test_pinball_against_a_loop_and_gluonts(assert_close):
    head = build("quantile", quantiles=[0.1, 0.5, 0.8])
    raw = raw_of(head, 4, 5)
    y = truth_of("quantile", 4, 5)
    values = head.denormalise(raw)
    total = 0.0
    for numbers, truth in zip(raw.reshape(-1, 3).tolist(), y.ravel().tolist(), strict=True):
        for q, f in zip(head.trained, ladder(numbers, head.trained), strict=True):
            total += q * (truth - f) if truth > f else (1 - q) * (f - truth)
    assert_close(head.loss(values, y), total / 60)
    # Theirs has the factor 2 of the weighted quantile loss.
    assert_close(
        head.loss(values, y), theirs.QuantileOutput([0.1, 0.5, 0.8]).loss(y, (values,)).mean() / 2
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_against_the_formulas(family, assert_close):
    head = build(family)
    raw = raw_of(head, 4, 5)
    y = truth_of(family, 4, 5)
    mask = torch.rand(4, 5, generator=seeded(5)) < 0.6
    terms = [
        minus_log_likelihood(family, numbers, truth)
        for numbers, truth in zip(raw.reshape(20, -1).tolist(), y.ravel().tolist(), strict=True)
    ]
    assert_close(head.loss(head.denormalise(raw), y), math.fsum(terms) / 20)
    kept = [term for term, seen in zip(terms, mask.ravel().tolist(), strict=True) if seen]
    assert_close(head.loss(head.denormalise(raw), y, mask), math.fsum(kept) / len(kept))


@pytest.mark.parametrize("kind", HEADS)
def test_missing_truth_leaves_loss_and_gradients_clean(kind):
    head = build(kind)
    raw = raw_of(head, 4, 5).requires_grad_()
    y = truth_of(kind, 4, 5)
    mask = torch.rand(4, 5, generator=seeded(5)) < 0.6
    full = head.loss(head.denormalise(raw), y, mask)
    (expected,) = torch.autograd.grad(full, raw)
    for hole in (math.nan, math.inf, -3.5):
        loss = head.loss(head.denormalise(raw), torch.where(mask, y, hole), mask)
        (grad,) = torch.autograd.grad(loss, raw)
        assert torch.equal(loss, full)
        assert torch.equal(grad, expected)
        assert (grad[~mask] == 0).all()
    none = head.loss(head.denormalise(raw), torch.full_like(y, math.nan), torch.zeros_like(mask))
    assert none == 0
    assert (torch.autograd.grad(none, raw)[0] == 0).all()
    # Without a mask a missing value must not pass in silence.
    assert head.loss(head.denormalise(raw), torch.where(mask, y, math.nan)).isnan()


@pytest.mark.parametrize("family", SHIFTING)
def test_a_broken_network_does_not_hide_behind_the_rule_for_constant_windows(family):
    head = build(family)
    raw = raw_of(head, 4, 5)
    raw[0, 0] = math.nan
    assert head.loss(head.denormalise(raw), truth_of(family, 4, 5)).isnan()


@pytest.mark.parametrize("kind", HEADS)
def test_gradients(kind):
    head = build(kind)
    y = truth_of(kind, 2, 3)
    spread = torch.tensor([[0.5], [2.0]], dtype=F64)
    mask = torch.tensor([[True, True, False], [True, False, True]])
    location = torch.tensor([[1.0], [-2.0]], dtype=F64) if head.shifts else None
    for name in POINT_LOSSES if kind == "point" else [None]:
        options = {} if name is None else {"kind": name}
        assert torch.autograd.gradcheck(
            lambda raw, options=options: head.loss(
                head.denormalise(raw, location, spread), y, mask, **options
            ),
            raw_of(head, 2, 3).requires_grad_(),
        )


@pytest.mark.parametrize("kind", HEADS)
def test_float32_extremes_give_finite_losses_and_gradients(kind):
    head = build(kind)
    ends = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 80.0, 1e4])
    n = head.n_parameters
    grid = torch.cartesian_prod(*[ends] * n) if n in (2, 3) else ends[:, None].expand(-1, n)
    raw = grid if kind != "point" else ends
    for size in (0.0, 1e-6, 1.0, 1e6):
        y = torch.full(raw.shape[:1], size + (1e-9 if kind == "log_normal" else 0))
        y = y.round() if kind == "negative_binomial" else y
        leaf = raw.clone().requires_grad_()
        loss = head.loss(head.denormalise(leaf), y)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()


def test_large_counts_and_many_degrees_keep_their_digits_in_float32():
    counts = build("negative_binomial")
    heavy = build("student_t")
    raw = torch.tensor([[5e3, 2.0]])
    y = torch.tensor([36000.0])
    expected = minus_log_likelihood("negative_binomial", raw[0].tolist(), 36000.0)
    assert counts.loss(counts.denormalise(raw), y).item() == pytest.approx(expected, rel=1e-5)
    raw = torch.tensor([[1e6, 0.0, 0.0]])
    expected = minus_log_likelihood("student_t", raw[0].tolist(), 0.7)
    assert heavy.loss(heavy.denormalise(raw), torch.tensor([0.7])).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("kind", HEADS)
def test_half_precision_states_give_full_precision_forecasts(kind):
    head = build(kind)
    raw = raw_of(head, 4, 5, dtype=torch.float32)
    loss = head.loss(
        head.denormalise(raw.bfloat16().float()), truth_of(kind, 4, 5, dtype=torch.float32)
    )
    half = head.denormalise(raw.bfloat16())
    if kind != "point":
        assert half.dtype == torch.float32
        torch.testing.assert_close(head.loss(half, truth_of(kind, 4, 5, dtype=torch.float32)), loss)


def test_a_loss_that_no_head_of_points_knows_is_refused():
    head = build("point")
    p = head.denormalise(raw_of(head, 2, 5))
    y = truth_of("point", 2, 5)
    assert torch.equal(head.loss(p, y), head.loss(p, y, kind="mse"))
    with pytest.raises(ValueError, match="loss must be one of mse, mae, huber; got 'crps'"):
        head.loss(p, y, kind="crps")


# Against gluonts


@pytest.mark.parametrize("family", GLUONTS)
def test_domain_maps_and_distributions_equal_gluonts(family, assert_close):
    ours = FAMILIES[family]
    other = GLUONTS[family]()
    assert type(ours).__name__ == type(other).__name__
    assert list(ours.args_dim.items()) == list(other.args_dim.items())
    raw = torch.cartesian_prod(
        *[torch.tensor([-8.0, -1.0, 0.0, 0.3, 2.0, 25.0], dtype=F64)] * len(ours.args_dim)
    )
    args = ours.domain_map(*raw.unbind(-1))
    for mine, yours in zip(args, other.domain_map(*raw[..., None].unbind(-2)), strict=True):
        assert torch.equal(mine, yours)
    y = truth_of(family, len(raw))
    scale = torch.tensor(2.5, dtype=F64).expand(len(raw))
    loc = -scale if ours.shifts else None
    for move in ({}, {"scale": scale}, {"loc": loc, "scale": scale}):
        mine = ours.base(ours.affine(args, **move))
        yours = other.distribution(tuple(a.clone() for a in args), **move)
        assert_close(mine.log_prob(y), yours.log_prob(y))
        assert_close(mine.mean, yours.mean)
        assert_close(mine.variance, yours.variance)
    q = torch.tensor([0.01, 0.4, 0.9], dtype=F64)
    mine = ours.icdf(args, q)
    for i, level in enumerate(q):
        # Their counts go through 1 - probs, whose digits are gone for large logits.
        few = raw[:, 1] < 5 if family == "negative_binomial" else slice(None)
        assert_close(mine[few, i], other.distribution(args).icdf(level.expand(len(raw)))[few])


def test_log_normal_follows_the_exponential_of_the_normal(assert_close):
    """gluonts has no log-normal for torch; its rules for the normal, and torch's own
    transformation, stand in.
    """
    raw = torch.cartesian_prod(*[torch.tensor([-8.0, -1.0, 0.0, 2.0], dtype=F64)] * 2)
    ours = FAMILIES["log_normal"]
    args = ours.domain_map(*raw.unbind(-1))
    normal = theirs.NormalOutput()
    assert all(map(torch.equal, args, normal.domain_map(*raw[..., None].unbind(-2))))
    other = torch.distributions.TransformedDistribution(
        normal.distribution(args), [torch.distributions.ExpTransform()], validate_args=False
    )
    y = truth_of("log_normal", len(raw))
    assert_close(ours.base(args).log_prob(y), other.log_prob(y))
    scaled = AffineTransformed(ours.base(args), scale=torch.tensor(3.0, dtype=F64))
    mine = ours.base(ours.affine(args, scale=torch.tensor(3.0, dtype=F64)))
    assert_close(mine.log_prob(y), scaled.log_prob(y))
    assert_close(mine.mean, scaled.mean)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_point_is_the_mean(family):
    head = build(family)
    p = head.denormalise(raw_of(head, 3, 5))
    assert torch.equal(head.point(p), head.distribution(p).mean)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_distribution_expands_as_torchs_do(family):
    head = build(family)
    law = head.distribution(head.denormalise(raw_of(head, 3, 5)))
    y = torch.ones(2, 3, 5)
    assert torch.equal(law.expand((2, 3, 5)).log_prob(y), law.log_prob(y))


# Quantiles


@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_equal_scipy(family):
    head = build(family)
    p = head.denormalise(raw_of(head, 30, 5))
    q = [1e-6, 0.025, 0.3, 0.5, 0.9, 1 - 1e-6]
    args = [a[..., None].numpy() for a in p.unbind(-1)]
    if family == "negative_binomial":
        expected = scipy.stats.nbinom.ppf(q, args[0], 1 / (1 + np.exp(args[1])))
    elif family == "student_t":
        expected = scipy.stats.t.ppf(q, *args)
    elif family == "normal":
        expected = scipy.stats.norm.ppf(q, *args)
    else:
        expected = scipy.stats.lognorm.ppf(q, args[1], scale=np.exp(args[0]))
    actual = head.quantiles(p, q)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)
    assert not actual.requires_grad
    torch.testing.assert_close(
        head.quantiles(p.float(), torch.tensor(q, dtype=F64)).double(),
        actual,
        rtol=1e-3,
        atol=1.0 if family == "negative_binomial" else 1e-3,
    )


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e8), st.floats(1e-6, 1 - 1e-6))
def test_count_quantiles_are_the_least_whole_numbers(total_count, mean, q):
    odds = mean / total_count
    (k,) = count_quantiles(np.array([q]), np.array([total_count]), np.array([odds]))
    # scipy's own distribution is given the smaller of the two probabilities, whose digits are all
    # there.
    if odds > 1:
        cdf = [scipy.stats.nbinom.cdf(k - less, total_count, 1 / (1 + odds)) for less in (0, 1)]
    else:
        cdf = [scipy.stats.beta.sf(odds / (1 + odds), k - less + 1, total_count) for less in (0, 1)]
    assert k == int(k) >= 0
    assert cdf[0] >= q * (1 - 1e-10)
    assert k == 0 or cdf[1] < q * (1 + 1e-10)


def test_count_quantiles_by_adding_probabilities():
    for n, odds in ((0.3, 4.0), (2.5, 0.7), (40.0, 3.0)):
        for q in (0.01, 0.5, 0.99):
            total = 0.0
            k = -1
            while total < q:
                k += 1
                log = (
                    math.lgamma(k + n) - math.lgamma(n) - math.lgamma(k + 1) - n * math.log1p(odds)
                )
                total += math.exp(log + k * math.log(odds / (1 + odds)))
            assert count_quantiles(np.array(q), np.array(n), np.array(odds)) == k
    # Tiny odds of very many: Poisson, where one minus the odds is 1.
    for q in (0.1, 0.5, 0.99):
        assert count_quantiles(
            np.array(q), np.array(3e17), np.array(1e-17)
        ) == scipy.stats.poisson.ppf(q, 3)


def test_count_quantiles_of_absurd_parameters_end_and_are_no_nan():
    head = build("negative_binomial")
    raw = torch.cartesian_prod(*[torch.tensor([-1e4, -100.0, 0.0, 60.0, 1e4], dtype=F64)] * 2)
    values = head.quantiles(head.denormalise(raw), [0.025, 0.5, 0.975])
    assert not values.isnan().any()
    assert (values.diff(dim=-1)[values[..., 1:].isfinite()] >= 0).all()
    assert not head.sample(head.denormalise(raw), 5, seeded()).isnan().any()
    # Where whole numbers end the limit takes over without a jump.
    q = np.array([0.1, 0.5, 0.9])
    n = np.full(3, 2.0)
    below, above = (count_quantiles(q, n, np.full(3, mean / 2.0)) / mean for mean in (1e14, 1e17))
    np.testing.assert_allclose(below, above, rtol=1e-9)


RAWS = st.integers(1, 7).flatmap(
    lambda n: arrays(np.float32, (4, 2 * n + 1), elements=st.floats(-1e6, 1e6, width=32))
)


@settings(max_examples=200, deadline=None)
@given(
    RAWS,
    st.floats(0, 1e6, width=32),
    st.floats(-1e6, 1e6, width=32),
    st.lists(st.floats(0, 1), max_size=20),
)
def test_quantiles_cannot_cross(raw, spread, location, shares):
    n = raw.shape[1]
    head = QuantileHead(
        1, 1, 1, quantiles=[(i + 1) / (n + 1) for i in range(n)], generator=seeded()
    )
    p = head.denormalise(torch.from_numpy(raw), torch.tensor([location]), torch.tensor([spread]))
    assert (p.diff(dim=-1) >= 0).all()
    low = head.trained[0]
    high = head.trained[-1]
    asked = sorted([*head.trained, *(low + share * (high - low) for share in shares)])
    assert (head.quantiles(p, asked).diff(dim=-1) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(list(FAMILIES)),
    st.integers(0, 2**31),
    st.lists(st.floats(1e-4, 1 - 1e-4), min_size=2),
)
def test_distribution_quantiles_cannot_cross(family, seed, asked):
    head = build(family)
    p = head.denormalise(3 * raw_of(head, 4, seed=seed, dtype=torch.float32))
    assert (head.quantiles(p, sorted(asked)).diff(dim=-1) >= 0).all()


def test_quantile_ladder_and_interpolation_against_loops(assert_close):
    head = build("quantile")
    raw = raw_of(head, 6, 5)
    p = head.denormalise(raw)
    ladders = [ladder(numbers, head.trained) for numbers in raw.reshape(30, -1).tolist()]
    assert_close(p.reshape(30, -1), ladders)
    assert torch.equal(head.quantiles(p, head.trained), p)
    assert torch.equal(head.quantiles(p, torch.tensor(head.trained)), p)
    assert torch.equal(head.quantiles(p, [1 - 0.9, 0.5])[..., 0], p[..., head.trained.index(0.1)])
    assert torch.equal(head.point(p), head.quantiles(p, [0.5])[..., 0])
    quantiles = [0.03, 0.33, 0.5, 0.949, 0.96]
    expected = [np.interp(quantiles, head.trained, row) for row in ladders]
    assert_close(head.quantiles(p, quantiles).reshape(30, -1), expected)
    zeros = head.denormalise(torch.zeros(1, head.n_parameters, dtype=F64))
    assert_close(zeros[0], scipy.stats.norm.ppf(head.trained))


def test_interpolation_equals_gluonts(assert_close):
    head = build("quantile", quantiles=[0.1, 0.3, 0.5, 0.9])
    p = head.denormalise(raw_of(head, 5))
    keys = [str(q) for q in head.trained]
    other = QuantileForecast(p.T.numpy(), pd.Period("2024-01-01", "D"), keys)
    # Nearer to its ends theirs is an exponential tail, not an interpolation.
    for q in (0.35, 0.5, 0.77):
        assert_close(head.quantiles(p, [q])[:, 0], other.quantile(q))


def test_quantiles_carry_gradients_between_the_trained_ones():
    head = build("quantile", quantiles=[0.1, 0.5, 0.9])
    assert torch.autograd.gradcheck(
        lambda raw: head.quantiles(head.denormalise(raw), [0.1, 0.2, 0.77]),
        raw_of(head, 2, 3).requires_grad_(),
    )


def test_quantile_questions_that_are_refused():
    head = build("quantile", quantiles=[0.2, 0.8])
    assert head.trained == (0.2, 0.5, 0.8)
    assert build("quantile", quantiles=[0.5]).denormalise(torch.zeros(2, 1)).shape == (2, 1)
    p = head.denormalise(raw_of(head, 2, 5))
    for q in (0.1, 0.81):
        with pytest.raises(
            ValueError,
            match=rf"trained for quantiles from 0.2 to 0.8; got {q}; ask for one between",
        ):
            head.quantiles(p, [0.5, q])
    for other in (head, build("normal")):
        parameters = other.denormalise(raw_of(other, 2, 5))
        for q in (0.0, 1.0, 80.0, math.nan):
            with pytest.raises(
                ValueError, match=rf"quantiles must lie between 0 and 1; got {q:g}; write 0.9"
            ):
                other.quantiles(parameters, [0.5, q])
        with pytest.raises(ValueError, match="quantiles must be a list of at least one number"):
            other.quantiles(parameters, [])
    for wrong in ([0.5, 0.1], [0.1, 0.1]):
        with pytest.raises(ValueError, match=r"quantiles must rise; got \[0\..*\]; sort them"):
            build("quantile", quantiles=wrong)
    point = build("point")
    with pytest.raises(
        ValueError, match=r"a point head has no quantiles; got \[0.1\]; train head='quantile'"
    ):
        point.quantiles(raw_of(point, 2, 5), [0.1])
    with pytest.raises(ValueError, match="a point head has no distribution; got n = 3"):
        point.sample(raw_of(point, 2, 5), 3, seeded())


# Draws


@pytest.mark.parametrize("kind", PROBABLE)
def test_draws_have_the_quantiles_and_moments_of_the_forecast(kind):
    head = build(kind)
    n = 200_000
    raw = 0.5 * raw_of(head, 3)
    p = head.denormalise(
        raw, torch.tensor(2.0, dtype=F64) if head.shifts else None, torch.tensor(3.0, dtype=F64)
    )
    draws = head.sample(p, n, seeded(7))
    assert draws.shape == (3, n)
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        # The share of draws at or below the quantile, within five standard errors; counts may only
        # lie above.
        below = (draws <= head.quantiles(p, [q])).double().mean(-1)
        error = 5 * math.sqrt(q * (1 - q) / n)
        assert (below > q - error).all()
        strictly = (draws < head.quantiles(p, [q])).double().mean(-1)
        assert (strictly < q + error).all()
    if kind in ("normal", "negative_binomial", "log_normal"):
        law = head.distribution(p)
        assert ((draws.mean(-1) - law.mean).abs() < 5 * (law.variance / n).sqrt()).all()
        torch.testing.assert_close(draws.var(-1), law.variance, rtol=0.1, atol=0)
    if kind == "student_t":
        assert (
            (draws.mean(-1) - head.point(p)).abs() < 0.1 * head.quantiles(p, [0.95])[:, 0].abs()
        ).all()


@pytest.mark.parametrize("kind", PROBABLE)
def test_draws_come_from_the_given_generator_alone(kind):
    head = build(kind)
    p = head.denormalise(raw_of(head, 2, 5, dtype=torch.float32))
    torch_state, numpy_state = (
        torch.random.get_rng_state(),
        np.random.get_state()[1].copy(),  # noqa: NPY002
    )
    first = head.sample(p, 50, seeded(1))
    torch.rand(1, generator=seeded())
    assert torch.equal(first, head.sample(p, 50, seeded(1)))
    assert not torch.equal(first, head.sample(p, 50, seeded(2)))
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002
    assert first.shape == (2, 5, 50)
    assert first.dtype == torch.float32
    # Equal parameters at two places must not share their draws.
    twins = head.sample(p[:1, :1].expand(2, 3, -1), 50, seeded(1)).flatten(0, 1)
    assert all(not torch.equal(twins[0], other) for other in twins[1:])


# Back to the scale of the data


@pytest.mark.parametrize("kind", ["quantile", *SHIFTING])
def test_forecasts_follow_shift_and_scale_exactly(kind, assert_close):
    head = build(kind)
    raw = raw_of(head, 4, 5)
    q = [0.05, 0.3, 0.5, 0.9]
    location = torch.tensor([[3.0], [-70.0], [0.0], [1e4]], dtype=F64)
    spread = torch.tensor([[2.0], [1e3], [0.1], [0.0]])
    spread = spread.double()
    plain = head.denormalise(raw)
    moved = head.denormalise(raw, location, spread)
    assert_close(
        head.quantiles(moved, q), head.quantiles(plain, q) * spread[..., None] + location[..., None]
    )
    assert_close(head.point(moved), head.point(plain) * spread + location)
    drawn = head.sample(plain, 6, seeded(3)) * spread[..., None] + location[..., None]
    assert_close(head.sample(moved, 6, seeded(3)), drawn)
    assert (head.quantiles(moved, q)[3] == 1e4).all()
    # Change of variables: the density falls by the scale.
    if kind != "quantile":
        y = truth_of(kind, 3, 5)
        loss = head.loss(moved[:3], y * spread[:3] + location[:3])
        assert_close(loss, head.loss(plain[:3], y) + spread[:3].log().mean())


@pytest.mark.parametrize("family", SHIFTING)
def test_constant_windows_are_left_out_of_the_likelihood(family, assert_close):
    head = build(family)
    raw = raw_of(head, 4, 5).requires_grad_()
    y = truth_of(family, 4, 5)
    spread = torch.tensor([[1.0], [0.0], [2.0], [0.0]], dtype=F64)
    loss = head.loss(head.denormalise(raw, spread, spread), y)
    assert_close(loss, head.loss(head.denormalise(raw[::2], spread[::2], spread[::2]), y[::2]))
    (grad,) = torch.autograd.grad(loss, raw)
    assert grad.isfinite().all()
    assert (grad[1::2] == 0).all()
    assert (grad[::2] != 0).any()


def test_log_normal_follows_scale_exactly_and_counts_in_the_mean(assert_close):
    spread = torch.tensor([[2.0], [30.0]], dtype=F64)
    q = [0.1, 0.5, 0.9]
    positive = build("log_normal")
    counts = build("negative_binomial")
    raw = raw_of(positive, 2, 5)
    plain = positive.denormalise(raw)
    moved = positive.denormalise(raw, None, spread)
    assert_close(positive.quantiles(moved, q), positive.quantiles(plain, q) * spread[..., None])
    assert_close(positive.point(moved), positive.point(plain) * spread)
    assert_close(
        positive.sample(moved, 6, seeded()), positive.sample(plain, 6, seeded()) * spread[..., None]
    )
    raw = raw_of(counts, 2, 5)
    plain = counts.denormalise(raw)
    moved = counts.denormalise(raw, None, spread)
    assert_close(counts.point(moved), counts.point(plain) * spread)
    assert torch.equal(moved[..., 0], plain[..., 0])
    values = counts.quantiles(moved, q)
    assert torch.equal(values, values.round())
    for head in (positive, counts):
        with pytest.raises(
            ValueError, match=rf"{head.family.name} begins at zero and cannot be moved"
        ):
            head.denormalise(raw, spread, spread)


@pytest.mark.parametrize("kind", HEADS)
def test_the_way_from_window_to_forecast_is_one_for_all_heads(kind):
    """Wired as a model would: normalise, map, add a skip, denormalise; then the axes of windows and
    channels.
    """
    head = build(kind).double()
    x = torch.rand(2, 12, 3, generator=seeded(1), dtype=F64) * 50 + 1
    series = x.transpose(1, 2).flatten(0, 1)
    normaliser = head.normaliser()

    def forecast(series):
        location, spread = normaliser.statistics(series)
        normal = normaliser(series, location, spread)
        raw = head.shift(head(normal.unflatten(1, (3, 4))), normal[:, :5])
        return head.denormalise(raw, location, spread).unflatten(0, (2, 3)).transpose(1, 2)

    p = forecast(series)
    assert head.point(p).shape == (2, 5, 3)
    assert head.loss(p, truth_of(kind, 2, 5, 3)).shape == ()
    if kind != "point":
        assert head.quantiles(p, [0.1, 0.5]).shape == (2, 5, 3, 2)
        assert head.sample(p, 7, seeded()).shape == (2, 5, 3, 7)
    assert isinstance(
        normaliser, MeanScale if kind in ("negative_binomial", "log_normal") else RevIN
    )
    torch.testing.assert_close(
        head.point(forecast(series * 1e3)), head.point(p) * 1e3, rtol=1e-9, atol=1e-9
    )
    if head.shifts:
        torch.testing.assert_close(
            head.point(forecast(series - 70)), head.point(p) - 70, rtol=1e-9, atol=1e-9
        )


def test_mean_scale_against_gluonts_and_on_zeros(assert_close):
    x = torch.randn(3, 8, generator=seeded(), dtype=F64)
    location, spread = MeanScale().statistics(x)
    scaled, _, scale = MeanScaler(keepdim=True)(x, torch.ones_like(x))
    assert location is None
    assert_close(spread, scale)
    assert_close(MeanScale()(x, None, spread), scaled)
    assert_close(MeanScale().statistics(torch.zeros(2, 8, dtype=F64))[1], [[0.125], [0.125]])


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("negative_binomial", -1.0, "negative_binomial needs whole numbers of at least 0; got -1"),
        ("negative_binomial", 2.5, "negative_binomial needs whole numbers of at least 0; got 2.5"),
        ("log_normal", 0.0, "log_normal needs numbers above 0; got 0"),
        ("normal", math.inf, "normal needs finite numbers; got inf"),
        ("student_t", -math.inf, "student_t needs finite numbers; got -inf"),
    ],
)
def test_values_outside_the_support_are_refused_before_training(kind, wrong, message):
    head = build(kind)
    y = torch.where(torch.rand(3, 4, generator=seeded()) < 0.3, math.nan, truth_of(kind, 3, 4))
    head.check_support(y)
    y[1, 2] = wrong
    with pytest.raises(ValueError, match=message):
        head.check_support(y)
