"""Differences that the gate is given: with an error bar that holds, or with the reason why there is none."""

import math

import numpy as np

from genfoundry.config.specs import Score
from genfoundry.evaluation.metrics import load_metric
from genfoundry.gate.differences import as_loss, gap
from genfoundry.gate.rules import Gate, Loss, decide
from genfoundry.metrics.fid_domain import Config as FidConfig


def texts(documents: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Evidence about two models of which the first is clearly better on every document."""
    nats = np.random.default_rng(0).uniform(900, 1100, documents)
    size = np.full(documents, 1000)
    return {"nats": 0.9 * nats, "byte_counts": size}, {"nats": nats, "byte_counts": size}


def test_few_documents_are_refused_and_not_decided_by_the_normal_law() -> None:
    """The held-out text of presets/shakespeare.yaml is 24 documents."""
    for name, count, blessed in (("bits_per_byte", 24, False), ("perplexity", 24, False), ("bits_per_byte", 50, True)):
        metric = load_metric(name)
        a, b = (side | {"token_counts": side["byte_counts"]} for side in texts(count))
        scores = metric.score(a, metric.config()), metric.score(b, metric.config())

        found = gap(metric, metric.config(), a, b, scores)
        decision = decide(Gate(), 0.05, [Loss(name, as_loss(metric, found), 0.0, "champion")])

        assert decision.blessed is blessed, name
        if not blessed:
            assert math.isnan(found.se)
            assert "24 documents; below 50 no error bar holds" in decision.rules[-1].words


def test_labels_reach_the_metrics_that_divide_by_them_and_are_optional() -> None:
    generator, labels = np.random.default_rng(0), np.arange(120) % 3
    rows, other, real = generator.standard_normal((3, 120, 4))
    metric = load_metric("fid_domain")
    assert metric.asks == ("features", "reference_features") and metric.also == ("sample_labels", "reference_labels")

    def found(**more: np.ndarray) -> float:
        a, b = ({"features": x + 5 * np.eye(3, 4)[labels], "reference_features": real, **more} for x in (rows, other))
        scores = metric.score(a, FidConfig()), metric.score(b, FidConfig())
        assert scores[0].value == metric.score({**a, "sample_labels": labels}, FidConfig()).value
        return gap(metric, FidConfig(), a, b, scores).se

    assert found(sample_labels=labels) < found()


def test_too_few_rows_name_the_number_that_is_needed() -> None:
    metric, rows = load_metric("fid_domain"), np.random.default_rng(0).standard_normal((3, 39, 4))
    a, b = ({"features": x, "reference_features": rows[2]} for x in rows[:2])

    found = gap(metric, FidConfig(), a, b, (Score(1.0, 39), Score(2.0, 39)))

    assert found.value == -1 and math.isnan(found.se)
    assert "39 rows of 4 features; below 40 no error bar holds" in found.method
