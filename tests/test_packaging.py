"""The project as its users get it: the wheel, the version, the two make targets, what an import costs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import hybridvit
from hybridvit import zoo_path as zoo_path_module
from hybridvit.zoo_path import zoo_path

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str, cwd: Path) -> str:
    """What `code` prints in a fresh interpreter that imports hybridvit from `cwd`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """make in the checkout, not told what an outer `make test` was told."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_the_zoo_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    in_zoo = {
        f"hybridvit/zoo/{file.relative_to(ROOT / 'zoo')}"
        for file in (ROOT / "zoo").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert in_zoo
    assert in_zoo <= names
    assert "hybridvit/py.typed" in names
    assert "hybridvit/transfer/pages/report.html.j2" in names
    assert {name.split("/")[0] for name in names} == {"hybridvit", f"hybridvit-{hybridvit.__version__}.dist-info"}


def test_an_installed_package_finds_its_own_zoo(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    found = run_python("from hybridvit.zoo_path import zoo_path; print(zoo_path())", cwd=tmp_path)
    assert Path(found) == (tmp_path / "hybridvit" / "zoo").resolve()


def test_a_checkout_finds_the_zoo_beside_the_package() -> None:
    assert zoo_path() == ROOT / "zoo"


def test_a_missing_zoo_is_an_error_that_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_path_module, "__file__", str(tmp_path / "hybridvit" / "zoo_path.py"))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "hybridvit" / "zoo"))):
        zoo_path()


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert hybridvit.__version__ == project["version"] == newest[1]


@pytest.mark.parametrize("module", ["hybridvit", "hybridvit.zoo_path"])
def test_an_import_pulls_in_no_extra(module: str) -> None:
    extras = "{'torchvision', 'timm', 'accelerate', 'torchmetrics', 'matplotlib', 'transformers', 'gradio', 'jinja2'}"
    assert run_python(f"import sys, {module}; print(sorted({extras} & set(sys.modules)))", cwd=ROOT) == "[]"


def test_finding_the_zoo_imports_no_torch() -> None:
    assert run_python("import sys, hybridvit.zoo_path; print('torch' in sys.modules)", cwd=ROOT) == "False"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMakefile:
    @pytest.mark.parametrize(("target", "command"), [("demo", "bin/hybridvit demo"), ("test", "bin/python -m pytest")])
    def test_one_command_makes_the_environment_installs_and_runs(
        self, target: str, command: str, tmp_path: Path
    ) -> None:
        steps = run_make("--dry-run", target, f"VENV={tmp_path / 'venv'}").stdout
        positions = [steps.find(step) for step in (f"-m venv {tmp_path}", f"--editable '.[{target}]'", command)]
        assert -1 not in positions
        assert positions == sorted(positions)

    def test_an_old_python_is_refused_by_name(self, tmp_path: Path) -> None:
        old = tmp_path / "python3"
        old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
        old.chmod(0o755)
        done = run_make("demo", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")
        assert done.returncode != 0
        assert "Python >= 3.11" in done.stderr
        assert "Python 3.9.1" in done.stderr
        assert not (tmp_path / "venv").exists()
