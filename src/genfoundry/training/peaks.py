"""Dense peak FLOP/s of devices, the denominator of model FLOPs utilisation (MFU).

Datasheets of NVIDIA, tensor cores without sparsity and, for float16 and bfloat16, with float32 accumulation; GeForce
cards from the Ampere, Ada and Blackwell architecture whitepapers. Utilisation as in Chowdhery et al. 2022
(arXiv:2204.02311), appendix B.
"""

import platform
import re

import torch

from genfoundry.training.setup import Devices

PEAKS: dict[str, tuple[float, float]] = {
    # Name as CUDA gives it: TFLOP/s in bfloat16 or float16, and in float32 outside tensor cores.
    r"H[12]00 NVL": (835.0, 60.0),
    r"H200|H100.*HBM3|H100 SXM": (989.4, 66.9),
    r"H100 PCIe": (756.0, 51.2),
    r"B200": (2250.0, 75.0),
    r"A100": (312.0, 19.5),
    r"L40S": (362.0, 91.6),
    r"L4": (121.0, 30.3),
    r"A40": (149.7, 37.4),
    r"A10": (125.0, 31.2),
    r"T4": (65.0, 8.1),
    r"RTX 5090": (209.5, 104.8),
    r"RTX 4090": (165.2, 82.6),
    r"RTX 3090": (71.0, 35.6),
}


def peak_flops(device: str, precision: str) -> float:
    """FLOP/s that a device of this name can do at most in a precision of ``training.precision``; 0 if not known."""
    for pattern, (half, single) in PEAKS.items():
        if re.search(rf"\b(?:{pattern})\b", device):
            return 1e12 * (single if precision == "32" else half)
    return 0.0


def device_names(devices: Devices) -> str:
    """Number and name of what computes, as ``2 x NVIDIA H100 PCIe``."""
    name = torch.cuda.get_device_name() if devices.accelerator == "gpu" else f"{platform.machine()} CPU"
    return f"{devices.world} x {name}"
