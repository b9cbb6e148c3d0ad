"""The frozen gate set: counted looks, spent alpha, rotation, and the best champion so far."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from genfoundry.core.errors import DataError
from genfoundry.gate import looks
from genfoundry.gate.looks import Champion, GateSet, alpha_left, alpha_of_look
from genfoundry.gate.rules import Gate, Loss, decide
from genfoundry.metrics._paired import paired_ratio_difference

HASHES = np.array([3, 1, 2, 2**64 - 1], np.uint64)


def frozen() -> GateSet:
    gate_set = GateSet()
    gate_set.freeze(HASHES, "first")
    return gate_set


def test_the_first_looks_spend_what_is_written() -> None:
    assert [alpha_of_look(0.05, look) for look in (1, 2, 10)] == pytest.approx([0.025, 0.05 / 6, 0.05 / 110])
    assert alpha_left(0.05, 1) == pytest.approx(0.025)


def test_the_same_pair_under_the_same_protocol_is_the_same_look() -> None:
    gate_set = frozen()
    assert gate_set.look("new", "old", "p") == 1
    assert gate_set.look("newer", "old", "p") == 2
    assert gate_set.look("new", "old", "p") == 1
    # The other way round, another champion, another protocol: another chance.
    assert [gate_set.look("old", "new", "p"), gate_set.look("new", "older", "p"), gate_set.look("new", "old", "q")] == [
        3,
        4,
        5,
    ]


def test_it_outlives_the_process_bit_for_bit(tmp_path: Path) -> None:
    with looks.opened(tmp_path, "digits") as gate_set:
        gate_set.freeze(HASHES, "first")
        gate_set.look("new", "old", "p")
        gate_set.remember(Champion("d1", "digits-vae/1"), better_than_best=False)

    again = looks.read(tmp_path, "digits")
    assert again == gate_set and again.hashes.tolist() == sorted(HASHES.tolist())
    assert again.hashes.dtype == np.uint64 and again.champion == Champion("d1", "digits-vae/1")


def test_a_failure_in_between_changes_nothing(tmp_path: Path) -> None:
    looks.rotate(tmp_path, "digits", HASHES, "first")
    before = looks.gate_file(tmp_path, "digits").read_bytes()
    with pytest.raises(RuntimeError), looks.opened(tmp_path, "digits") as gate_set:
        gate_set.look("new", "old", "p")
        raise RuntimeError
    assert looks.gate_file(tmp_path, "digits").read_bytes() == before


def test_a_rotation_starts_over_and_keeps_the_history(tmp_path: Path) -> None:
    looks.rotate(tmp_path, "digits", HASHES, "first")
    with looks.opened(tmp_path, "digits") as gate_set:
        gate_set.look("new", "old", "p")
        gate_set.remember(Champion("d1", "v/1"), better_than_best=False)
        digest = gate_set.digest

    after = looks.rotate(tmp_path, "digits", HASHES[:2], "more data")

    assert after.looks == [] and after.number == 2 and after.reason == "more data" and len(after.hashes) == 2
    (old,) = after.history
    assert (old["number"], old["digest"], old["records"], len(old["looks"])) == (1, digest, 4, 1)
    assert after.champion == Champion("d1", "v/1")
    assert looks.rotate(tmp_path, "digits", HASHES, "model lost", forget_best=True).champion is None


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a reason"):
        looks.rotate(tmp_path, "digits", HASHES, " ")
    with pytest.raises(DataError, match="1 held-out records"):
        looks.rotate(tmp_path, "digits", HASHES[:1], "new data")
    path = looks.gate_file(tmp_path, "digits")
    path.parent.mkdir(parents=True, exist_ok=True)
    for broken in ("{", json.dumps({"format": 9}), json.dumps({"format": 1, "luck": 3})):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"digits.json"):
            looks.read(tmp_path, "digits")


def _look(state: Path, number: int) -> None:
    with looks.opened(state, "digits") as gate_set:
        gate_set.look(f"m{number}", "old", "p")


def test_looks_of_many_processes_are_all_counted(tmp_path: Path) -> None:
    looks.rotate(tmp_path, "digits", HASHES, "first")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_look, [(tmp_path, number) for number in range(20)])
    assert len(looks.read(tmp_path, "digits").looks) == 20


def test_the_best_so_far_changes_for_a_better_one_alone() -> None:
    gate_set = frozen()
    gate_set.remember(Champion("d1", "v/1"), better_than_best=False)
    gate_set.remember(Champion("d2", "v/2"), better_than_best=False)
    assert gate_set.champion == Champion("d1", "v/1")
    gate_set.remember(Champion("d3", "v/3"), better_than_best=True)
    assert gate_set.champion == Champion("d3", "v/3")


@pytest.mark.parametrize("against_best", [True, False])
def test_two_hundred_slightly_worse_nights_cost_no_more_than_the_margin(against_best: bool) -> None:
    """Each night's model is truly worse by a third of the margin than the last champion, and is taken if it may be.

    Held against the last champion alone, as most pipelines do, the losses add up: the test's own counter-proof.
    """
    generator, margin, n = np.random.default_rng(0), 0.03, 1000
    gate = Gate(rule="non_inferior", margin=margin, margin_unit="absolute", reason="fresher data")
    units, gate_set = np.full(n, 100.0), frozen()

    def nats(true: float) -> np.ndarray:
        return units * (2.0 + true + 0.02 * generator.standard_normal(n))

    true = {"m0": 0.0}
    prices, champion = {"m0": nats(0.0)}, "m0"
    gate_set.remember(Champion("m0", "v/0"), better_than_best=False)
    for night in range(1, 201):
        name = f"m{night}"
        true[name] = true[champion] + margin / 3
        prices[name] = nats(true[name])
        best = gate_set.champion.digest
        look = gate_set.look(name, champion, "p")
        others = {"champion": champion, "best": best} if against_best else {"champion": champion}
        losses = [
            Loss("bits_per_byte", paired_ratio_difference(prices[name], prices[other], units), margin, against)
            for against, other in others.items()
        ]
        if decide(gate, alpha_of_look(gate.alpha, look), losses).blessed:
            better = paired_ratio_difference(prices[name], prices[best], units).value < 0
            gate_set.remember(Champion(name, f"v/{night}"), better)
            champion = name
    assert champion != "m0", "a gate that never promotes fails as surely"
    assert (true[champion] < margin) is against_best
