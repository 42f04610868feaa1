"""Rules of keys, and values from the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("int >= 1 or null", 5.0, 5),
        ("int >= 1 or null", None, None),
        ("float in [0, 1)", 0, 0.0),
        ("float > 0", 1e-9, 1e-9),
        ("linear | cosine", "cosine", "cosine"),
        ("list of int >= 1 or int >= 1", [1, 2.0], [1, 2]),
        ("list of int >= 1 or int >= 1", 3, 3),
        ("list of str or str", "Recall", "Recall"),
        ("list of int >= 1 or []", [], []),
        ("list of int >= 1 or []", [7.0], [7]),
        ("dict or null", {"a": 1}, {"a": 1}),
        ("bool", False, False),
    ],
)
def test_values_that_fit(rule, value, expected):
    result = schema.check(rule, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("int >= 1", 0),
        ("int >= 1", 1.5),
        ("int", True),
        ("int", "3"),
        ("float in [0, 1)", 1.0),
        ("float in (0, 1]", 0.0),
        ("float", float("nan")),
        ("int", float("inf")),
        ("linear | cosine", "sqrt"),
        ("linear | cosine", None),
        ("list of int >= 1", [1, 0]),
        ("list of int >= 1 or []", ["a"]),
        ("list of int >= 1 or []", None),
        ("list of int >= 1", 1),
        ("bool", 1),
        ("bool", "True"),
    ],
)
def test_values_that_do_not_fit(rule, value):
    with pytest.raises(schema.Mismatch):
        schema.check(rule, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("5", 5),
        ("[200, 600]", [200, 600]),
        ("[200,600]", [200, 600]),
        ("{'RS': [0.8, 0.1, 0.1]}", {"RS": [0.8, 0.1, 0.1]}),
        ("{RS: [0.8, 0.1, 0.1]}", {"RS": [0.8, 0.1, 0.1]}),
        ("true", True),
        ("False", False),
        ("None", None),
        ("~", None),
        ("", None),
        ("\t", "\t"),
        (" ", " "),
        ("linear-var", "linear-var"),
        ("['Recall', 'NDCG']", ["Recall", "NDCG"]),
        ("1/0", "1/0"),
        ("().x", "().x"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("[unclosed", "[unclosed"),
        ("a: b: c", "a: b: c"),
    ],
)
def test_command_line_values_are_parsed_and_never_evaluated(text, value):
    assert schema.parse_value(text) == value


@given(st.text(max_size=30))
def test_no_text_makes_the_parser_fail(text):
    schema.parse_value(text)


def test_yaml_numbers_without_a_point():
    import yaml

    assert yaml.load("a: 1e-4", Loader=yaml_files.YamlLoader) == {"a": 1e-4}
    assert yaml.load("a: 1e-4", Loader=yaml.SafeLoader) == {"a": "1e-4"}


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [1\n", "just words"])
def test_files_that_are_no_settings(tmp_path, content):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"x\.yaml"):
        yaml_files.load_yaml(tmp_path / "x.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        yaml_files.load_yaml(tmp_path / "y.yaml")


def test_a_choice_called_none_survives_yaml_and_the_command_line():
    assert schema.check_key("restrict", None, "none | radial", "none") == "none"
    with pytest.raises(ValueError, match="restrict=None is not allowed"):
        schema.check_key("restrict", None, "directional | radial", "radial")


def test_error_names_key_value_and_what_is_allowed():
    with pytest.raises(ValueError, match=r"^steps=0 is not allowed; allowed: int >= 1$"):
        schema.check_key("steps", 0, "int >= 1", 5)
    with pytest.raises(ValueError, match="embedding_size='big'"):
        schema.check_key("embedding_size", "big", None, 64)


def test_nearest():
    assert schema.nearest("learnin_rate", ["learning_rate", "epochs"]) == "learning_rate"
    assert schema.nearest("NOISE_scale", ["noise_scale"]) == "noise_scale"
    assert schema.nearest("zzz", ["learning_rate"]) is None
