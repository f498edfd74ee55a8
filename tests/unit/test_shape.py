"""The shape of the package: no function is longer than fifty lines, its documentation included."""

from __future__ import annotations

import ast
from pathlib import Path

import jobstore

MOST_LINES = 50


def test_no_function_is_longer_than_fifty_lines():
    long = [
        f"{path.name}: {node.name} has {lines} lines"
        for path in Path(jobstore.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES
    ]
    assert long == []
