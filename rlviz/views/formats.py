"""Numbers and short texts as figures and pages write them: two digits in text, units, no false precision."""

from __future__ import annotations

from html import escape
from math import degrees, floor, isfinite, log10

UNDEFINED = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(fraction: float) -> str:
    """A fraction for text: one decimal, more only where the distance to 0 or 100 % needs two digits.

    Never rounds to 0 or 100 % what is not exactly that.

    Examples
    --------
    >>> percent(0.5381726), percent(0.00612), percent(0.99996), percent(1.0), percent(0.0)
    ('53.8 %', '0.61 %', '99.996 %', '100 %', '0 %')
    """
    if not isfinite(fraction):
        return UNDEFINED
    if fraction in (0.0, 1.0):
        return f"{fraction * 100:.0f} %"
    small = min(abs(fraction), abs(1 - fraction)) * 100
    decimals = 1 if small >= 1 else min(12, 1 - floor(log10(small)))
    text = f"{fraction * 100:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if decimals > 1 else text} %"


def _scientific(x: float, digits: int) -> str:
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def number(x: float, digits: int = 2) -> str:
    """A plain number with `digits` significant digits; powers of ten outside 0.001 … 10 000.

    Examples
    --------
    >>> number(0.6934), number(3.72e-6), number(123456), number(1853.0)
    ('0.69', '3.7·10⁻⁶', '1.2·10⁵', '1900')
    """
    if not isfinite(x):
        return UNDEFINED
    if x == 0:
        return "0"
    exponent = floor(log10(abs(x)))
    if exponent < -3 or exponent >= 4 + max(0, digits - 2):
        return _scientific(x, digits)
    return f"{round(x, digits - 1 - exponent):.{max(0, digits - 1 - exponent)}f}"


def setting(x: float) -> str:
    """A slider's value, without digits it does not have.

    Examples
    --------
    >>> setting(1e-3), setting(1e-5), setting(1.12e-5)
    ('0.001', '10⁻⁵', '1.12·10⁻⁵')
    """
    text = f"{x:.3g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def code_distance(label: str) -> str:
    """A bin of code distances: a minus sign and a range must not look alike.

    Examples
    --------
    >>> code_distance("-3-4"), code_distance("+1")
    ('−3…4', '+1')
    """
    sign, rest = ("−", label[1:]) if label.startswith("-") else ("", label)
    return sign + rest.replace("-", "…")


def count(n: float) -> str:
    """A whole number with thin spaces between thousands.

    Examples
    --------
    >>> count(2990000).replace(chr(0x202F), " ")
    '2 990 000'
    """
    return f"{round(n):,}".replace(",", "\u202f")


def times_chance(ratio: float) -> str:
    """A ratio to what chance gives: ``0.69× of chance``."""
    return f"{number(ratio)}× of chance" if isfinite(ratio) else UNDEFINED


def angle(radians: float, digits: int = 2) -> str:
    """An angle in degrees."""
    return f"{number(degrees(radians), digits)}°" if isfinite(radians) else UNDEFINED


def file_size(n: float) -> str:
    """Bytes in decimal units, as the hub shows them.

    Examples
    --------
    >>> file_size(3_086_000_000), file_size(512)
    ('3.1 GB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.2g} {unit}" if n < 10 else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.2g} TB"


def duration(seconds: float) -> str:
    """A time span for text.

    Examples
    --------
    >>> duration(0.43), duration(8.2), duration(130), duration(7320)
    ('0.4 s', '8 s', '2 min 10 s', '2 h 2 min')
    """
    if seconds < 2:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def safe(text: str) -> str:
    """Escaped for Plotly, which renders a subset of HTML in every label: model ids come from outside."""
    return escape(text, quote=False)


def shorten(text: str, width: int = 26) -> str:
    """Middle-elided to `width` characters, so that both family and variant stay readable."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def sentences(*parts: str) -> str:
    """Non-empty parts as sentences in a row, each with one full stop."""
    return " ".join(f"{p.strip().rstrip('.')}." for p in parts if p.strip())
