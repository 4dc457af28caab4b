"""The safe yaml reader: values worked out by hand, agreement with Python, refusals, errors."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mask2former.config.yaml_reader import evaluate_list, read_chain, read_yaml


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str | bytes, name: str = "test.yaml") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return _write


# evaluate_list


def test_published_expressions():
    # 0.1 * 6 * 512 is 307.2, and so on: rounded down.
    assert evaluate_list("[int(x * 0.1 * 512) for x in range(5, 9)]") == [256, 307, 358, 409]
    assert len(evaluate_list("[int(x * 0.1 * 2048) for x in range(5, 21)]")) == 16


@pytest.mark.parametrize(
    "expression",
    [
        "[int(x * 0.1 * 640) for x in range(5, 21)]",
        " [ int(0.1*y*1024) for y in range(5,21) ] ",
        "[x for x in range(3)]",
        "[x - 2 for x in range(9, 0, -2)]",
        "[-(x + 1) / 2 for x in range(3)]",
        "[+x // 3 % 2 for x in range(20)]",
        "[x for x in range(0)]",
        "[1.5 for _ in range(int(2.9))]",
    ],
)
def test_agrees_with_python(expression: str):
    assert evaluate_list(expression) == eval(expression.strip())


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 4000), st.floats(0.01, 10))
def test_agrees_with_python_for_any_numbers(start: int, length: int, side: int, factor: float):
    stop = start + length
    expected = [int(x * factor * side) for x in range(start, stop)]
    assert (
        evaluate_list(f"[int(x * {factor!r} * {side}) for x in range({start}, {stop})]") == expected
    )


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("__import__('os').system('true')", "no list comprehension"),
        ("[1, 2]", "no list comprehension"),
        ("", "refused"),
        ("[x for", "refused"),
        ("[x for x in [1, 2]]", r"holds \[1, 2\] where range\(\)"),
        ("[y for x in range(3)]", "holds y"),
        ("[x for x in range(3) if x]", "its loop is no plain one"),
        ("[x async for x in range(3)]", "its loop is no plain one"),
        ("[x for x, y in range(3)]", "its loop is no plain one"),
        ("[x + y for x in range(3) for y in range(3)]", "with one loop"),
        ("[[y for y in range(3)] for x in range(3)]", "holds"),
        ("[9 ** x for x in range(3)]", r"holds 9 \*\* x"),
        ("[1 << x for x in range(3)]", "holds 1 << x"),
        ("['a' for x in range(3)]", "holds 'a'"),
        ("[True for x in range(3)]", "holds True"),
        ("[x.real for x in range(3)]", r"holds x\.real"),
        ("[open(x) for x in range(3)]", r"holds open\(x\) where int\(\)"),
        ("[int('7') for x in range(3)]", "holds '7'"),
        ("[int(x, base=2) for x in range(3)]", r"int\(\) was expected"),
        ("[int() for x in range(3)]", "refused"),
        ("[int(x, 2) for x in range(3)]", "refused"),
        ("[x for x in range(1.5)]", "whole numbers"),
        ("[x for x in range()]", "one to three"),
        ("[x for x in range(1, 2, 0)]", "refused"),
        ("[1 / x for x in range(3)]", "division by zero"),
        ("[int(1e999) for x in range(3)]", "too large"),
        ("[1e999 - 1e999 for x in range(3)]", "too large"),
        ("[x * 999999999 for x in range(3)]", "too large"),
        ("[x for x in range(1001)]", "more than 1000 elements"),
        ("[x for x in range(999999999)]", "more than 1000 elements"),
        (f"[{'-' * 180}1 for x in range(1)]", "longer than 200"),
        (f"[{'(' * 85}1{')' * 85} for x in range(9**9)]", "refused"),
        ("[x\0 for x in range(3)]", "refused"),
    ],
)
def test_everything_else_is_refused(expression: str, reason: str):
    with pytest.raises(ValueError, match=reason) as info:
        evaluate_list(expression)
    assert "expected arithmetic such as" in str(info.value)
    assert len(str(info.value)) < 1000


# read_yaml


def test_plain_values_are_those_of_pyyaml(write):
    text = "a: [1, 2.5, x, yes, ~, 1.0e-3]\nb: &b {c: 'quoted', d: ''}\ne:\n  <<: *b\n  d: 2\n"
    assert read_yaml(write(text)) == yaml.safe_load(text)


def test_tuples(write):
    content = read_yaml(write("a: !!python/tuple [1, [2], !!python/tuple [3]]\n"))
    assert content == {"a": (1, [2], (3,))}


def test_evaluated_lists(write):
    tag = "!!python/object/apply:eval"
    content = read_yaml(write(f'a: {tag} ["[x * 2 for x in range(3)]"]\nb: 1\n'))
    assert content == {"a": [0, 2, 4], "b": 1}


@pytest.mark.parametrize(
    "tag",
    [
        '!!python/object/apply:os.system ["touch {}"]',
        "!!python/object/apply:eval [\"open('{}', 'w')\"]",
        "!!python/object/new:pathlib.Path ['{}']",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
        "!!python/object:mask2former.config.keys.CfgNode {{}}",
        "!!python/dict {{a: 1}}",
        "!!binary aGVsbG8=",
        "!!set {{a, b}}",
        "!!omap [a: 1]",
        "!custom 1",
    ],
)
def test_other_tags_are_refused_and_run_nothing(write, tmp_path: Path, tag: str):
    sentinel = tmp_path / "made_by_yaml"
    path = write("a: 1\nb: " + tag.format(sentinel) + "\n")
    with pytest.raises(ValueError, match="refused") as info:
        read_yaml(path)
    assert f"{path}, line 2" in str(info.value)
    if ":eval" not in tag:
        assert tag.split()[0] in str(info.value)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping of config keys, got an empty file"),
        ("- a\n", "expected a mapping of config keys, got a list"),
        ("just words\n", "expected a mapping of config keys, got a str"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key a occurs twice"),
        ("a:\n  b: 1\n  b: 1\n", "line 3: the key b occurs twice"),
        ("a: 1\n2: 3\n", "line 2: expected a name as key, got 2; quote it"),
        ("yes: 3\n", "line 1: expected a name as key, got yes"),
        ("[a]: 3\n", "line 1: expected a name as key"),
        ("a: &x [*x]\n", "line 1: .*recursive"),
        ("a: &x {b: *x}\n", "line 1: .*recursive"),
        ("a: *nowhere\n", "line 1: .*nowhere"),
        ("a: 2020-01-01\n", "line 1: 2020-01-01 reads as a date; quote it"),
        ("a: !!int x\n", "line 1: cannot read 'x' as !!int"),
        ("a: !!bool x\n", "line 1: cannot read 'x' as !!bool"),
        ("a: !!python/tuple 3\n", "line 1: expected a sequence behind !!python/tuple"),
        ("a: !!python/object/apply:eval []\n", "line 1: expected one expression in brackets"),
        ("a: !!python/object/apply:eval {args: [1]}\n", "line 1: expected one expression"),
        ("a: 1\nb: [\n", "line 3: "),
        ("a: {b: 1\nc: }}\n", "line 2: "),
        (b"a: \xff\xfe\n", "is not a yaml text file"),
        (b"a: \x00\n", "is not a yaml text file"),
        ("a: " + "[" * 101 + "]" * 101, "nested too deeply"),
        ("[" * 1000, "nested too deeply"),
    ],
)
def test_errors_name_file_and_line(write, text: str | bytes, message: str):
    path = write(text)
    with pytest.raises(ValueError, match=message) as info:
        read_yaml(path)
    assert str(info.value).startswith(path)


# read_chain


def test_bases_come_before_what_builds_on_them(write, tmp_path: Path):
    (tmp_path / "sub").mkdir()
    root, second = write("a: 1\n", "root.yaml"), write("b: 2\n", "second.yaml")
    middle = write("_BASE_: [../root.yaml, ../second.yaml]\nc: 3\n", "sub/middle.yaml")
    leaf = write(f"_BASE_: {middle}\nd: 4\n")
    keys = [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}]
    assert read_chain(leaf) == list(zip([root, second, middle, leaf], keys, strict=True))


def test_a_base_may_be_reached_twice(write):
    write("a: 1\n", "root.yaml")
    write("_BASE_: root.yaml\n", "one.yaml")
    chain = read_chain(write("_BASE_: [one.yaml, root.yaml]\n"))
    assert [keys for _, keys in chain] == [{"a": 1}, {}, {"a": 1}, {}]


def test_base_in_the_home_folder(write, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("a: 1\n", "home.yaml")
    assert read_chain(write("_BASE_: ~/home.yaml\n"))[0][1] == {"a": 1}


def test_missing_files(write, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"config file .*absent\.yaml does not exist"):
        read_chain(tmp_path / "absent.yaml")
    path = write("_BASE_: absent.yaml\n")
    with pytest.raises(FileNotFoundError, match=rf"absent\.yaml, the _BASE_ of {path}, does not"):
        read_chain(path)


@pytest.mark.parametrize("first", ["second.yaml", "first.yaml", "./first.yaml"])
def test_circles(write, first: str):
    write("_BASE_: first.yaml\n", "second.yaml")
    with pytest.raises(ValueError, match=r"_BASE_ goes round in a circle: .*first\.yaml -> .*"):
        read_chain(write(f"_BASE_: {first}\n", "first.yaml"))


def test_circles_through_links(write, tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ValueError, match="_BASE_ goes round in a circle"):
        read_chain(write("_BASE_: link/test.yaml\n"))


@pytest.mark.parametrize("base", ["3", "[a.yaml, 3]", "{a: b}"])
def test_a_base_is_a_file_name(write, base: str):
    write("a: 1\n", "a.yaml")
    with pytest.raises(ValueError, match="_BASE_ expects a file name, got"):
        read_chain(write(f"_BASE_: {base}\n"))


def test_aliases_of_aliases_do_not_grow_without_end(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 9):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="more than 100000 values") as error:
        read_yaml(path)
    assert len(str(error.value)) < 1000


def test_a_file_does_not_make_us_fetch(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    path.write_text("_BASE_: https://example.org/base.yaml")
    with pytest.raises(ValueError, match="is on the web.*download it"):
        read_chain(path)


def test_merges_of_merges_are_refused_before_they_fill_the_memory(tmp_path):
    lines = [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], b{i}: 1}}" for i in range(1, 40)]
    (tmp_path / "a.yaml").write_text("\n".join(["a0: &a0 {b: 1}", *lines]))
    with pytest.raises(ValueError, match="merges of merges"):
        read_yaml(tmp_path / "a.yaml")


def test_numbers_beyond_64_bits_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("A: 0x" + "f" * 5000)
    with pytest.raises(ValueError, match="line 1: 0xfff.* is a number of more than 64 bits"):
        read_yaml(tmp_path / "a.yaml")
