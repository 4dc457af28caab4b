"""The set-up tool's decisions; what it installs is tested by using it."""

import importlib.metadata
import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import setup_env


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """A made-up checkout in which steps are noted, not run; yields the list of (title, command)."""
    found: list[tuple[str, tuple[str, ...]]] = []
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "torch.txt").write_text("torch==2\n")
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env, "run", lambda title, *command: found.append((title, command)))
    monkeypatch.setattr(setup_env, "write_torch_constraints", lambda python, target: None)
    monkeypatch.setattr(setup_env, "make_venv", lambda venv: venv / "bin" / "python")
    (tmp_path / ".venv").mkdir()
    return found


def set_up(*arguments: str) -> int:
    return setup_env.main(["--venv", str(setup_env.ROOT / ".venv"), *arguments])


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_unsupported_python_is_refused_with_what_to_do(version):
    with pytest.raises(setup_env.SetupError, match=r"3\.11 to 3\.13 is needed.*PYTHON=python3\.12"):
        setup_env.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_python_passes(version):
    setup_env.check_python(version)


def test_second_run_does_nothing(steps, capsys):
    assert set_up() == 0
    assert [title for title, _ in steps] == [
        "build tools",
        "torch and torchvision",
        "other packages",
        "scorers",
        "detectron2",
        "mask2former",
    ]
    steps.clear()
    capsys.readouterr()
    assert set_up() == 0
    assert steps == [] and capsys.readouterr().out == ""


def add_package(name: str, version: str) -> Path:
    """Lay down what pip leaves of a package: its files, and a folder that tells its version."""
    site = setup_env.ROOT / ".venv" / "lib" / "python3.11" / "site-packages"
    folder = site / f"{name}-{version}.dist-info"
    for file in (folder / "RECORD", site / name / "__init__.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
    (site / name / "__init__.py").touch()
    (folder / "RECORD").write_text(
        f"../../../bin/{name},,\n{folder.name}/METADATA,,\n{name}/__init__.py,,\n"
    )
    return folder


@pytest.fixture
def packages(steps):
    """An environment that was set up, with a few packages; yields the steps noted since."""
    constraints = setup_env.ROOT / "requirements" / "constraints.txt"
    constraints.write_text("# pinned\nPy_YAML==6.0\nnumpy==2.4.6\nabsent==1\n")
    for package in (("py_yaml", "6.0"), ("numpy", "2.4.6"), ("torch", "2.14.1+cpu")):
        add_package(*package)
    add_package("detectron2", "0.6")
    assert set_up() == 0
    steps.clear()
    return steps


def test_packages_as_they_were_installed_are_left(packages, capsys):
    add_package("another", "1.0")  # of the user's own
    capsys.readouterr()
    assert set_up() == 0 and packages == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["other version", "removed", "without files", "twice"])
def test_packages_changed_by_hand_are_installed_again(packages, capsys, kind):
    site = setup_env.ROOT / ".venv" / "lib" / "python3.11" / "site-packages"
    if kind == "without files":
        (site / "numpy" / "__init__.py").unlink()
    elif kind == "twice":
        add_package("numpy", "1.0")
    else:
        shutil.rmtree(site / "numpy-2.4.6.dist-info")
    if kind == "other version":
        add_package("numpy", "2.0")
    assert set_up() == 0
    [(title, command)] = packages
    assert title == "packages" and command[-1] == "numpy==2.4.6"
    assert {"--no-deps", "--force-reinstall"} <= set(command)
    assert "installed again: numpy\n" in capsys.readouterr().out


def test_torch_and_what_comes_from_no_index_are_restored_their_way(packages):
    assert set_up("--index-url", "https://example.org/cpu") == 0
    packages.clear()
    shutil.rmtree(add_package("torch", "2.14.1+cpu"))
    shutil.rmtree(add_package("detectron2", "0.6"))
    assert set_up() == 0
    (_, torch), (name, detectron2) = packages
    assert torch[-3:] == ("--index-url", "https://example.org/cpu", "torch==2.14.1+cpu")
    assert name == "detectron2" and detectron2[-1] == "tools/install_detectron2.py"


def test_a_look_at_all_packages_takes_a_moment():
    seconds = []
    for _ in range(3):  # the first reads from the disk, and others may keep the caches busy
        start = time.process_time()
        found = setup_env.installed(Path(sys.prefix))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5
    for name in ("numpy", "timm", "import-linter", "detectron2"):
        assert found[name] == importlib.metadata.version(name)


def test_a_stamp_of_an_older_version_counts_as_none(steps):
    (setup_env.ROOT / ".venv" / setup_env.STAMP).write_text("0123abcd")
    assert set_up() == 0 and len(steps) == 6


def test_changed_requirements_run_again(steps):
    assert set_up() == 0
    steps.clear()
    (setup_env.ROOT / "requirements" / "test.txt").write_text("pytest\n")
    assert set_up() == 0
    assert len(steps) == 6


def test_failed_step_leaves_no_stamp(steps, monkeypatch, capsys):
    def fail(title, *command):
        if title == "detectron2":
            raise setup_env.SetupError("this step failed")

    monkeypatch.setattr(setup_env, "run", fail)
    assert set_up() == 1
    assert "setup: this step failed" in capsys.readouterr().err
    assert not (setup_env.ROOT / ".venv" / setup_env.STAMP).exists()


def test_torch_choice_is_remembered_and_a_change_removes_the_former(steps):
    def torch_commands():
        return [command for title, command in steps if "torch" in title]

    assert set_up() == 0
    assert torch_commands()[0][-2:] == ("-r", "requirements/torch.txt")
    steps.clear()
    assert set_up("--index-url", "https://example.org/cpu") == 0
    remove, install = torch_commands()
    assert "uninstall" in remove and remove[-2:] == ("torch", "torchvision")
    assert install[-4:] == ("--index-url", "https://example.org/cpu", "-r", install[-1])
    steps.clear()
    assert set_up() == 0
    assert steps == []
    assert set_up("--torch", "torch==3 torchvision==3") == 0
    assert torch_commands()[1][-3:] == ("https://example.org/cpu", "torch==3", "torchvision==3")
    memory = json.loads((setup_env.ROOT / ".venv" / setup_env.TORCH_CHOICE).read_text())
    assert memory["torch"] == "torch==3 torchvision==3"


def test_failing_command_names_itself():
    with pytest.raises(setup_env.SetupError, match=r"this step failed.*-c raise SystemExit"):
        setup_env.run("a step", sys.executable, "-c", "raise SystemExit(3)")


def test_version_of_an_environment(tmp_path):
    assert setup_env.venv_version(tmp_path / "bin" / "python") is None
    assert setup_env.venv_version(setup_env.Path(sys.executable)) == sys.version_info[:2]


def test_every_listed_requirement_is_pinned():
    folder = setup_env.Path(setup_env.__file__).parents[2] / "requirements"
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (folder / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for name in ("base", "detectron2", "project", "test", "test_no_deps"):
        for line in (folder / f"{name}.txt").read_text().splitlines():
            if line and not line.startswith(("#", "-c")):
                name_only = re.split(r"[\[;]", line)[0]  # without extras and the Python it is for
                listed = name_only.lower().replace("_", "-")
                assert listed in pins, f"{name}.txt: {line}"
