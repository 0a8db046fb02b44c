"""Numbers, times and sizes as a reader wants to see them."""

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["decimals_of", "duration", "finite", "mean_decimals", "number", "seed_list", "words"]

NOTHING = "–"


def finite(value: object) -> float | None:
    """Return `value` as a float, or None when it is missing, not a number or infinite."""
    try:
        converted = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return converted if math.isfinite(converted) else None


def decimals_of(value: object) -> int:
    """Return the number of decimals with which `value` is written, e.g. 4 for 0.4055."""
    text = str(value).lower()
    mantissa, _, exponent = text.partition("e")
    fraction = mantissa.partition(".")[2]
    if not isinstance(value, str) and fraction == "0":
        fraction = ""
    return max(0, len(fraction) - int(exponent or 0))


def mean_decimals(published: object, std: float | None) -> int:
    """Return the decimals for a mean: two digits of its SD, and at least what the paper printed."""
    printed = decimals_of(published) if finite(published) is not None else 3
    if std is None or std <= 0:
        return printed
    return min(max(printed, 1 - math.floor(math.log10(std))), printed + 2)


def number(value: object, decimals: int | None = None) -> str:
    """Write a number with thousands separators and a true minus sign; a dash when there is none.

    Arguments:
        value: a number, or text such as `55.00`, which keeps its digits.
        decimals: digits after the point; as given when None.
    """
    converted = finite(value)
    if converted is None:
        return NOTHING
    digits = decimals_of(value) if decimals is None else decimals
    if converted != 0 and (digits > 8 or abs(converted) >= 1e9):
        return f"{converted:.3g}".replace("-", "−")
    text = f"{converted:,.{digits}f}"
    if not float(text.replace(",", "")):
        text = text.lstrip("-")
    return text.replace("-", "−")


def duration(seconds: object) -> str:
    """Write a time span, e.g. `3 min 20 s`."""
    total = finite(seconds)
    if total is None:
        return NOTHING
    if total < 60:
        return f"{total:.1f} s"
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def seed_list(seeds: Sequence[Any]) -> str:
    """Write seeds, a run of consecutive ones as a range, e.g. `0 to 9 (10 seeds)`."""
    if not seeds:
        return NOTHING
    if len(seeds) == 1:
        return str(seeds[0])
    consecutive = all(isinstance(seed, int) for seed in seeds) and list(seeds) == list(
        range(seeds[0], seeds[0] + len(seeds))
    )
    listed = f"{seeds[0]} to {seeds[-1]}" if consecutive else ", ".join(str(seed) for seed in seeds)
    return f"{listed} ({len(seeds)} seeds)"


def words(name: str) -> str:
    """Turn an identifier into words, e.g. `mixture_weight` into `mixture weight`."""
    return name.replace("_", " ")
