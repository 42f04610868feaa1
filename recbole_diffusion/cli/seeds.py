"""``--seeds``, one meaning in every command."""

from __future__ import annotations

_MOST = 2**32 - 1  # numpy's generators take no larger seed


def seeds_of(text: str) -> list[int]:
    """Read seeds: ``3`` is three of them, 1, 2 and 3; ``7,8`` is these two; ``7,`` or ``[7]`` is 7 alone.

    Raises:
        ValueError: neither, or a seed twice.
    """
    text = text.strip()
    inside = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    listed = "," in text or inside != text
    try:
        numbers = [int(each) for each in inside.split(",") if each.strip()]
    except ValueError:
        numbers = []
    if not listed and numbers:
        numbers = list(range(1, numbers[0] + 1)) if 0 < numbers[0] <= 10_000 else []
    if not numbers or len({*numbers}) < len(numbers) or not all(0 <= each <= _MOST for each in numbers):
        raise ValueError(
            f"--seeds={text} is not allowed; allowed: how many seeds (3: 1, 2 and 3), or different numbers with commas "
            "between them (7,8; 7, for one)"
        )
    return numbers
