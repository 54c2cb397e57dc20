"""Tokens and embeddings: from a text to rows of numbers, on any text the reader types."""

from lab import course, vocabulary
from lab.language import text
from lab.ui import compare_panels as compare_
from lab.ui import embedding_panels as rows
from lab.ui import merge_panels as bpe
from lab.ui import model_choice, panels, view
from lab.ui import token_panels as tokens_
from lab.ui.panels import formula, prose, source, word
from lab.ui.token_panels import Cut, open_text, token_bar
from lab.ui.walk import current_step, sides, walk
from lm_core import embeddings, token_counts
from lm_core.fast_tokenizer import FastTokenizer
from lm_core.token_spans import show
from lm_core.tokenizer import BPETokenizer, pretokenize

LESSON = course.lesson("tokens")
SLUG = LESSON.slug


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def text_(cut: Cut) -> None:
    """A text falls into tokens."""
    joined = "".join(cut.text.split(" "))
    with_spaces, without = cut.tokens.n_own, tokens_.token_count(cut.model, joined)
    left, right = sides()
    with left:
        prose(SLUG, "text")
        tokens_.examples()
        panels.predict_section(
            SLUG, "text", [t("more"), t("fewer"), t("as_many")],
            0 if without > with_spaces else 1 if without < with_spaces else 2, about=(cut.model, cut.text),
            with_spaces=with_spaces, without=without,
        )  # fmt: skip
    with right:
        tokens_.ids_figure(cut)
        source(FastTokenizer.encode, "return list(self._encoding")


def bytes_(cut: Cut) -> None:
    """Everything is bytes."""
    core = (cut.word or cut.text).strip() or cut.text
    left, right = sides()
    with left:
        prose(SLUG, "bytes", character=word(show(core[0]), "q"), count=len(core[0].encode()))
        formula(bpe.utf8_formula(core[0]), label=t("utf8"))
    with right:
        bpe.bytes_figure(cut)
        source(pretokenize, "return PRETOKEN.findall")


def merges(cut: Cut) -> None:
    """Neighbours that often stood together become one."""
    left, right = sides()
    why_not, state = bpe.why_no_merges(cut), bpe.merge_state(cut)
    with left:
        prose(SLUG, "merges")
        if state is None:
            bpe.say(why_not)
        else:
            bpe.merge_slider(state)
            formula(bpe.merge_formula(state), label=t("merge_formula"))
            _predict_merge(state)
    with right:
        if state is not None:
            bpe.merge_ladder(state)
        source(BPETokenizer.merge_steps, "left, right = min(known")


def _predict_merge(state: bpe.MergeState) -> None:
    """Which pair is next? Asked while there is a choice."""
    known = state.known
    if len(known) < 2:
        bpe.say(
            t("one_pair") if known else t("done", n=len(state.symbols), word=panels.word(show(state.trace.pretoken)))
        )
        return
    names = [f"{bpe.symbol_label(a)} + {bpe.symbol_label(b)}" for a, b, _ in known]
    best = min(range(len(known)), key=lambda i: known[i][2])
    panels.predict_section(
        SLUG,
        "merges",
        names,
        best,
        about=(state.trace.pretoken, state.done),
        pair=word(names[best]),
        rank=known[best][2],
    )


def ids(cut: Cut) -> None:
    """An id is a place in a list."""
    core = (cut.word or cut.label).strip()
    bare, spaced = (tokens_.ids_of(cut.model, form) for form in (core, f" {core}"))
    left, right = sides()
    with left:
        prose(SLUG, "ids", vocab_size=f"{vocabulary.size(cut.model)[0]:,}", token=cut.named, number=cut.token_id)
        if (lines := tokens_.id_formula(cut)) is not None:
            prose(SLUG, "ids_order")
            formula(lines, label=t("id_formula"))
        if bare and spaced:
            panels.predict_section(
                SLUG, "ids", [t("same_ids"), t("other_ids")], int(bare != spaced), about=(cut.model, core),
                bare=word(core), spaced=word(f"␣{core}"), bare_ids=tokens_.listed(bare),
                spaced_ids=tokens_.listed(spaced),
            )  # fmt: skip
    with right:
        tokens_.variants_figure(cut, tokens_.variants(core))
        tokens_.vocabulary_page(cut)
        source(FastTokenizer.piece, "name = self._name(token_id)")


