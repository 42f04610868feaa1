"""Imports that are put off: the same names and values, and the import at the first use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_diffusion.support.deferred_import import deferred, lazy_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``heavy`` is imported by ``slow.__init__`` and ``slow.first``; its name ``twice`` doubles."""
    (tmp_path / "heavy.py").write_text("def twice(x, plus=0):\n    return 2 * x + plus\n")
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "__init__.py").write_text("from slow.first import First\nfrom slow.second import Second\n")
    (tmp_path / "slow" / "first.py").write_text("from heavy import twice\nclass First:\n    four = 4\n")
    (tmp_path / "slow" / "second.py").write_text("class Second: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in {"heavy", "slow"}]:
        del sys.modules[name]


def test_a_deferred_function_imports_at_its_call(package: Any) -> None:
    with deferred("heavy", "twice"):
        from heavy import twice  # type: ignore[import-not-found]
    assert "heavy" not in sys.modules
    assert twice(3, plus=1) == 7
    assert sys.modules["heavy"].twice(2) == 4


def test_a_loaded_module_is_left_alone(package: Any) -> None:
    import heavy

    with deferred("heavy", "twice"):
        from heavy import twice
    assert twice is heavy.twice
    assert sys.modules["heavy"] is heavy


def test_an_error_in_the_block_leaves_no_stand_in(package: Any) -> None:
    with pytest.raises(ZeroDivisionError), deferred("heavy", "twice"):
        _ = 1 // 0
    assert "heavy" not in sys.modules


def test_a_module_of_a_lazy_package_comes_without_the_others(package: Any) -> None:
    lazy_package("slow")
    from slow.first import First  # type: ignore[import-not-found]

    assert First.four == 4
    assert "slow.second" not in sys.modules
    import slow  # type: ignore[import-not-found]

    assert not hasattr(slow, "__wrapped__")
    assert "slow.second" not in sys.modules
    assert slow.Second is sys.modules["slow.second"].Second
    assert slow.First is First
    with pytest.raises(AttributeError, match="Third"):
        _ = slow.Third


def test_a_lazy_package_whose_init_fails_says_so_each_time(package: Any, tmp_path: Path) -> None:
    (tmp_path / "slow" / "__init__.py").write_text("import not_there_at_all\n")
    lazy_package("slow")
    import slow

    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
            _ = slow.First


def test_all_names_of_a_lazy_package(package: Any) -> None:
    lazy_package("slow")
    names: dict[str, Any] = {}
    exec("from slow import *", names)
    assert {"First", "Second"} <= set(names)


def test_no_such_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no package json\.not_there"):
        lazy_package("json.not_there")
