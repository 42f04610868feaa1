"""The account of the rows in words: what the files of a data set held, and what was dropped for which reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_diffusion.experiment.report.results import Result

Account = Mapping[str, Any]


def words(account: Account) -> list[str]:
    """Lines such as ``rows read: 598 (d.inter); dropped: 20 by val_interval``; none for an empty account.

    Args:
        account: see :meth:`recbole_diffusion.data.account.Account.plain`.
    """
    files, dropped = account.get("files") or {}, account.get("dropped") or []
    read = ", ".join(f"{rows:,} ({name})" for name, rows in files.items())
    lines = [f"rows read: {read}"] if read else []
    return lines + [
        f"rows dropped: {each['rows']:,}, {each['reason']}{'' if each['requested'] else ' (no setting asks for it)'}"
        for each in dropped
    ]


def by_models(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Each different account of finished runs, with the labels of its models: kinds of models may read other files."""
    groups: dict[str, dict[str, Any]] = {}
    for result in results:
        if result.account:
            key = json.dumps(result.account, sort_keys=True)
            groups.setdefault(key, {"models": [], **result.account})["models"].append(result.label)
    return list(groups.values())


def lines(results: Sequence[Result]) -> list[str]:
    """:func:`words` of every account, with the names of its models where there are several."""
    groups = by_models(results)
    named = len(groups) > 1
    return [f"{', '.join(each['models'])}: {line}" if named else line for each in groups for line in words(each)]
