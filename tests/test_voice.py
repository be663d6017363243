"""What is shown, to the character: bars that go away, lines that stay, and how to be rid of both."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import topwork as tw
from topwork._screen import Screen
from topwork._voice import progress, say

# Trained and validated on one small set of images; test_shared_images.py looks at what is said of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*training data (too|itself)")

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (100, 8, 8, 3)).astype("float32")
CLASSES = np.arange(100) % 2
HELD_OUT = (IMAGES[:40], CLASSES[:40])
LOGGER = logging.getLogger("topwork")


@pytest.fixture
def model() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    frozen = layers.Conv2D(4, 3, trainable=False, name="frozen")(inputs)
    output = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(frozen))
    model = keras.Model(inputs, output)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Takes the lines in place of the printer."""
    taken: list[str] = []

    class Taker(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            taken.append(f"{record.levelname} {record.getMessage()}")

    handler = Taker()
    LOGGER.addHandler(handler)
    yield taken
    LOGGER.removeHandler(handler)


@contextlib.contextmanager
def terminal() -> Iterator[io.StringIO]:
    """Standard output is a terminal inside."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with contextlib.redirect_stdout(Terminal()) as stream:
        yield stream


def on_screen(text: str) -> list[str]:
    """What a terminal shows after these characters, without colours."""
    screen = Screen(lambda *_, **__: None)
    screen.write(text)
    screen._before = ""
    shown = [*screen._lines, screen._line]
    return [line for line in (re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in shown) if line]


def fit(model: keras.Model, **options: Any) -> keras.callbacks.History:
    return tw.fit(model, IMAGES, CLASSES, validation_data=HELD_OUT, **options)


class TestProgress:
    def test_verbose_1_moves_a_bar_of_keras_and_takes_it_away(
        self, model: keras.Model, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tw.features(model, IMAGES, verbose=1)
        printed = capsys.readouterr().out
        states = [re.sub(r"\x1b\[\d*m|\x1b\[K", "", part) for part in printed.split("\r")]
        bars = [part for part in states if "━" in part]
        assert bars[0].startswith("1/4 ━━━━━━━━━━━━━━━━━━━━ ")  # twenty wide, Keras' default
        assert bars[-1].startswith("4/4 ")
        # Keras blanks what a longer line before has left: how long each is depends on the clock.
        assert all(part.rstrip(" \b").endswith(" - data") for part in bars)
        assert len(on_screen(printed)) == 1
        assert on_screen(printed)[0].startswith("topwork: frozen part run once over 100 images in ")

    def test_verbose_2_is_one_line(self, model: keras.Model, capsys: pytest.CaptureFixture[str]) -> None:
        tw.features(model, IMAGES, verbose=2)
        printed = capsys.readouterr().out
        assert re.fullmatch(r"topwork: frozen part run once over 100 images in [^\n\r\b\x1b]*\n", printed)

    def test_auto_is_still_where_nobody_looks(
        self, model: keras.Model, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fit(model, epochs=2)
        printed = capsys.readouterr().out
        assert not re.search(r"[\r\b\x1b]", printed)
        assert len(re.findall("Epoch", printed)) == 2

    def test_auto_moves_on_a_terminal(self, model: keras.Model) -> None:
        with terminal() as stream:
            fit(model, epochs=2)
        assert "━" in stream.getvalue()
        shown = on_screen(stream.getvalue())
        assert [line.split(" in ")[0] for line in shown[:1]] == [
            "topwork: frozen part run once over 100 + 40 images"
        ]
        assert len(shown) == 3  # the pass, and each epoch with its heading

    @pytest.mark.parametrize("batches", [3, 7])
    def test_totals_are_never_exceeded(self, batches: int) -> None:
        with terminal() as stream, progress("data", 3, "batch", 1) as count:
            for _ in range(batches):
                count()
        text = re.sub(r"\x1b\[\d*m", "", stream.getvalue())
        pairs = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)/(\d+)", text)]
        assert pairs
        assert all(done <= total for done, total in pairs)

    def test_an_unknown_total(self) -> None:
        with terminal() as stream, progress("data", None, "batch", 1) as count:
            count()
        assert "1/Unknown" in stream.getvalue()
        assert on_screen(stream.getvalue()) == []

    def test_a_bar_is_gone_after_an_error_too(self) -> None:
        with (
            contextlib.suppress(RuntimeError),
            terminal() as stream,
            progress("data", 3, "batch", 1) as count,
        ):
            count()
            raise RuntimeError
        assert "1/3" in stream.getvalue()
        assert on_screen(stream.getvalue()) == []

    @pytest.mark.parametrize("verbose", [3, "loud", None])
    def test_a_verbose_that_says_nothing(self, model: keras.Model, verbose: Any) -> None:
        message = r"verbose must be 0 \(silent\), .* Received: "
        with pytest.raises(ValueError, match=f"^fit: {message}{verbose!r}"):
            fit(model, verbose=verbose)
        with pytest.raises(ValueError, match=f"^features: {message}"):
            tw.features(model, IMAGES, verbose=verbose)


class TestSilence:
    def test_verbose_0(self, model: keras.Model, capsys: pytest.CaptureFixture[str], lines: Any) -> None:
        callbacks = [tw.callbacks.KeepBest(), tw.callbacks.StopAt(0.0)]
        fit(model, epochs=2, verbose=0, callbacks=callbacks)
        tw.fit_head(model, IMAGES, CLASSES, verbose=0)
        assert capsys.readouterr() == ("", "")
        assert lines == []

    def test_a_level(self, model: keras.Model, capsys: pytest.CaptureFixture[str]) -> None:
        LOGGER.setLevel(logging.WARNING)
        try:
            tw.fit_head(model, IMAGES, CLASSES)
        finally:
            LOGGER.setLevel(logging.INFO)
        assert capsys.readouterr().out == ""

    def test_keras_own_switch(self, model: keras.Model, capsys: pytest.CaptureFixture[str]) -> None:
        keras.config.disable_interactive_logging()
        try:
            fit(model, verbose=1)
            tw.compare_cuts(model, (IMAGES, CLASSES), HELD_OUT, cut_layers=["frozen"], verbose=1)
        finally:
            keras.config.enable_interactive_logging()
        assert capsys.readouterr().out == ""


class TestLines:
    def test_by_default_they_are_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        say("it is done")
        assert capsys.readouterr() == ("topwork: it is done\n", "")

    def test_a_handler_takes_them(
        self, model: keras.Model, lines: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        tw.fit_head(model, IMAGES, CLASSES)
        assert [line[:20] for line in lines] == ["INFO frozen part run", "INFO head solved in "]
        assert capsys.readouterr().out == ""

    def test_they_go_where_all_messages_go(
        self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        LOGGER.propagate = True
        try:
            say("it is done")
        finally:
            LOGGER.propagate = False
        assert "it is done" in caplog.messages
        assert capsys.readouterr().out == ""

    def test_a_level_set_before_the_import_stays(self) -> None:
        code = (
            "import logging; logging.getLogger('topwork').setLevel('ERROR'); import topwork; "
            "print(logging.getLogger('topwork').level)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout == "40\n"

    def test_one_file_of_the_package_prints(self) -> None:
        found = [
            path.name
            for path in Path(tw.__file__).parent.rglob("*.py")
            if re.search(r"(?<!>>> )(?<!\.\.\.     )\bprint\(", path.read_text("utf-8"))
        ]
        assert found == ["_voice.py"]


class Page:
    """A notebook's page, which keeps the last state of each output."""

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.changes = 0

    def display(self, data: dict[str, str], **_: Any) -> Any:
        self.outputs.append(data["text/plain"])
        number, page = len(self.outputs) - 1, self

        class Handle:
            def update(self, data: dict[str, str], **_: Any) -> None:
                page.outputs[number] = data["text/plain"]
                page.changes += 1

        return Handle()


class TestNotebook:
    def written(self, *texts: str) -> list[str]:
        page = Page()
        screen = Screen(page.display)
        for text in texts:
            screen.write(text)
        screen.show()
        return page.outputs

    def test_control_characters_are_obeyed(self) -> None:
        assert self.written("1/2", "\b\b\b\r2/2 done\n", "next\n") == ["2/2 done\nnext"]
        assert self.written("abc\b\bx") == ["ax"]
        assert self.written("gone\r\x1b[K", "here\n") == ["here"]
        assert self.written("kept\r\n") == ["kept"]
        assert self.written("") == []

    def test_the_heading_of_an_epoch_goes_before_its_bar(self) -> None:
        assert self.written("Epoch 1/2\n", "1/9\r9/9\n", "Epoch 2/2\n", "1/9") == [
            "Epoch 1/2  9/9\nEpoch 2/2  1/9"
        ]

    def test_long_texts_are_begun_anew(self) -> None:
        page = Page()
        screen = Screen(page.display)
        for number in range(250):
            screen.write(f"line {number}\n")
        screen.show()
        assert "\n".join(page.outputs).split("\n") == [f"line {number}" for number in range(250)]
        assert len(page.outputs) == 3

    def test_a_page_is_not_changed_for_each_character(self) -> None:
        page = Page()
        screen = Screen(page.display)
        for number in range(2000):
            screen.write(f"\r{number}")
        screen.show()
        assert page.outputs == ["1999"]
        assert page.changes < 200

    @pytest.mark.thorough
    def test_a_saved_notebook_has_a_line_for_the_pass_and_for_each_epoch(self) -> None:
        nbformat = pytest.importorskip("nbformat")
        nbclient = pytest.importorskip("nbclient")
        pytest.importorskip("ipykernel")
        cell = (
            "import numpy as np, keras, topwork as tw\n"
            "inputs = keras.Input((8, 8, 3))\n"
            "frozen = keras.layers.Conv2D(4, 3, trainable=False)(inputs)\n"
            "output = keras.layers.Dense(2, 'softmax')(keras.layers.GlobalAveragePooling2D()(frozen))\n"
            "model = keras.Model(inputs, output)\n"
            "model.compile('sgd', 'sparse_categorical_crossentropy', metrics=['accuracy'])\n"
            "x, y = np.random.uniform(0, 255, (200, 8, 8, 3)), np.arange(200) % 2\n"
            "_ = tw.fit(model, x, y, validation_data=(x, y), batch_size=4, epochs=3)"
        )
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
        nbclient.NotebookClient(notebook, kernel_name="python3").execute()
        outputs = [o for o in notebook.cells[0].outputs if o.get("name") != "stderr"]
        (text,) = (output["data"]["text/plain"] for output in outputs)
        lines = re.sub(r"\x1b\[\d*m", "", text).split("\n")
        assert not re.search(r"[\r\b]", text)
        assert lines[0].startswith("topwork: frozen part run once over 200 + 200 images")
        assert [line[:16] for line in lines[1:]] == [f"Epoch {n}/3  50/50" for n in (1, 2, 3)]
        assert all("val_accuracy: " in line for line in lines[1:])


@pytest.mark.parametrize(
    ("kernel", "module", "expected"), [(None, "", False), (1, "", True), (1, "spyder_kernels", False)]
)
def test_what_counts_as_a_notebook(
    kernel: Any, module: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    from topwork._screen import is_notebook

    shell = types.SimpleNamespace(kernel=kernel)
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display = types.ModuleType("IPython.display")
    display.display = print  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    if module:
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    assert is_notebook() is expected


def test_screens_do_not_nest(capsys: pytest.CaptureFixture[str]) -> None:
    from topwork._screen import one_output

    with contextlib.redirect_stdout(Screen(Page().display)):
        outer = sys.stdout
        with one_output():
            assert sys.stdout is outer
