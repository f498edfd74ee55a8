"""The pictures of docs/page/: each view, light and dark, English and Chinese, at a fixed moment over fixed data.

Made anew by ``pytest -m slow tests/web/test_pictures.py`` into the folder that PICTURES names.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from tests.web.site import VIEWS

NAMES = ("jobs", "job", "executions", "execution", "timeline")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_pictures(visitor, failed, tmp_path, scheme, lang):
    image = pytest.importorskip("PIL.Image")
    folder = Path(os.environ.get("PICTURES", tmp_path))
    page = visitor.open("/", color_scheme=scheme, locale="zh-CN" if lang == "zh" else "en-GB")
    for name, view in zip(NAMES, VIEWS, strict=True):
        page.goto(visitor.url + view.format(failed=failed))
        whole = image.open(BytesIO(page.screenshot())).convert("RGB")
        path = folder / f"{name}-{scheme}-{lang}.png"
        whole.quantize(200, dither=image.Dither.NONE).save(path, optimize=True)  # a third of the size, no visible loss
        assert path.stat().st_size <= 100_000
