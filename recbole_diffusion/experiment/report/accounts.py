"""The account of rows in words: how many rows the files of a data set hold, and how many were dropped why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_diffusion.experiment.report.results import ModelResult


def describe_account(account: Mapping[str, Any]) -> list[str]:
    """Return lines such as ``rows read: 598 (d.inter)`` and ``rows dropped: 20, val_interval=…``.

    Args:
        account: see :meth:`recbole_diffusion.data.account.Account.plain`; may be empty.
    """
    files, dropped = account.get("files") or {}, account.get("dropped") or []
    files_read = ", ".join(f"{rows:,} ({name})" for name, rows in files.items())
    lines = [f"rows read: {files_read}"] if files_read else []
    return lines + [
        f"rows dropped: {drop['rows']:,}, {drop['reason']}{'' if drop['requested'] else ' (no setting asks for it)'}"
        for drop in dropped
    ]


def accounts_of_models(results: Sequence[ModelResult]) -> list[dict[str, Any]]:
    """Return each distinct account of finished runs, with the labels of its models in ``models``.

    Kinds of models may read different files.
    """
    accounts: dict[str, dict[str, Any]] = {}
    for result in results:
        if result.account:
            key = json.dumps(result.account, sort_keys=True)
            accounts.setdefault(key, {"models": [], **result.account})["models"].append(result.label)
    return list(accounts.values())


def account_lines(results: Sequence[ModelResult]) -> list[str]:
    """Return :func:`describe_account` of every account, after the labels of its models if accounts differ."""
    accounts = accounts_of_models(results)
    return [
        f"{', '.join(account['models'])}: {line}" if len(accounts) > 1 else line
        for account in accounts
        for line in describe_account(account)
    ]
