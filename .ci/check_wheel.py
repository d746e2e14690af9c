"""Builds the wheel and tries it as a user would: in a clean environment, without extras."""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "osprotocol"

IMPORTS_CORE_ONLY = """
import sys
import osprotocol
extras = {"typer", "rich", "fastapi", "starlette", "uvicorn", "jinja2", "httpx2", "restate"} & set(sys.modules)
assert not extras, f"import osprotocol also imported {extras}"
missing = [name for name in osprotocol.__all__ if not hasattr(osprotocol, name)]
assert not missing, f"osprotocol.__all__ names what is not there: {missing}"
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        wheel = build_wheel(scratch / "dist")
        check_contents(wheel)
        bin_dir = install(wheel, scratch / "venv")
        check_import(bin_dir, scratch)
        check_command_without_extra(bin_dir, scratch)
    print(f"{wheel.name}: installs, imports and explains itself without extras")


def build_wheel(target: Path) -> Path:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT))
    (wheel,) = target.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"osprotocol/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    if missing := sorted(wanted - packed):
        sys.exit(f"the wheel lacks {missing}")
    if "osprotocol/py.typed" not in packed:
        sys.exit("the wheel lacks osprotocol/py.typed")


def install(wheel: Path, target: Path) -> Path:
    venv.create(target, with_pip=True)
    bin_dir = target / "bin"
    pip = (str(bin_dir / "python"), "-m", "pip", "-qq", "--disable-pip-version-check")
    run(*pip, "install", "-c", str(ROOT / "constraints.txt"), str(wheel))
    return bin_dir


def check_import(bin_dir: Path, cwd: Path) -> None:
    run(str(bin_dir / "python"), "-c", IMPORTS_CORE_ONLY, cwd=cwd)


def check_command_without_extra(bin_dir: Path, cwd: Path) -> None:
    """`osp` without its extra says in one line what to install, and fails."""
    command = [bin_dir / "osp", "list"]
    answer = subprocess.run(command, cwd=cwd, env=clean_env(), capture_output=True, text=True)
    said = (answer.stdout + answer.stderr).strip()
    if answer.returncode == 0 or "osprotocol[cli]" not in said or len(said.splitlines()) != 1:
        sys.exit(f"osp without typer: exit code {answer.returncode}, said:\n{said}")


def run(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")


def clean_env() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OSP_"))}


if __name__ == "__main__":
    main()
