"""Properties of the gate that hold for any numbers."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.gate.looks import GateSet, alpha_left, alpha_of_look
from genfoundry.gate.protocol import protocol_difference
from genfoundry.gate.rules import Gate, Loss, decide
from genfoundry.metrics._paired import Difference, paired_frechet_difference, paired_kernel_difference

values = st.floats(-10, 10)
ses = st.floats(0, 5)
alphas = st.floats(1e-6, 0.4)
margins = st.floats(1e-3, 10)
SUPERIOR, WORSE_IS_FINE = Gate(), Gate(rule="non_inferior", margin=1, reason="why not")


def blessed(gate: Gate, value: float, se: float, allowed: float, alpha: float) -> bool:
    return decide(gate, alpha, [Loss("m", Difference(value, se, 100, ""), allowed, "champion")]).blessed


@given(st.integers(1, 400), st.integers(2, 40), st.integers(1, 4))
def test_equal_samples_are_never_promoted_as_better(seed: int, n: int, d: int) -> None:
    generator = np.random.default_rng(seed)
    a, real = generator.standard_normal((n + 10 * d, d)), generator.standard_normal((n + 10 * d + 1, d))
    for difference in (paired_frechet_difference, paired_kernel_difference):
        found = difference(a, a, real)
        assert not decide(SUPERIOR, 0.4, [Loss("m", found, 0.0, "champion")]).blessed


@given(values, ses, margins, margins, alphas)
def test_a_wider_margin_never_takes_a_blessing_of_no_worse_away(
    value: float, se: float, first: float, second: float, alpha: float
) -> None:
    low, high = sorted((first, second))
    assert blessed(WORSE_IS_FINE, value, se, high, alpha) >= blessed(WORSE_IS_FINE, value, se, low, alpha)
    assert blessed(SUPERIOR, value, se, high, alpha) <= blessed(SUPERIOR, value, se, low, alpha)


@given(values, ses, margins, alphas)
def test_who_is_better_is_no_worse(value: float, se: float, margin: float, alpha: float) -> None:
    assert blessed(WORSE_IS_FINE, value, se, margin, alpha) >= blessed(SUPERIOR, value, se, 0.0, alpha)


@given(values, values, ses, alphas, alphas)
def test_a_worse_model_or_a_stricter_look_never_helps(
    first: float, second: float, se: float, one: float, other: float
) -> None:
    better, worse = sorted((first, second))
    strict, lax = sorted((one, other))
    assert blessed(SUPERIOR, better, se, 0.0, lax) >= blessed(SUPERIOR, worse, se, 0.0, strict)


@given(values, ses, st.lists(st.tuples(values, ses), max_size=4))
def test_guards_only_ever_block(value: float, se: float, guards: list[tuple[float, float]]) -> None:
    primary = [Loss("m", Difference(value, se, 100, ""), 0.0, "champion")]
    watched = [Loss("g", Difference(*guard, 100, ""), 0.5, "champion") for guard in guards]
    assert decide(SUPERIOR, 0.05, primary, watched).blessed <= decide(SUPERIOR, 0.05, primary).blessed


@given(st.floats(1e-4, 0.5), st.integers(1, 2000))
def test_what_the_looks_spend_and_what_is_left_is_alpha(alpha: float, looks: int) -> None:
    spent = math.fsum(alpha_of_look(alpha, look) for look in range(1, looks + 1))
    assert math.isclose(spent + alpha_left(alpha, looks), alpha, rel_tol=1e-12)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, unique=True))
def test_the_gate_set_gives_back_its_hashes_in_order(hashes: list[int]) -> None:
    gate_set = GateSet()
    gate_set.freeze(np.array(hashes, np.uint64), "first")
    assert gate_set.hashes.tolist() == sorted(hashes)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), trees, max_size=3), st.dictionaries(st.text(max_size=4), trees, max_size=3))
def test_protocols_differ_in_nothing_only_if_they_are_equal(a: dict, b: dict) -> None:
    assert protocol_difference(a, a) == []
    assert bool(protocol_difference(a, b)) is (a != b)
