"""Without KerasHub: it is asked for only where one of its networks is."""

from __future__ import annotations

import subprocess
import sys

import pytest

import topwork as tw


def test_message_without_keras_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r'is a network of KerasHub, .*pip install "topwork\[hub\]"'):
        tw.load_backbone("hub:vit_base_patch16_224_imagenet")


@pytest.mark.thorough
def test_keras_hub_is_not_imported_unless_asked_for():
    code = (
        "import sys, topwork as tw; tw.load_backbone('mobilenet', weights=None, input_shape=(32, 32, 3))"
    )
    check = "; sys.exit('keras_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code + check], check=False).returncode == 0
