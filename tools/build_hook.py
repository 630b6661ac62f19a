"""What hatch asks when it builds l4lb: compiled eBPF programs and manual pages come into the wheel."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build_bpf  # hatch runs this file alone
import build_man

_MAN = "share/man/man1"


class WheelBuildHook(BuildHookInterface[Any]):
    """Builds what a wheel has beside the files of the repository."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds, and names what git ignores as part of the wheel."""
        try:
            build_bpf.build()
        except build_bpf.CannotCompileError as error:
            self.app.display_warning(build_bpf.raw_only(error))
        objects = map(build_bpf.object_of, build_bpf.FOLDER.glob("*.c"))
        build_data["artifacts"] += [f"/{o.relative_to(build_bpf.ROOT)}" for o in objects if o.exists()]
        self._pages = tempfile.TemporaryDirectory(prefix="l4lb-man-")
        try:
            written = build_man.write(Path(self._pages.name), self.metadata.version)
        except ImportError as error:
            self.app.display_warning(f"no manual pages: {error}")
        else:
            build_data["shared_data"] |= {str(page): f"{_MAN}/{page.name}" for page in written}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is there."""
        self._pages.cleanup()
