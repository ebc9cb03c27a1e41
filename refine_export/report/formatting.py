"""Numbers and limits as text, for the page, the console and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from refine_export.accuracy.effective_limits import LABELS, LARGEST
from refine_export.accuracy.limits import Limits
from refine_export.validate.comparison import OutputVerdict


def error_text(value: float | None, peak: float = 1.0) -> str:
    """An error, such as `1.0e-04`, in units of the peak where one is given."""
    if value is None:
        return "n/a"
    if not math.isfinite(value):
        return "not finite"
    return f"{value / peak:.1e}" if value else "0"


def psnr_text(output: OutputVerdict) -> str:
    """The PSNR of an output, or why it has none."""
    if output.metrics.identical:
        return "identical"
    return "n/a" if output.metrics.psnr_db is None else f"{output.metrics.psnr_db:.1f} dB"


def psnr_order(output: OutputVerdict) -> float:
    """The PSNR as a sort key: infinite where the arrays are equal, and below all others where it has none."""
    if output.metrics.identical:
        return math.inf
    return -math.inf if output.metrics.psnr_db is None else output.metrics.psnr_db


def limit_text(name: str, value: float | None) -> str:
    """One limit, such as `1.0e-04` or `90 dB`."""
    if value is None:
        return "none"
    return f"{value:g} dB" if name.endswith("_db") else f"{value:g}" if name == "ssim" else error_text(value)


def limits_text(limits: Limits) -> str:
    """All limits that are set, such as `largest error 1.0e-04, PSNR 90 dB`."""
    values = {name: getattr(limits, name) for name in LABELS}
    texts = [f"{LABELS[name]} {limit_text(name, value)}" for name, value in values.items() if value is not None]
    return ", ".join(texts) + ("" if limits.times is None else f"; or {times_text(limits.times)}")


def times_text(times: float) -> str:
    """The factor of limits that follow the cost of rounding; that of the largest error is greater."""
    return f"{times:g} times what rounding costs ({times * LARGEST:g} for the largest error)"


def margin_text(value: float, limit: float) -> str:
    """The distance of an error from its limit, in words; rounded towards the limit, so that no margin looks larger."""
    the_limit = f"the limit of {error_text(limit)}"
    if value == limit:
        return f"at {the_limit}"
    if not value or not math.isfinite(value):
        return f"{'not finite' if value else 'no error'}, limit {error_text(limit)}"
    side, ratio = ("below", limit / value) if value < limit else ("above", value / limit)
    if ratio < 1.1:
        return f"just {side} {the_limit}"
    digits = 10.0 ** (math.floor(math.log10(ratio)) - 1)
    rounded = math.floor(ratio / digits + 1e-9) * digits
    return f"{rounded:.1f} times {side} {the_limit}" if rounded < 10 else f"{rounded:,.0f} times {side} {the_limit}"


def _ssim(value: float | None) -> str:
    if value is None:
        return "n/a"
    return "> 0.999999" if value > 0.999999 else f"{value:.6f}"  # rounding must not turn it into 1


def _bytes(count: int) -> str:
    mebi, kibi = count / 2**20, count / 2**10
    return f"{mebi:.1f} MiB" if mebi >= 1 else f"{kibi:.1f} KiB" if kibi >= 1 else f"{count} B"


def _share(value: float) -> str:
    return "0 %" if not value else "< 0.001 %" if value < 1e-5 else f"{100 * value:.3g} %"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def _texts(value: Any) -> list[str]:
    """A value of a description, such as a size or two hashes, as one or more texts."""
    if isinstance(value, list | tuple):
        sizes = all(isinstance(item, int) for item in value)
        return [" \u00d7 ".join(map(str, value))] if sizes else [str(item) for item in value]
    return [f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)]


def _unbroken(text: str) -> Markup:
    """The text as HTML in which no line breaks at the hyphen of a number such as 1.0e-04."""
    escaped = str(escape(text))  # as a plain string: joining parts of a Markup would escape the tags
    return Markup(re.sub(r"\d\.\de-\d+", r'<span class="unbroken">\g<0></span>', escaped))


FILTERS: dict[str, Callable[..., Any]] = {
    "limits": limits_text,
    "error": error_text,
    "times": times_text,
    "psnr": psnr_text,
    "ssim": _ssim,
    "value": lambda value: "not finite" if value is None else f"{value:.8g}",
    "unbroken": _unbroken,
    "bytes": _bytes,
    "seconds": _seconds,
    "share": _share,
    "texts": _texts,
}
"""Filters of the page's templates."""
