"""Epochs count from 1 wherever people see them; RecBole's index of an epoch counts from 0."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, MutableMapping
from typing import Any

_NUMBER = re.compile(r"(?<=epoch )\d+")  # colour codes may stand before it


class Index(int):
    """RecBole's index of an epoch, which is shown as the epoch's number: its progress bar formats what it is given."""

    def __format__(self, spec: str) -> str:
        return format(int(self) + 1, spec)


class _FromOne(logging.LoggerAdapter):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return _NUMBER.sub(lambda found: str(int(found[0]) + 1), msg) if isinstance(msg, str) else msg, kwargs


@contextlib.contextmanager
def logged_from_one(trainer: Any) -> Iterator[None]:
    """Count the epochs in a trainer's log from 1, for the time of a training loop that is RecBole's own."""
    before = trainer.logger
    trainer.logger = _FromOne(before, {})
    try:
        yield
    finally:
        trainer.logger = before
