"""Text: documents in plain files, JSON lines, CSV or Parquet; models see tokens.

Facts of a document: characters, bytes (UTF-8), lines.
"""

from genfoundry.modalities.common.contract import gathered

__getattr__ = gathered(
    {
        "genfoundry.modalities.text.source": ("FACTS", "Ingest", "read", "expectations"),
        "genfoundry.modalities.text.cleaning": ("Preprocess", "canonical", "clean"),
        "genfoundry.modalities.common.copies": ("Dedup", "fingerprints", "perturb"),
        "genfoundry.modalities.common.documents": ("Encode", "encode", "show", "compare"),
    }
)
