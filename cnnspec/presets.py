"""The error models that torch's kernels are known, or said, to have: a table to look up, never applied by itself.

cnnspec holds every target to the strictest direct model of the dtype unless a wider one is declared; what stands
here is what may be declared for a kernel of torch. Two kinds of entries:

measured   on the CPU with torch 2.13.0 (x86-64 with AVX-512; oneDNN 3.12, MKL 2024.2), against exact results, on random
           shapes and on normal, positive, constant, wide and mixed data: the model held, or was broken as said
literature CUDA: from NVIDIA's documentation and published measurements; cnnspec has not verified it on hardware
"""

from dataclasses import dataclass

from cnnspec.errors import UsageError
from cnnspec.models import MODELS, UNPROVEN, ErrorModel, intermediates


@dataclass(frozen=True)
class Preset:
    """The error model of one kernel; `model.unproven` says why there is none.

    source: where it is from;   measured: whether cnnspec's authors held the kernel to it
    partials: what the number of partial sums in a low precision is, "" where there are none
    """

    model: ErrorModel
    source: str
    measured: bool = False
    partials: str = ""


_DIRECT = Preset(MODELS["direct float32"], "no output of millions beyond its bound", measured=True)
_DOUBLE = Preset(MODELS["direct float64"], "no output beyond its bound", measured=True)
_NNPACK = Preset(
    UNPROVEN["normwise"],
    "Winograd and FFT tiles: taken for float32 with oneDNN off, 16 images or more, undilated; one pixel that is not "
    "zero gives outputs that are not zero where they must be, one NaN spoils its tile",
    measured=True,
)
_TORCH_NUMERICS = "PyTorch, Numerical accuracy; CUDA semantics"
_FASI = "Fasi, Higham, Mikaitis & Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 7:e330, 2021"
_CUBLAS = Preset(MODELS["direct float32"], f"{_TORCH_NUMERICS}: TF32 switched off")
_TENSOR_CORES = Preset(MODELS["float32 truncation"], _FASI)
_REDUCED = Preset(
    intermediates("float16", 2),
    f"{_TORCH_NUMERICS}: allow_fp16_reduced_precision_reduction adds partial sums of split K in float16",
    partials="the splits of K",
)


def _slow(low: str, partials: str) -> Preset:
    told = "float32 sums that the kernel stores and adds up in its own dtype: up to 7204 times their float32 bound"
    return Preset(intermediates(low, 2), told, measured=True, partials=partials)


PRESETS: dict[tuple[str, str, str], Preset] = {
    ("cpu", "float64", "Slow2d"): _DOUBLE,
    **{("cpu", "float32", path): _DIRECT for path in ("Mkldnn", "Slow2d")},
    **{("cpu", "float32", f"{path} backward"): _DIRECT for path in ("Mkldnn", "Slow2d")},
    ("cpu", "float32", "NnpackSpatial"): _NNPACK,
    **{("cpu", "bfloat16", path): _DIRECT for path in ("Mkldnn", "Mkldnn backward", "Slow2d")},
    ("cpu", "float16", "Slow2d"): _DIRECT,
    **{
        ("cpu", low, f"Slow2d {gradient}"): _slow(low, partials)
        for low in ("bfloat16", "float16")
        for gradient, partials in (("grad_input", "the taps of the kernel"), ("grad_weight", "the images"))
    },
    ("cuda", "float64", "Cublas"): Preset(MODELS["direct float64"], _TORCH_NUMERICS),
    ("cuda", "float32", "Cublas"): _CUBLAS,
    ("cuda", "float32", "Cublas tf32"): Preset(MODELS["tf32 tensor cores"], f"{_TORCH_NUMERICS}; {_FASI}"),
    ("cuda", "float32", "Cudnn"): Preset(
        UNPROVEN["normwise"],
        "cuDNN, cudnnConvolutionFwdAlgo_t: its heuristics choose among direct, Winograd and FFT algorithms",
    ),
    ("cuda", "float32", "Cudnn tf32"): Preset(MODELS["tf32 tensor cores"], f"{_TORCH_NUMERICS}; {_FASI}"),
    **{
        ("cuda", low, path): _TENSOR_CORES for low in ("bfloat16", "float16") for path in ("Cublas", "Cudnn")
    },
    ("cuda", "float16", "Cublas reduced precision reduction"): _REDUCED,
    ("cuda", "bfloat16", "Cublas reduced precision reduction"): Preset(
        intermediates("bfloat16", 2), _REDUCED.source.replace("fp16", "bf16").replace("float16", "bfloat16"),
        partials=_REDUCED.partials,
    ),
}  # fmt: skip
"""By (device, dtype, kernel): a kernel is named as torch's dispatcher names it, its gradients with a word more."""


def preset(device: str, dtype: str, path: str, partials: int = 1) -> Preset:
    """Return what is known of a kernel of torch.

    partials: how many partial sums in a low precision one output has, where `Preset.partials` says that it has some:
    each is rounded when it is stored and as often as it is added, partials + 1 times with one to spare.
    UsageError, with what there is, for a kernel that is not in the table.

    >>> preset("cpu", "float16", "Slow2d grad_input", partials=9).model.stores
    10
    >>> preset("cpu", "float32", "NnpackSpatial").model.unproven
    'no proven model: normwise bounds say nothing of single elements'
    """
    if (device, dtype, path) not in PRESETS:
        known = ", ".join(kernel for where, form, kernel in PRESETS if (where, form) == (device, dtype))
        raise UsageError(f"no preset for {path!r} in {dtype} on {device!r}; known are {known or 'none'}")
    found = PRESETS[device, dtype, path]
    if not found.partials:
        return found
    own = intermediates(found.model.intermediates, partials + 1)
    return Preset(own, found.source, found.measured, found.partials)
