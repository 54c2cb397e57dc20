"""The command line: `python -m lm_core VERB`; `--help` lists the verbs, from `trace` to `check`."""

import argparse
import io
import sys

from lm_core import cli_check

EXERCISE_VERBS = ("check", "reset")


def build_parser(exercises_only: bool = False) -> argparse.ArgumentParser:
    """Every verb, each with the function that carries it out in `run`.

    The exercises are registered alone when one of their verbs is called: the other verbs import torch, a second that
    the judge uses better, by starting the student's process meanwhile.
    """
    parser = argparse.ArgumentParser(prog="python -m lm_core", description="A language model, from the inside.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    cli_check.add_verbs(verbs)
    if exercises_only:
        return parser
    from lm_core import cli_evaluate, cli_finetune, cli_import, cli_model, cli_pretrain

    cli_model.add_verbs(verbs)
    cli_pretrain.add_verbs(verbs)
    cli_finetune.add_verbs(verbs)
    cli_evaluate.add_verbs(verbs)
    cli_import.add_verbs(verbs)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0 when it worked, 2 with a sentence on stderr when the input was bad."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a Windows console without 猫 must not end the program
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if arguments is None else arguments
    options = build_parser(words[:1] != [] and words[0] in EXERCISE_VERBS).parse_args(words)
    try:
        options.run(options)
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"lm_core {options.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on (finetune: with --resume)", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
