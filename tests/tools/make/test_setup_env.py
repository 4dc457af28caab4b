"""The set-up tool's decisions; what it installs is tested by using it."""

import json
import sys

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
        "detectron2",
        "mask2former",
    ]
    steps.clear()
    capsys.readouterr()
    assert set_up() == 0
    assert steps == [] and capsys.readouterr().out == ""


def test_changed_requirements_run_again(steps):
    assert set_up() == 0
    steps.clear()
    (setup_env.ROOT / "requirements" / "test.txt").write_text("pytest\n")
    assert set_up() == 0
    assert len(steps) == 5


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
    for name in ("base", "detectron2", "project", "test"):
        for line in (folder / f"{name}.txt").read_text().splitlines():
            if line and not line.startswith(("#", "-c")):
                assert line.lower().replace("_", "-") in pins, f"{name}.txt: {line}"
