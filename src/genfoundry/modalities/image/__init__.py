"""Images: a folder of pictures whose sub-folders are labels; models see grids of pixels."""

from genfoundry.modalities.common.contract import gathered

__getattr__ = gathered(
    {
        "genfoundry.modalities.image.source": ("FACTS", "Ingest", "read", "expectations"),
        "genfoundry.modalities.image.cleaning": ("Preprocess", "clean"),
        "genfoundry.modalities.image.copies": (
            "Dedup",
            "EDITS",
            "BENIGN",
            "WEAK",
            "fingerprints",
            "perturb",
            "distort",
        ),
        "genfoundry.modalities.image.encoding": ("Encode", "encode"),
        "genfoundry.modalities.image.pages": ("show", "compare"),
    }
)
