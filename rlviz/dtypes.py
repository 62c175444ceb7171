"""The element types a safetensors file may hold, and how their codes become numbers without torch.

Weights are read as *codes*: unsigned integers of the element's width (signed integers and booleans as
themselves). Decoding to float64 is exact for every float type here.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ElementType:
    """One safetensors dtype: its code, width and NumPy views."""

    code: str
    itemsize: int
    codes: np.dtype  # how raw bytes are viewed
    values: np.dtype  # what the codes mean (an ml_dtypes type where NumPy has none)
    is_float: bool


def _element(code: str, values: object, codes: str, is_float: bool = True) -> ElementType:
    value_type = np.dtype(values)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return ElementType(code, value_type.itemsize, np.dtype(codes), value_type, is_float)


ELEMENT_TYPES: dict[str, ElementType] = {
    e.code: e
    for e in (
        _element("F64", np.float64, "<u8"),
        _element("F32", np.float32, "<u4"),
        _element("F16", np.float16, "<u2"),
        _element("BF16", ml_dtypes.bfloat16, "<u2"),
        _element("F8_E4M3", ml_dtypes.float8_e4m3fn, "u1"),
        _element("F8_E5M2", ml_dtypes.float8_e5m2, "u1"),
        _element("I64", np.int64, "<i8", False),
        _element("I32", np.int32, "<i4", False),
        _element("I16", np.int16, "<i2", False),
        _element("I8", np.int8, "i1", False),
        _element("U8", np.uint8, "u1", False),
        _element("BOOL", np.bool_, "u1", False),
    )
}


def to_float64(codes: NDArray[np.generic], dtype: str) -> NDArray[np.float64]:
    """Exact values of raw codes.

    Parameters
    ----------
    codes : ndarray of the type's code dtype, any shape
    dtype : str
        A float type of `ELEMENT_TYPES`.

    Returns
    -------
    ndarray of float64, same shape

    Examples
    --------
    >>> float(to_float64(np.array([0x3F80], dtype="<u2"), "BF16")[0])
    1.0
    """
    with np.errstate(invalid="ignore"):  # widening a signalling NaN raises a flag, and it is a NaN either way
        return codes.view(ELEMENT_TYPES[dtype].values).astype(np.float64)
