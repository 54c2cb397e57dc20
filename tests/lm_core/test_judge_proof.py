"""The course proves itself: every stub fails, every reference passes, every named mistake gets its own hint."""

from __future__ import annotations

import pytest
import torch

from lm_core.judge.catalogue import EXERCISES
from lm_core.judge.exercise import Draw, Exercise
from lm_core.judge.files import FOLDER, module_of, mutant_text, solution_text, stub_text
from lm_core.judge.verdict import Verdict
from tests.lm_core.judge_proof import judge_all

SLUGS = [exercise.slug for exercise in EXERCISES]
BY_SLUG = {exercise.slug: exercise for exercise in EXERCISES}
MUTANTS = [(exercise, mutant) for exercise in EXERCISES for mutant in exercise.mutants]


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], Verdict]:
    """By (slug, "stub" or "reference" or the name of a mutant), all from two isolated processes."""
    students = [(exercise, "stub", stub_text(exercise)) for exercise in EXERCISES]
    students += [(exercise, mutant.name, mutant_text(exercise, mutant)) for exercise, mutant in MUTANTS]
    found = judge_all([(exercise, text) for exercise, _, text in students], values_only=True)
    students += [(exercise, "reference", "") for exercise in EXERCISES]
    found += judge_all([(exercise, solution_text(exercise)) for exercise in EXERCISES])
    return {(exercise.slug, name): verdict for (exercise, name, _), verdict in zip(students, found, strict=True)}


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_files_are_handed_out_unsolved(exercise: Exercise) -> None:
    """The committed file is the one written from the reference: its signature, its docstring, and a gap (or a bug).

    After a change of a reference: python -m lm_core.judge.files
    """
    assert (FOLDER / exercise.filename).read_text(encoding="utf-8") == stub_text(exercise)


def test_no_other_file_among_the_exercises() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.py")) == [exercise.filename for exercise in EXERCISES]
    assert [exercise.number for exercise in EXERCISES] == list(range(1, len(EXERCISES) + 1))


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_stub_fails(exercise: Exercise, verdicts: dict[tuple[str, str], Verdict]) -> None:
    verdict = verdicts[exercise.slug, "stub"]
    assert not verdict.passed
    if exercise.is_bug_hunt:  # the bug that is handed out has a name
        assert verdict.hint_id == f"{exercise.slug}.{exercise.mutants[0].name}"
    else:
        assert (verdict.stage, verdict.hint_id) == ("start", "general.todo")


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_reference_passes(exercise: Exercise, verdicts: dict[tuple[str, str], Verdict]) -> None:
    verdict = verdicts[exercise.slug, "reference"]
    assert verdict.passed, verdict
    assert verdict.slow is None


def test_references_pass_on_other_numbers() -> None:
    found = judge_all([(exercise, solution_text(exercise)) for exercise in EXERCISES], fresh_seed=77)
    assert [verdict for verdict in found if not verdict.passed] == []


@pytest.mark.parametrize(("exercise", "mutant"), MUTANTS, ids=[f"{e.slug}.{m.name}" for e, m in MUTANTS])
def test_mutant_gets_its_own_hint(exercise: Exercise, mutant: object, verdicts: dict[tuple[str, str], Verdict]) -> None:
    name = mutant.name  # type: ignore[attr-defined]
    verdict = verdicts[exercise.slug, name]
    assert not verdict.passed
    assert verdict.hint_id == f"{exercise.slug}.{name}", verdict


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_at_least_four_mistakes_have_a_name(exercise: Exercise) -> None:
    assert len({mutant.name for mutant in exercise.mutants}) == len(exercise.mutants) >= 4


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_prerequisites_come_before(exercise: Exercise) -> None:
    assert all(BY_SLUG[slug].number < exercise.number for slug in exercise.prerequisites)
    assert 1 <= exercise.difficulty <= 5 and 1 <= exercise.importance <= 5 and 5 <= exercise.minutes <= 60


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_properties_hold_for_the_reference(exercise: Exercise) -> None:
    from lm_core.judge.calls import answer

    results = {}
    for case in exercise.cases(Draw(3)):
        results[case.name], _ = answer(exercise.references[case.function], case)
    for check in exercise.properties:
        assert check.holds(*(results[name] for name in check.cases)), check.name


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_examples_in_the_handed_out_docstring_are_true(exercise: Exercise) -> None:
    """The worked example works in the solved file, with nothing but what the file itself holds."""
    import doctest

    module = module_of(solution_text(exercise))
    names = [function.__name__ for function in exercise.references]
    for name in names:
        examples = doctest.DocTestParser().get_doctest(
            getattr(module, name).__doc__, vars(module) | {"torch": torch}, name, None, 0
        )
        assert examples.examples, f"{name} has no worked example"
        result = doctest.DocTestRunner(verbose=False).run(examples, out=lambda _: None)
        assert result.failed == 0, name


def test_tricks_that_fooled_another_judge_fail() -> None:
    """Right shapes, right sums, plausible numbers: TorchCode's checks let these pass."""
    head = stub_text(BY_SLUG["attend"]).replace('    raise NotImplementedError("TODO")\n', "")
    finish = "    return AttentionTrace(q, k, v, scores, scaled, scaled, weights, {out})\n"
    honest = (
        "    k, v = repeat_heads(k, q.shape[-3]), repeat_heads(v, q.shape[-3])\n"
        "    scores = q @ k.mT\n    scaled = scores / math.sqrt(q.shape[-1])\n"
        "    weights = torch.softmax(scaled, dim=-1)\n"
    )
    running_mean = "(v.cumsum(-2) / torch.arange(1, v.shape[-2] + 1)[:, None])"
    tricks = {
        "no scale": honest.replace(" / math.sqrt(q.shape[-1])", "") + finish.format(out="weights @ v"),
        "running mean of v": honest + finish.format(out=running_mean),
        "v plus nothing": honest + finish.format(out="v + 0 * (q + k).sum()"),
        "uniform weights": honest.replace("torch.softmax(scaled, dim=-1)", "torch.ones_like(scaled) / scaled.shape[-1]")
        + finish.format(out="weights @ v"),
    }
    students = [(BY_SLUG["attend"], head + body) for body in tricks.values()]
    top_p = stub_text(BY_SLUG["top_p"]).replace('    raise NotImplementedError("TODO")\n', "")
    students.append((BY_SLUG["top_p"], top_p + "    return logits\n"))
    students.append((BY_SLUG["top_p"], top_p + '    print("pass")\n'))
    softmax = stub_text(BY_SLUG["softmax"]).replace('    raise NotImplementedError("TODO")\n', "")
    students.append((BY_SLUG["softmax"], softmax + "    return torch.ones_like(logits) / logits.shape[-1]\n"))
    found = judge_all(students)
    assert [verdict.passed for verdict in found] == [False] * len(students)
    assert found[0].hint_id == "attend.no_scale" and found[0].agreed == ("q", "k", "v", "scores")
    assert found[4].hint_id == "top_p.ignored"
    assert found[5].hint_id == "general.no_return"
