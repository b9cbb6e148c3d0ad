"""Steps a second of stage train against a bare loop over transformers' GPT-2: gpt2_peer.py FILE [rounds] [--cpu].

Equal size (4 layers, 4 heads, width 128, context 64, 12 windows a step, dropout 0), data, AdamW and threads; in turns
in one process, so that a busy machine slows both; --cpu as in shakespeare.py. Goal: at least 1.0. transformers is no
dependency of the stage: python -m pip install 'transformers>=5.23,<6'.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from shakespeare import CPU, WALL, Clock, bare_loop, lay_out, stage_seconds

from genfoundry.config import params as settings
from genfoundry.config.sections.training import Training
from genfoundry.core.io import read_json
from genfoundry.nn.contract import Batch, Step

OPTIONS = {"width": 128, "layers": 4, "heads": 4, "context": 64, "activation": "gelu"}
TRAINING = {"batch": 12, "optimizer": {"name": "adamw"}, "select": "last", "log_every": 10}


class Peer(torch.nn.Module):
    """GPT-2 of that size, as its own library computes its loss."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=vocab_size,
            n_positions=OPTIONS["context"],
            n_embd=OPTIONS["width"],
            n_layer=OPTIONS["layers"],
            n_head=OPTIONS["heads"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
        self.model = GPT2LMHeadModel(config)

    def loss(self, objective: str, batch: Batch, step: Step) -> SimpleNamespace:
        """The library shifts the labels itself, so it is given the inputs alone: one target less a window than ours."""
        tokens = batch.tokens[:, :-1]
        return SimpleNamespace(total=self.model(input_ids=tokens, labels=tokens).loss)


def main(file: Path, rounds: int, clock: Clock) -> None:
    training = settings.parse(Training, TRAINING, "training")
    found = []
    with tempfile.TemporaryDirectory() as name:
        dataset = lay_out(Path(name), file.read_text(encoding="utf-8"))
        vocab_size = read_json(dataset.arrays / "spec.json")["vocab_size"]
        for number in range(rounds):
            peer = bare_loop(dataset, Peer(vocab_size), training, 100, clock)
            ours = stage_seconds(dataset, OPTIONS, TRAINING, clock)
            print(f"round {number}: stage {ours * 1e3:.1f} ms a step, GPT-2 {peer * 1e3:.1f} ms", flush=True)
            found.append(peer / ours)
    print(json.dumps({"steps_per_second_against_gpt2": round(statistics.median(found), 3), "rounds": rounds}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    main(given.file, given.rounds, CPU if given.cpu else WALL)
