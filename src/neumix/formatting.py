"""Numbers as a reader wants to see them."""

import math
from decimal import Decimal

__all__ = ["format_number"]


def format_number(value: float, like: str | None = None) -> str:
    """Return a number with as many digits as a reader can use.

    Arguments:
        value: the number; NaN gives a dash.
        like: a printed number to compare with: one decimal more than it has is shown, none where both are whole.
            Without it, four significant digits, or the whole part where that has more.
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if like is None:
        return _significant(value)
    decimals = max(0, -int(Decimal(like).as_tuple().exponent))
    if decimals == 0 and float(value).is_integer():
        return f"{value:z.0f}"
    return f"{value:z.{decimals + 1}f}"


def _significant(value: float, digits: int = 4) -> str:
    if value == 0:
        return "0"
    magnitude = int(f"{value:.{digits - 1}e}".partition("e")[2])
    if magnitude < -4 or magnitude > 9:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - magnitude)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if float(value).is_integer() and decimals else text
