"""Code: the files of a source tree, each one document with its language; models see tokens.

Every byte of a file counts in code, so nothing is normalised: tabs, line ends and Unicode forms stay. Facts of a file:
characters, bytes, lines, mean and longest line, share of letters and digits; its language and licence as text.
"""

from genfoundry.modalities.common.contract import gathered

__getattr__ = gathered(
    {
        "genfoundry.modalities.code.source": ("FACTS", "Ingest", "read", "expectations"),
        "genfoundry.modalities.code.cleaning": ("Preprocess", "clean"),
        "genfoundry.modalities.common.copies": ("Dedup", "fingerprints", "perturb"),
        "genfoundry.modalities.common.documents": ("Encode", "encode", "show", "compare"),
    }
)
