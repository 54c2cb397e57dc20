"""The command line: `python -m lm_core trace | score | generate | pretrain | evaluate | import-smollm2`.

Each verb has its `--help`.
"""

import argparse
import io
import sys

from lm_core import cli_evaluate, cli_import, cli_model, cli_pretrain


def build_parser() -> argparse.ArgumentParser:
    """Every verb, each with the function that carries it out in `run`."""
    parser = argparse.ArgumentParser(prog="python -m lm_core", description="A language model, from the inside.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    cli_model.add_verbs(verbs)
    cli_pretrain.add_verbs(verbs)
    cli_evaluate.add_verbs(verbs)
    cli_import.add_verbs(verbs)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0 when it worked, 2 with a sentence on stderr when the input was bad."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a Windows console without 猫 must not end the program
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"lm_core {options.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
