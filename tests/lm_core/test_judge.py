"""The judge itself: what cannot fool it, what it says, the ladder of hints, and the command line."""

from __future__ import annotations

import io
import json
import string
from pathlib import Path

import pytest

from lm_core.__main__ import main
from lm_core.judge import messages, progress
from lm_core.judge.catalogue import EXERCISES, find
from lm_core.judge.check import check_text
from lm_core.judge.files import FOLDER, mutant_text, solution_text, stub_text
from lm_core.judge.process import Worker
from lm_core.judge.verdict import STAGES
from tests.lm_core.judge_proof import judge_all

SOFTMAX, ATTEND, LAYER_NORM = find("softmax"), find("attend"), find("layer_norm")
TODO = '    raise NotImplementedError("TODO")\n'


def written(slug: str, body: str, before: str = "") -> str:
    """A student's file: the stub with `body` for its TODO, and `before` on top of the function."""
    text = stub_text(find(slug))
    assert text.count(TODO) == 1
    return text.replace(TODO, body).replace("\ndef ", f"\n{before}\n\ndef ", 1)


# --- what cannot fool it ----------------------------------------------------------------------------------------------


def test_patching_torch_in_the_students_process_does_not_pass() -> None:
    before = (
        "import sys\n"
        "torch.allclose = torch.equal = lambda *a, **k: True\n"
        "Tensor.__eq__ = Tensor.__ne__ = lambda *a: True\n"
        "torch.softmax = lambda x, dim: x\n"
        "main = sys.modules['__main__']\n"
        "for name in ('grade', 'check', 'difference'):\n    setattr(main, name, lambda *a, **k: True)\n"
    )
    verdict = check_text(SOFTMAX, written("softmax", "    print('passed')\n    return logits * 0\n", before))
    assert not verdict.passed and verdict.stage == "values"
    assert "passed" in verdict.printed


def test_a_forged_answer_file_does_not_pass() -> None:
    """The student writes the result itself and leaves: it holds values, and they are wrong."""
    body = (
        "    import json, os\n"
        "    from safetensors.torch import save_file\n"
        "    save_file({'0': torch.ones(2, 5, 7)}, 'result.safetensors')\n"
        "    rows = [{'value': {'tensor': 0}, 'after': None, 'grads': None, 'seconds': 0.0, 'passed': True}] * 22\n"
        "    open('result.json', 'w').write(json.dumps({'students': [rows], 'reached': [], 'passed': True}))\n"
        "    os._exit(0)\n"
    )
    assert not check_text(SOFTMAX, written("softmax", body)).passed


def test_nothing_to_read_and_nothing_to_import() -> None:
    """The student's process holds inputs only, and lm_core is not on its path."""
    body = (
        "    import json, os\n    call = json.load(open('job.json'))['students'][0]['calls'][0]\n"
        "    print(sorted(os.listdir('.')), sorted(call))\n"
        "    print(sorted(name for name in os.environ if 'LM' in name or 'PYTHONPATH' in name))\n"
        "    from lm_core.probability import softmax\n    return softmax(logits)\n"
    )
    verdict = check_text(SOFTMAX, written("softmax", body))
    assert (verdict.stage, verdict.hint_id) == ("import", "general.import_reference")
    files, keys = "errors.txt job.json job.safetensors printed.txt student.py", "args cotangents device function kwargs"
    assert verdict.printed.startswith(f"{files.split()} {keys.split()}\n[]\n")


def test_reaching_the_reference_is_told() -> None:
    """On a laptop the clone lies beside: the answer is right, and the pass says what it is worth."""
    root = str(FOLDER.parents[1])
    before = f"import sys\nsys.path.insert(0, {root!r})\nfrom lm_core.probability import softmax as theirs\n"
    verdict = check_text(SOFTMAX, written("softmax", "    return theirs(logits)\n", before))
    assert verdict.passed and verdict.self_checked
    assert "Self-checked" in messages.message(verdict, "en") and "自查" in messages.message(verdict, "zh")


