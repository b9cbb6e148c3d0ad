"""A small project with published samples, and raters who answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from conftest import PARAMS

from genfoundry.config.params import read_yaml
from genfoundry.core.io import publish_folder, write_table
from genfoundry.review.plan import plan_digest

PICTURES = ("bars-vae", "bars-wide", "bars-deep")
TEXTS = ("notes-transformer", "notes-small")
DVC = 'stages:\n  report:\n    cmd: "true"\n    deps: [requirements.lock]\n    outs: [reports/index.html]\n'


def publish(root: Path, key: str, contents: Any, labels: list[str | None], seeds: list[int]) -> None:
    """Samples as the stage ``sample`` writes them."""
    index = {
        "row": range(len(contents)),
        "id": [f"{key}/{number:06d}" for number in range(len(contents))],
        "seed": seeds,
        "label": pd.array(labels, "string"),
        "sha256": ["0" * 64] * len(contents),
    }
    with publish_folder(root / "artifacts/models" / key / "samples") as folder:
        if isinstance(contents, np.ndarray):
            np.save(folder / "samples.npy", contents, allow_pickle=False)
        else:
            lines = "".join(json.dumps({"id": key, "seed": 0, "text": text}) + "\n" for text in contents)
            (folder / "samples.jsonl").write_text(lines, encoding="utf-8")
        write_table(folder / "index.parquet", pd.DataFrame(index))


def project(root: Path) -> Path:
    """Three picture models that heed labels, two text models that don't."""
    params = read_yaml(PARAMS)
    for key, like in (*((key, "bars-vae") for key in PICTURES), *((key, "notes-transformer") for key in TEXTS)):
        params["models"][key] = params["models"][like]
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(json.dumps(params))
    (root / "dvc.yaml").write_text(DVC)
    (root / "requirements.lock").write_text("")
    for number, key in enumerate(PICTURES):
        rng = np.random.default_rng(number)
        # Each model's pictures have a level of their own, by which a test knows them again.
        levels = rng.integers(0, 40, (60, 1, 8, 8)).astype(np.uint8) + np.uint8(80 * number)
        publish(root, key, levels, [("across", "down")[row % 2] for row in range(60)], list(range(60)))
    for key in TEXTS:
        texts = [f"{row} </script><b>&amp; {{{{data}}}} \u2028 {'long ' * 400}" for row in range(20)]
        publish(root, key, texts, [None] * 20, list(range(20)))
    return root


def answer_file(path: Path, plan: dict[str, Any], rater: str, choose: Callable[[dict[str, Any]], str]) -> Path:
    """The file that a rater would download."""
    answers = [{"item": item["id"], "choice": choose(item), "seconds": 2.5} for item in plan["items"]]
    path.write_text(json.dumps({"format": 1, "plan": plan_digest(plan), "rater": rater, "answers": answers}))
    return path


def prefers(*order: str) -> Callable[[dict[str, Any]], str]:
    """A rater who knows the models and likes the first ones best."""

    def choose(item: dict[str, Any]) -> str:
        left, right = (order.index(item[side]["model"]) for side in ("left", "right"))
        return "left" if left < right else "right"

    return choose


def originals(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in plan["items"] if item["repeats"] is None]


def duel(item: dict[str, Any]) -> tuple[str, str]:
    first, second = sorted((item["left"]["model"], item["right"]["model"]))
    return first, second
