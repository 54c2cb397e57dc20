"""`python -m lm_core check` and `reset`: the exercises from the terminal.

check                what each exercise is like, and what stands in the way of the first that does not pass
check SLUG           judge one file;  --watch: at every save;  --json: for programs
check SLUG --hint    the next rung of the ladder;  --solution: once it is open
reset SLUG           the file as it was handed out; a backup of yours is kept
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from lm_core.judge import messages, progress
from lm_core.judge.process import Worker  # before torch is imported: the student's process imports it meanwhile
from lm_core.judge.verdict import Verdict

POLL_SECONDS = 0.05


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `check` and `reset`."""
    check = verbs.add_parser("check", help="judge your exercises: what is right, and what is not yet, and why")
    check.add_argument("slug", nargs="?", metavar="SLUG", help="such as attend, ex09 or 9; without it, all in order")
    check.add_argument("--file", type=Path, help="judge this file instead of the one in lm_core/exercises")
    check.add_argument("--watch", action="store_true", help="judge again at every save, until Ctrl-C")
    check.add_argument("--hint", action="store_true", help="show the next hint (a question, the idea, the line)")
    check.add_argument("--solution", action="store_true", help="show the solution, once it is open")
    check.add_argument("--json", action="store_true", help="one JSON object a check")
    check.set_defaults(run=run_check)
    reset = verbs.add_parser("reset", help="put an exercise back to how it was handed out; yours is kept as a backup")
    reset.add_argument("slug", metavar="SLUG")
    reset.add_argument("--file", type=Path, help="reset this file instead of the one in lm_core/exercises")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    reset.set_defaults(run=run_reset)
    for verb in (check, reset):
        verb.add_argument("--lang", choices=messages.LANGUAGES, default="en", help="language of the messages")


def run_check(options: argparse.Namespace) -> None:
    """Carry out `check`."""
    if options.slug is None and (options.file or options.hint or options.solution):
        raise ValueError("which exercise? Name it: check SLUG ...")
    worker = Worker(options.watch) if not (options.hint or options.solution) else None
    try:
        from lm_core.judge.catalogue import EXERCISES, find

        paths = {e.slug: _folder() / e.filename for e in EXERCISES}
        if options.slug is not None:
            exercise = find(options.slug)
            paths = {exercise.slug: options.file or paths[exercise.slug]}
        if options.hint or options.solution:
            _climb(exercise.slug, paths[exercise.slug], options)
            return
        if options.watch:
            _watch(paths, options, worker)
        elif options.slug is None:
            _overview(paths, options, worker)
        else:
            passed = _judge(exercise.slug, paths[exercise.slug], options, worker).passed
            sys.exit(0 if passed else 1)
    finally:
        if worker is not None:
            worker.close()


def _folder() -> Path:
    from lm_core.judge.files import FOLDER

    return FOLDER


def _judge(slug: str, path: Path, options: argparse.Namespace, worker: Worker | None) -> Verdict:
    """Check one file, remember the attempt beside it, and say what was found."""
    from lm_core.judge.catalogue import find
    from lm_core.judge.check import check_file

    verdict = check_file(find(slug), path, worker)
    source = path.read_text(encoding="utf-8")
    if verdict.stage != "start":
        known = progress.load(path.parent)
        known[slug] = known.get(slug, progress.Progress()).after_check(source, verdict.passed)
        progress.save(path.parent, known)
    _show(verdict, source, options)
    return verdict


def _show(verdict: Verdict, source: str, options: argparse.Namespace) -> None:
    text = messages.message(verdict, options.lang, source)
    if options.json:
        print(json.dumps(as_json(verdict, text), ensure_ascii=False), flush=True)
        return
    mark = "✓" if verdict.passed else "✗"
    print(f"{mark} {verdict.slug}: {messages.say(f'{verdict.slug}.title', options.lang)}   ({verdict.seconds:.2f} s)")
    print("  " + text.replace("\n", "\n  "))
    if verdict.printed.strip():
        print("  | " + verdict.printed.strip().replace("\n", "\n  | "))
    sys.stdout.flush()


def as_json(verdict: Verdict, text: str) -> dict[str, object]:
    """What programs read of a verdict."""
    return {
        "slug": verdict.slug, "passed": verdict.passed, "stage": verdict.stage, "hint_id": verdict.hint_id,
        "message": text, "expected": verdict.expected, "got": verdict.got, "seconds": verdict.seconds,
        "self_checked": verdict.self_checked,
    }  # fmt: skip


