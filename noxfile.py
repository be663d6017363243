"""What is run on topwork: `nox -l` lists it, `nox -s tests` runs the tests.

Each session makes its own environment and installs all that it needs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "typing", "docs", "tests"]
nox.options.reuse_venv = "yes"  # TensorFlow is too large to install for every run
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
OLDEST = ["tensorflow==2.18.0", "keras==3.10.0", "numpy==1.26.4", "matplotlib==3.8.4"]
OLDEST += ["pyparsing<3.2"]  # newer ones warn of what matplotlib 3.8 calls
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}
# Several processes of one thread each: the tests' networks are too small for more threads to help.
PYTEST = ("pytest", "-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
ONE_THREAD = QUIET | {"TF_NUM_INTRAOP_THREADS": "1"}


def group(*names: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, *names)


@nox.session
def quick(session: nox.Session) -> None:
    """The tests that a developer runs all the time."""
    session.install("-e", ".", *group("test", "examples"))
    session.run(*PYTEST, "-m", "not slow and not thorough", *session.posargs, env=ONE_THREAD)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the slow ones, on this Python with the newest dependencies."""
    session.install("-e", ".", *group("test", "examples"))
    session.run(*PYTEST, "-m", "not slow", *session.posargs, env=ONE_THREAD)


@nox.session
def tests_full(session: nox.Session) -> None:
    """All tests, the slow ones too."""
    session.install("-e", ".", *group("test", "examples"))
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)


@nox.session(python="3.10")
def tests_oldest(session: nox.Session) -> None:
    """The tests but the slow ones on the lowest versions that pyproject.toml admits."""
    session.install("-e", ".", *OLDEST, *group("test", "examples"))
    session.run(*PYTEST, "-m", "not slow", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHONS)
def tests_newest(session: nox.Session) -> None:
    """The tests but the slow ones on each supported Python that this machine has."""
    session.install("--upgrade", "-e", ".", *group("test", "examples"))
    session.run(*PYTEST, "-m", "not slow", *session.posargs, env=ONE_THREAD)


@nox.session
def wheel(session: nox.Session) -> None:
    """The tests but the slow ones on the built wheel, away from the source tree."""
    away = Path(session.create_tmp()).resolve()  # relative to where nox was started
    shutil.rmtree(away / "dist", ignore_errors=True)
    shutil.rmtree(away / "tests", ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(away / "dist"))  # the wheel from the sdist
    (built,) = (away / "dist").glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(str(built), *group("test"))
    shutil.copytree(ROOT / "tests", away / "tests")
    config = ("--rootdir", str(away), "-c", str(ROOT / "pyproject.toml"))
    with session.chdir(away):
        session.run(*PYTEST, *config, "-m", "not slow", *session.posargs, "tests", env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes, with ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Types of the source, and of what a user writes with the built wheel: mypy --strict, pyright."""
    session.install(*group("typing"), "numpy", "typing-extensions")
    session.run("mypy", *session.posargs)
    away = Path(session.create_tmp())
    shutil.rmtree(away / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(away / "dist"))
    (built,) = (away / "dist").glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(built))  # checkers need Keras, not TensorFlow
    shutil.copytree(ROOT / "tests" / "typing", away / "user", dirs_exist_ok=True)
    with session.chdir(away / "user"):
        untyped = ("--config-file=", "--disable-error-code=import-untyped")  # Keras ships no types
        session.run("mypy", "--strict", *untyped, "downstream.py")
        session.run("pyright")  # as pyrightconfig.json there says


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, into docs/_build/html; a warning is an error."""
    session.install("-e", ".[plots]", *group("docs"))  # the tutorial is run
    session.run("sphinx-build", "-W", "--keep-going", "-E", "docs", "docs/_build/html")


@nox.session
def quickstart(session: nox.Session) -> None:
    """The README's quickstart: a network pretrained on printed letters, grafted to read digits."""
    session.install(".[plots]", "pillow", "scikit-learn")
    session.run("python", "examples/quickstart.py", *session.posargs, env=QUIET)


@nox.session
def export(session: nox.Session) -> None:
    """Every way out of docs/export.md, on real photographs where there are some."""
    session.install("-e", ".", *group("test", "export"))
    session.run("pytest", "tests/test_export.py", *session.posargs, env=QUIET)


@nox.session
def hub(session: nox.Session) -> None:
    """The networks of KerasHub, which is an extra: small random ones of each family."""
    session.install("-e", ".[hub]", *group("test", "export"))
    session.run(*PYTEST, "tests/test_keras_hub.py", *session.posargs, env=ONE_THREAD)


@nox.session
def cluster(session: nox.Session) -> None:
    """The example that computes features on several workers, run with two."""
    session.install("-e", ".", *group("test", "examples"))
    session.run("pytest", "tests/test_cluster.py", *session.posargs, env=QUIET)