def test_an_endless_loop_is_ended_and_its_line_told() -> None:
    text = written("softmax", "    while True:\n        pass\n")
    job = {"source": text, "calls": [{"function": "softmax", "args": {"tuple": [1.0]}, "kwargs": {"dict": []}}]}
    job["calls"][0] |= {"device": False, "cotangents": None}
    worker = Worker()
    outcome = worker.run([job], [], limit=1)
    assert outcome.failure == "time"
    assert text.splitlines()[(outcome.line or 0) - 1].strip() in ("while True:", "pass")
    assert worker.process.poll() is not None and not worker.folder.exists()


# --- what it says -----------------------------------------------------------------------------------------------------


def test_each_kind_of_mistake_is_told_apart() -> None:
    norm = "    x = x - x.mean(-1, keepdim=True)\n    x = x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)\n"
    finish = "    return x * weight if bias is None else x * weight + bias\n"
    softmax = "    e = torch.exp(logits - logits.amax(-1, keepdim=True))\n    return e / e.sum(-1, keepdim=True)\n"
    mask = (
        "    n_keys = n_queries if n_keys is None else n_keys\n"
        "    if n_keys < n_queries:\n        raise ValueError('too few')\n"
        "    return torch.ones(n_queries, n_keys).tril(n_keys - n_queries).bool()\n"
    )
    students = {
        ("in_place", "general.in_place"): ("layer_norm", "    x -= x.mean(-1, keepdim=True)\n" + norm + finish),
        ("gradient", "general.no_gradient"): ("softmax", "    logits = logits.detach()\n" + softmax),
        ("dtype", "general.wrong_dtype"): ("softmax", softmax.replace("return e /", "return e.double() /")),
        ("float64", "general.dtype_kept"): ("softmax", "    logits = logits.float()\n" + softmax),
        ("shape", "scaled_scores.keys_by_queries"): ("scaled_scores", ""),
        ("run", None): ("softmax", "    return logits @ logits\n"),
        ("type", "general.no_return"): ("softmax", "    logits.exp()\n"),
        ("values", "property.sums_to_one"): ("softmax", "    return torch.sigmoid(logits)\n"),
        ("device", "general.device"): ("causal_mask", mask),
    }  # fmt: skip
    texts = []
    for slug, body in students.values():
        exercise = find(slug)
        mutants = {mutant.name: mutant for mutant in exercise.mutants}
        texts.append((exercise, written(slug, body) if body else mutant_text(exercise, mutants["keys_by_queries"])))
    found = judge_all(texts)
    assert [(verdict.stage, verdict.hint_id) for verdict in found] == list(students)
    run = found[5]
    assert messages.help_id(run) == "matmul" and run.line is not None
    assert "logits @ logits" in messages.message(run, "en", texts[5][1])
    assert found[4].expected == "[B 2, H 3, Tq 5, Tk 7]"


def test_two_mistakes_at_once_are_named_by_the_first() -> None:
    """No √d AND a mask after the softmax: the first intermediate to differ decides."""
    mutants = {mutant.name: mutant for mutant in ATTEND.mutants}
    (old, new), *_ = mutants["no_scale"].edits
    text = mutant_text(ATTEND, mutants["mask_after_softmax"]).replace(old, new)
    (verdict,) = judge_all([(ATTEND, text)])
    assert verdict.hint_id == "attend.no_scale" and verdict.agreed == ("q", "k", "v", "scores")


def test_a_python_loop_is_right_but_slow() -> None:
    body = (
        "    rows = []\n    for row in logits.reshape(-1, logits.shape[-1]):\n"
        "        e = [torch.exp(x - row.max()) for x in row]\n        total = sum(e)\n"
        "        rows.append(torch.stack([x / total for x in e]))\n"
        "    return torch.stack(rows).reshape(logits.shape)\n"
    )
    (verdict,) = judge_all([(SOFTMAX, written("softmax", body))])
    assert verdict.passed and verdict.slow is not None and verdict.slow > 100


# --- texts ------------------------------------------------------------------------------------------------------------