def compare(cut: Cut) -> None:
    """Other tokenizers cut elsewhere."""
    found = compare_.tokenizers(cut)
    costs = compare_.script_costs(cut.model)
    left, right = sides()
    with left:
        prose(SLUG, "compare")
        options = [script for script in ("english", "chinese", "russian", "emoji") if script in costs]
        if options:
            most = max(options, key=costs.__getitem__)
            panels.predict_section(
                SLUG, "compare", [t(f"script_{script}") for script in options], options.index(most), about=cut.model,
                most=t(f"script_{most}"), count=costs[most], english=costs[options[0]],
            )  # fmt: skip
        compare_.script_figure(cut.model, costs)
    with right:
        compare_.compare_figure(cut, found)
        source(token_counts.count_tokens, "return TokenCounts(")


def vectors(cut: Cut) -> None:
    """A token's id picks its row of numbers."""
    vocab_size, d_model = vocabulary.size(cut.model)
    number, row = rows.chosen_number(cut), vocabulary.vector(cut.model, cut.token_id)
    left, right = sides()
    with left:
        prose(SLUG, "vectors", token=cut.named, number=cut.token_id, vocab_size=f"{vocab_size:,}", d_model=d_model)
        formula(rows.lookup_formula(cut, number, float(row[number])))
        rows.vector_strip(cut, row)
        rows.column_histogram(cut, number, float(row[number]))
    with right:
        rows.vectors_map(cut, number)
        source(embeddings.embed, "return matrix[token_id]")


def neighbours(cut: Cut) -> None:
    """Tokens used alike point the same way."""
    found = vocabulary.neighbours(cut.model, cut.token_id)
    place = rows.chosen_neighbour(found)
    a, b = (vocabulary.vector(cut.model, i) for i in (cut.token_id, found.token_ids[place]))
    left, right = sides()
    with left:
        prose(SLUG, "neighbours", token=cut.named, other=word(found.labels[place], "k"))
        candidates = sorted(
            {0, 5, len(found.labels) - 1} & set(range(len(found.labels))), key=lambda i: found.labels[i]
        )
        panels.predict_section(
            SLUG, "neighbours", [found.labels[i] for i in candidates], candidates.index(0),
            about=(cut.model, cut.token_id), token=cut.named, nearest=word(found.labels[0], "k"),
            cosine=f"{found.cosines[0]:.3f}",
        )  # fmt: skip
        formula(rows.cosine_formula(a, b), label=t("token_formula"))
        rows.cosine_strip(cut, found.labels[place], a, b)
    with right:
        rows.neighbour_figure(cut, found, place)
        rows.cosine_histogram(cut, found)
        source(embeddings.cosine_similarities, "return torch.where(lengths")


def map_(cut: Cut) -> None:
    """The whole vocabulary on one page."""
    seen = vocabulary.vocabulary_map(cut.model)
    kept = 100 * sum(seen.explained)
    x = vocabulary.vector(cut.model, cut.token_id)
    left, right = sides()
    with left:
        prose(SLUG, "map", n=f"{len(seen.labels):,}", d_model=len(seen.mean))
        panels.predict_section(
            SLUG, "map", [t("share_high"), t("share_middle"), t("share_low")],
            0 if kept > 50 else 1 if kept > 25 else 2, about=cut.model, kept=f"{kept:.1f}", d_model=len(seen.mean),
        )  # fmt: skip
        formula(rows.coordinate_formula(cut, seen, x), label=t("token_formula"))
        rows.coordinate_strip(cut, seen, x)
    with right:
        rows.map_figure(cut, seen, rows.search_box())
        source(embeddings.pca, "torch.linalg.eigh(covariance)")


STEPS = (text_, bytes_, merges, ids, compare, vectors, neighbours, map_)

view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
cut = open_text(model)
steps = {step.__name__.rstrip("_"): lambda step=step: step(cut) for step in STEPS}
walk(LESSON, steps, lambda: token_bar(cut) if whole_page or current_step(LESSON) else None, whole_page=whole_page)
view.mirror_address("text", "q", "step", "model", "tokens_merge", "tokens_near", "tokens_id", "tokens_find")
