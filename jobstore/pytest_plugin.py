"""Stores for tests: a pytest plugin that is there once the package is installed.

Nothing of jobstore is imported until a test asks for one of the fixtures.
"""

from __future__ import annotations