def _leaves(table: object, path: str = "") -> dict[str, str]:
    if isinstance(table, dict):
        return {key: text for name, item in table.items() for key, text in _leaves(item, f"{path}.{name}").items()}
    return {path[1:]: str(table)}


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_both_languages_say_the_same_things() -> None:
    english, chinese = (_leaves(messages.texts(language)) for language in messages.LANGUAGES)
    assert english.keys() == chinese.keys()
    for key in english:
        assert english[key].strip() and chinese[key].strip(), key
        if key.split(".")[0] in ("stage", "part", "ladder", "general"):
            fields = [
                {name for _, name, _, _ in string.Formatter().parse(t) if name} for t in (english[key], chinese[key])
            ]
            assert fields[0] == fields[1], key
        assert any("一" <= character <= "鿿" for character in chinese[key]), key


def test_every_mistake_property_stage_and_error_has_words() -> None:
    for exercise in EXERCISES:
        for mutant in exercise.mutants:
            assert messages.hint_text(f"{exercise.slug}.{mutant.name}", "en")
        for check in exercise.properties:
            assert messages.hint_text(f"property.{check.name}", "zh")
        assert set(messages.texts("en")[exercise.slug]["mistake"]) == {mutant.name for mutant in exercise.mutants}
    assert set(messages.texts("en")["error"]) >= {name for _, name in messages.COMMON_ERRORS}
    assert set(STAGES) - {"start", "missing"} <= set(messages.texts("en")["stage"])


# --- the ladder and the command line ----------------------------------------------------------------------------------


def test_hints_open_one_after_another_attempt() -> None:
    mine = progress.Progress().after_hint()
    assert not mine.next_hint_open and not mine.solution_open
    with pytest.raises(ValueError, match="another attempt"):
        mine.after_hint()
    for text in ("one", "two"):
        mine = mine.after_check(text, False).after_hint()
    assert mine.hints == 3 and not mine.solution_open  # all hints, but two attempts only
    assert mine.after_check("three", False).solution_open
    assert mine.after_check("two", False).attempts == 2  # the same text again is no attempt


def test_progress_survives_a_broken_file(tmp_path: Path) -> None:
    progress.save(tmp_path, {"softmax": progress.Progress(2, True, 1, 1, "x")})
    assert progress.load(tmp_path)["softmax"].attempts == 2
    (tmp_path / ".progress.json").write_text("{broken")
    assert progress.load(tmp_path) == {}


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check, hint, reset, each as a learner types it; the file lies outside the clone."""
    mutants = {mutant.name: mutant for mutant in SOFTMAX.mutants}
    path = tmp_path / SOFTMAX.filename
    path.write_text(mutant_text(SOFTMAX, mutants["no_max"]), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["check", "softmax", "--file", str(path), "--json"])
    assert ended.value.code == 1
    row = json.loads(capsys.readouterr().out)
    assert list(row)[:8] == ["slug", "passed", "stage", "hint_id", "message", "expected", "got", "seconds"]
    assert (row["passed"], row["stage"], row["hint_id"]) == (False, "values", "softmax.no_max")
    assert main(["check", "5", "--file", str(path), "--hint", "--lang", "zh"]) == 0
    assert "exp(1000)" in capsys.readouterr().out
    assert main(["check", "ex05", "--file", str(path), "--hint"]) == 0
    assert "opens after another attempt" in capsys.readouterr().out
    assert main(["check", "softmax", "--file", str(path), "--solution"]) == 0
    assert "The solution opens" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    main(["reset", "softmax", "--file", str(path)])
    assert "nothing was changed" in capsys.readouterr().out and path.read_text(encoding="utf-8") != stub_text(SOFTMAX)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    main(["reset", "softmax", "--file", str(path)])
    assert path.read_text(encoding="utf-8") == stub_text(SOFTMAX)
    (backup,) = tmp_path.glob("*.bak")
    assert backup.read_text(encoding="utf-8") == mutant_text(SOFTMAX, mutants["no_max"])


def test_unknown_exercise_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "sofmax"]) == 2
    assert "no exercise 'sofmax'" in capsys.readouterr().err


def test_a_broken_file_is_told_with_its_line() -> None:
    verdict = check_text(SOFTMAX, solution_text(SOFTMAX) + "\ndef (\n")
    assert verdict.stage == "syntax" and verdict.line == len(solution_text(SOFTMAX).splitlines()) + 2
    assert check_text(SOFTMAX, stub_text(SOFTMAX)).stage == "start"
