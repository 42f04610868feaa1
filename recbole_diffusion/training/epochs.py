"""Epoch numbers from 1 in logs and progress bars; RecBole's epoch index counts from 0."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, MutableMapping
from typing import Any

_NUMBER = re.compile(r"(?<=epoch )\d+")  # colour codes may stand before it


class Index(int):
    """RecBole's epoch index that formats as the number from 1, as in RecBole's progress bar."""

    def __format__(self, spec: str) -> str:
        return format(int(self) + 1, spec)


class _CountsFromOne(logging.LoggerAdapter):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return _NUMBER.sub(lambda match: str(int(match[0]) + 1), msg) if isinstance(msg, str) else msg, kwargs


@contextlib.contextmanager
def logged_from_one(trainer: Any) -> Iterator[None]:
    """Count the epochs in a trainer's log from 1 while one of RecBole's training loops runs."""
    original = trainer.logger
    trainer.logger = _CountsFromOne(original, {})
    try:
        yield
    finally:
        trainer.logger = original
