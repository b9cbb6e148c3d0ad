"""One answer of a model in a process of its own: ``python -m genfoundry.promotion.answer REQUEST ANSWER``.

`promotion/servability.py` starts it and reads what came of it. It goes by `modelfile.load_model`, as everything does:
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
    """What the model drew, in words.

    Args:
        request: ``model`` (folder), ``sampling`` (section of its block), ``root`` (workspace).

    Raises:
        DataError: A weight, a price or a sample is not finite, or a text holds tokens that the vocabulary lacks.
    """
    import torch

    from genfoundry.config.params import family_section, parse
    from genfoundry.config.sections.sampling import Sampling
    from genfoundry.config.specs import GridSpec
    from genfoundry.generation.modelfile import TOKENIZER, default_device, load_model
    from genfoundry.generation.prompts import FOLDER, read_prompts
    from genfoundry.generation.sampling import draw_loaded, seeds_of
    from genfoundry.nn.contract import Likelihood
    from genfoundry.nn.decoding import TextSampling

    folder, device = Path(request["model"]), default_device()
    loaded = load_model(folder, device)
    for name, tensor in loaded.model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DataError(f"weight {name!r} is not finite")
    sampling: Any = parse(family_section(loaded.family, Sampling), request["sampling"], "sampling")
    encoded: list[list[int]] = []
    if isinstance(sampling, TextSampling):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        prompts = read_prompts(sampling, Path(request["root"]) / FOLDER)[:1]
        encoded = [found.ids for found in tokenizer.encode_batch(prompts, add_special_tokens=False)]
    drawn = draw_loaded(loaded, seeds_of(sampling, 1), sampling, prompts=encoded)
    if isinstance(loaded.spec, GridSpec):
        return {"drew": f"a sample of {' x '.join(str(size) for size in drawn.shape[1:])}"}
    (tokens,) = drawn
    if any(not 0 <= token < loaded.spec.vocab_size for token in tokens):
        raise DataError(f"drew a token outside of its vocabulary of {loaded.spec.vocab_size}")
    if isinstance(loaded.model, Likelihood):
        read = torch.tensor([[loaded.spec.boundary, *tokens[: loaded.model.context - 1]]], device=device)
        with torch.inference_mode():
            # NaN logits draw a token like any other; their price tells.
            if read.shape[1] > 1 and not torch.isfinite(loaded.model.nats(read)).all():
                raise DataError("prices its own text at a number that is not finite")
    return {"drew": f"a text of {len(tokens)} tokens"}


def main() -> int:
    """Read the request, write the answer; faults in one line on stderr."""
    # Nobody waits for the answer of a model whose asker was killed.
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
