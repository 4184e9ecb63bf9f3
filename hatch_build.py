"""What a wheel holds beside the package: the experiments, as ``transformer_jax/experiments``."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExperimentsHook(BuildHookInterface):
    """Puts the files of ``experiments`` into the package; an editable installation reads them where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files and their places."""
        if version == "editable":
            return
        for path in sorted(Path(self.root, "experiments").glob("*.py")):
            build_data["force_include"][str(path)] = f"transformer_jax/experiments/{path.name}"
