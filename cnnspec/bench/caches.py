"""How large the last-level cache is: what decides whether operands come from memory, and how much evicts them."""

import contextlib
from pathlib import Path

FALLBACK_BYTES = 64 * 2**20
"""Where a system does not say: more than most processors have, so that twice as much evicts everything."""
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
SYSTEM = Path("/sys/devices/system/cpu")


def last_level_bytes(device: str = "cpu", system: Path = SYSTEM) -> int:
    """Return the bytes of the last-level cache of a device: of a GPU its L2, of a CPU what its processors reach.

    Processors may share a cache or have one each: each cache of those that this process may use counts once. It is
    `FALLBACK_BYTES` where a system does not say.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
    from cnnspec.bench.machine import allowed

    found = dict(_last(system / f"cpu{processor}" / "cache") for processor in allowed() or [0])
    return sum(found.values()) or FALLBACK_BYTES


def _last(directory: Path) -> tuple[str, int]:
    """Return the processors that share the cache of the highest level, and its bytes; 0 where none is told."""
    found = [(0, "", 0)]
    for index in sorted(directory.glob("index*")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            told = {name: (index / name).read_text(encoding="ascii").strip() for name in ("level", "size")}
            size = int(told["size"][:-1]) * UNITS[told["size"][-1]]
            shared = (index / "shared_cpu_list").read_text(encoding="ascii").strip()
            found.append((int(told["level"]), shared, size))
    return max(found)[1:]
