"""Answer one request in a clean process: ``python -m genfoundry.promotion.answer REQUEST ANSWER``.

`promotion/servability.py` starts it and reads what came of it. It draws by `generation.generator`, as everything does:
digests first, safetensors, our own class by its name.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from genfoundry.core.errors import DataError, GenfoundryError
from genfoundry.core.io import read_json, write_json
from genfoundry.core.processes import end_with


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer the request; a description of the sample in words.

    Args:
        request: ``model`` (folder), ``sampling`` (fields of its family's section), ``root`` (workspace).

    Raises:
        DataError: A weight, an NLL or a sample is not finite, or a text holds tokens that the vocabulary lacks.
    """
    import torch

    from genfoundry.config.specs import TokenSpec
    from genfoundry.generation.generator import Generator, conditions_of, seeds_of
    from genfoundry.generation.prompts import FOLDER, read_prompts
    from genfoundry.nn.contract import Likelihood, nats_of
    from genfoundry.nn.decoding import TextSampling

    generator = Generator.load(Path(request["model"]), request["sampling"])
    loaded, sampling = generator.loaded, generator.sampling
    for name, tensor in loaded.model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DataError(f"weight {name!r} is not finite")
    texts = isinstance(sampling, TextSampling)
    prompts = read_prompts(sampling, Path(request["root"]) / FOLDER)[:1] if texts else []
    drawn = generator.draw(seeds_of(sampling.seed, 1), prompts=prompts)
    if isinstance(drawn, torch.Tensor):
        return {"drew": f"a sample of {' x '.join(str(size) for size in drawn.shape[1:])}"}
    ((_, tokens),) = drawn
    assert isinstance(loaded.spec, TokenSpec)
    if any(not 0 <= token < loaded.spec.vocab_size for token in tokens):
        raise DataError(f"drew a token outside of its vocabulary of {loaded.spec.vocab_size}")
    if isinstance(loaded.model, Likelihood):
        read = torch.tensor([[loaded.spec.boundary, *tokens[: loaded.model.context - 1]]])
        device = next(loaded.model.parameters()).device
        given = {name: one.to(device) for name, one in conditions_of(loaded.spec, 1).items()}
        with torch.inference_mode():
            # NaN logits draw a token like any other; their NLL shows it.
            if read.shape[1] > 1 and not torch.isfinite(nats_of(loaded.model, read.to(device), given)).all():
                raise DataError("prices its own text at a number that is not finite")
    return {"drew": f"a text of {len(tokens)} tokens"}


def main() -> int:
    """Read the request, write the answer; faults in one line on stderr."""
    # End with the parent: nobody would read the answer.
    end_with([os.getppid()], signal.SIGKILL)
    request, target = (Path(name) for name in sys.argv[1:3])
    try:
        write_json(target, answer(read_json(request)))
    except GenfoundryError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
