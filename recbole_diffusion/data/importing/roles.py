"""Which column is the user, the item, the rating and the time: as the caller says, or by the names of public data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from recbole_diffusion.data.importing.table import Table, listed

ROLES = ("user", "item", "rating", "time")
#: RecBole's names of the columns that are written, with their types.
FIELDS = {"user": "user_id:token", "item": "item_id:token", "rating": "rating:float", "time": "timestamp:float"}
#: Names of columns in public data sets, lower case and without other characters than letters and digits. The first
#: tuple that a table has a name of decides.
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("userid", "user", "uid", "userindex", "useridx", "reviewerid", "customerid", "memberid", "msno"),
        ("visitorid", "accountid", "playerid", "readerid", "authorid", "profileid", "steamid", "username"),
        ("sessionid", "session", "sessid"),
    ),
    "item": (
        (
            *("itemid", "item", "iid", "itemindex", "itemidx", "movieid", "productid", "asin", "parentasin"),
            *("articleid", "businessid", "gmapid", "bookid", "isbn", "trackid", "songid", "artistid", "albumid"),
            *("gameid", "appid", "newsid", "poiid", "venueid", "locationid", "recipeid", "animeid", "beerid"),
            *("podcastid", "videoid", "showid", "sku"),
        ),
        ("movie", "product", "track", "song", "artist", "album", "book", "game", "app", "poi", "venue", "recipe"),
    ),
    "rating": (
        ("rating", "ratings", "overall", "stars", "star", "score", "rate", "reviewscore", "starrating"),
        ("plays", "playcount", "listens", "weight", "count", "hours", "clicks"),
    ),
    "time": (
        ("timestamp", "ts", "unixreviewtime", "unixtime", "timestampms", "epoch", "eventtimestamp"),
        ("time", "datetime", "createdat", "eventtime", "reviewtime", "ratedat", "visittime", "checkintime"),
        ("date", "created", "eventdate", "reviewdate", "day"),
    ),
}


class Choice(NamedTuple):
    """The column of a role.

    Attributes:
        column: its name; None where the table has none, or it is left out.
        guessed: whether it was guessed from its name.
    """

    column: Optional[str]
    guessed: bool


def looks_like_header(cells: Sequence[str], asked: Sequence[str] = ()) -> bool:
    """Whether a first record names columns: some cell is a known name, or one that the caller asks for."""
    known = {name for tiers in NAMES.values() for tier in tiers for name in tier}
    lowered = {name.lower() for name in asked if not name.isdigit()}  # digits are numbers of columns
    plain = [cell.partition(":")[0].strip() for cell in cells]
    return any(_plain(name) in known or name.lower() in lowered for name in plain)


def choose(table: Table, requested: Mapping[str, Optional[str]]) -> dict[str, Choice]:
    """Choose the column of each role.

    Args:
        table: the table.
        requested: column by role; ``none`` leaves the role out, None or no entry leaves the choice to the names.

    Raises:
        ValueError: a requested column is not there; user or item cannot be guessed; a name fits several columns.
    """
    chosen: dict[str, Choice] = {}
    for role in ROLES:
        name = requested.get(role)
        if name is not None and str(name).lower() == "none" and role in {"rating", "time"}:
            chosen[role] = Choice(None, False)
        elif name is not None:
            table.check_column(name, f"--{role}")
            chosen[role] = Choice(name, False)
    _check_distinct(chosen)
    if not table.has_names and not {"user", "item"} <= {*chosen}:
        raise _no_names(table)
    taken = {choice.column for choice in chosen.values()}
    for role in ROLES:
        if role not in chosen:
            chosen[role] = Choice(_guess(table, role, [name for name in table.columns if name not in taken]), True)
    return {role: chosen[role] for role in ROLES}


def guess_item(table: Table) -> str:
    """The column of the items in a table about items.

    Raises:
        ValueError: none or several fit.
    """
    column = _guess(table, "item", list(table.columns), "item-id")
    assert column is not None
    return column


def _guess(table: Table, role: str, names: Sequence[str], option: str = "") -> Optional[str]:
    """The column of a role by its name; None if no name is known and the role may be left out."""
    option = option or role
    for tier in NAMES[role] if table.has_names else ():
        fitting = [name for name in names if _plain(name) in tier]
        if len(fitting) > 1:
            way_out = " or ".join(f"--{option}={name}" for name in fitting)
            none = f" (or --{role}=none)" if role in {"rating", "time"} else ""
            raise ValueError(f"{table.source}: {', '.join(fitting)} may each be the {role}; give {way_out}{none}")
        if fitting:
            return fitting[0]
    if role in {"rating", "time"}:
        return None
    raise ValueError(
        f"{table.source}: no column has a known name for the {role}; give --{option}=COLUMN; {listed(table.columns)}"
    )


def _no_names(table: Table) -> ValueError:
    """The error about a table without names of columns; it shows the first row."""
    row = [str(column.values[column.codes[0]]) for column in table.columns.values()]
    extra = {2: "", 3: " --time=3 (or --rating=3)"}.get(len(row), " --rating=3 --time=4")
    return ValueError(
        f"{table.source}: the first line, {', '.join(row[:8])}, has no known names of columns; say which is which by "
        f"their numbers, e.g. --user=1 --item=2{extra}, or by their names, with --header=yes if it has some"
    )


def _check_distinct(chosen: Mapping[str, Choice]) -> None:
    columns = [choice.column for choice in chosen.values() if choice.column is not None]
    for column in columns:
        if columns.count(column) > 1:
            roles = [f"--{role}" for role, choice in chosen.items() if choice.column == column]
            raise ValueError(f"{' and '.join(roles)} are both {column!r}; give each its own column")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
