"""One answer of a model in a process of its own: ``python -m genfoundry.promotion.answer REQUEST ANSWER``.

`promotion/servability.py` starts it and reads what came of it. It goes by `modelfile.load_model`, as everything does:
digests first, safetensors, our own class by its name.
"""

import sys
from pathlib import Path
from typing import Any

from genfoundry.errors import DataError, GenfoundryError
from genfoundry.io import read_json, write_json


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the model drew, in words.

    Args:
        request: ``model`` (folder), ``sampling`` (section of its block), ``root`` (workspace).

    Raises:
        DataError: A weight, a price or a sample is not finite, or a text holds tokens that the vocabulary lacks.
    """
    import torch

    from genfoundry.modelfile import TOKENIZER, default_device, load_model
    from genfoundry.nn.contract import Likelihood
    from genfoundry.nn.decoding import TextSampling
    from genfoundry.prompts import FOLDER, read_prompts
    from genfoundry.sampling import draw_loaded, seeds_of
    from genfoundry.settings import family_section, parse
    from genfoundry.specs import GridSpec

    folder, device = Path(request["model"]), default_device()
    loaded = load_model(folder, device)
    for name, tensor in loaded.model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DataError(f"weight {name!r} is not finite")
    sampling: Any = parse(family_section(loaded.family, "sampling"), request["sampling"], "sampling")
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
    request, target = (Path(name) for name in sys.argv[1:3])
    try:
        write_json(target, answer(read_json(request)))
    except GenfoundryError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
