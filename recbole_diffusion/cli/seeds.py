"""The option ``--seeds``, which has the same meaning in every command."""

from __future__ import annotations

_MAX_SEED = 2**32 - 1  # the largest seed of numpy's generators


def seeds_of(text: str) -> list[int]:
    """Parse the value of ``--seeds``.

    ``3`` is a number of seeds: 1, 2 and 3. ``7,8`` is a list of seeds; ``7,`` and ``[7]`` are the seed 7 alone.

    Raises:
        ValueError: neither a number nor a list, or a seed twice.
    """
    text = text.strip()
    inside = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    is_list = "," in text or inside != text
    try:
        numbers = [int(number) for number in inside.split(",") if number.strip()]
    except ValueError:
        numbers = []
    if not is_list and numbers:
        numbers = list(range(1, numbers[0] + 1)) if 0 < numbers[0] <= 10_000 else []
    if not numbers or len({*numbers}) < len(numbers) or not all(0 <= number <= _MAX_SEED for number in numbers):
        raise ValueError(
            f"--seeds={text} is not allowed; allowed: how many seeds (3: 1, 2 and 3), or different numbers with commas "
            "between them (7,8; 7, for one)"
        )
    return numbers