def _overview(paths: dict[str, Path], options: argparse.Namespace, worker: Worker | None) -> None:
    """One line an exercise; those that were changed are judged, and the first that fails is explained."""
    from lm_core.judge.catalogue import find
    from lm_core.judge.check import check_file
    from lm_core.judge.files import stub_text

    explained: Verdict | None = None
    known = progress.load(_folder())
    for slug, path in paths.items():
        exercise = find(slug)
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not source or source == stub_text(exercise):
            state, verdict = (
                "·",
                Verdict(slug, False, "start", "general.bug" if exercise.is_bug_hunt else "general.todo"),
            )
        else:
            verdict = check_file(exercise, path, worker)
            worker = None
            state = "✓" if verdict.passed else "✗"
            known[slug] = known.get(slug, progress.Progress()).after_check(source, verdict.passed)
        if not verdict.passed and (explained is None or (explained.stage == "start" and verdict.stage != "start")):
            explained = verdict
        if options.json:
            _show(verdict, source, options)
        else:
            stars = "*" * exercise.difficulty
            title = messages.say(f"{slug}.title", options.lang)
            print(f"{state} {exercise.number:2d}  {slug:24} {stars:5} {exercise.minutes:3d} min  {title}", flush=True)
    progress.save(_folder(), known)
    if explained is not None and not options.json:
        print()
        _show(explained, paths[explained.slug].read_text(encoding="utf-8"), options)


def _watch(paths: dict[str, Path], options: argparse.Namespace, worker: Worker | None) -> None:
    """Judge what is saved. A process with torch imported is always waiting, so that an answer takes a blink."""
    stamps: dict[str, object] = {}
    if len(paths) > 1:  # all of them: wait for a save
        stamps = {slug: _stamp(path) for slug, path in paths.items()}
        print(f"watching {len(paths)} files in {_folder().name}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
    spare = worker
    try:
        while True:
            for slug, path in paths.items():
                stamp = _stamp(path)
                if stamp is not None and stamp != stamps.get(slug):
                    stamps[slug] = stamp
                    ready, spare = spare or Worker(), None
                    try:
                        _judge(slug, path, options, ready)
                    except (OSError, ValueError) as error:  # an editor that is just writing
                        print(f"{path.name}: {error}", file=sys.stderr)
                    spare = Worker(thorough=True)
            time.sleep(POLL_SECONDS)
    finally:
        if spare is not None:
            spare.close()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _climb(slug: str, path: Path, options: argparse.Namespace) -> None:
    """Show the hints opened so far and one more, or the solution, as far as the ladder allows."""
    from lm_core.judge.catalogue import find
    from lm_core.judge.files import solution_text

    exercise, known = find(slug), progress.load(path.parent)
    mine = known.get(slug, progress.Progress())
    if options.solution:
        print(solution_text(exercise) if mine.solution_open else messages.say("ladder.solution_locked", options.lang))
        return
    note = "ladder.none_left" if mine.hints == progress.N_HINTS else "ladder.locked"
    if mine.next_hint_open:
        mine, note = mine.after_hint(), ""
        progress.save(path.parent, known | {slug: mine})
    for rung in range(1, mine.hints + 1):
        print(f"{rung}. {messages.hint(slug, rung, exercise.line, options.lang)}")
    if note:
        print(messages.say(note, options.lang))


def run_reset(options: argparse.Namespace) -> None:
    """Put the file back, after asking; what stood there is kept beside it."""
    from lm_core.judge.catalogue import find
    from lm_core.judge.files import stub_text

    exercise = find(options.slug)
    path = options.file or _folder() / exercise.filename
    if path.is_file() and path.read_text(encoding="utf-8") == stub_text(exercise):
        print(f"{path.name} is as it was handed out")
        return
    if not options.yes and input(f"put {path.name} back to how it was handed out? [y/N] ").strip().lower() != "y":
        print("nothing was changed")
        return
    if path.is_file():
        backup = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
        shutil.copy2(path, backup)
        print(f"yours is kept as {backup.name}")
    path.write_text(stub_text(exercise), encoding="utf-8")
    known = progress.load(path.parent)
    if exercise.slug in known:  # the hints seen stay seen
        progress.save(path.parent, known | {exercise.slug: replace(known[exercise.slug], passed=False)})
    print(f"{path.name} is as it was handed out")
