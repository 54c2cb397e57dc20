"""Models from the Hugging Face Hub: only weights in safetensors, JSON, and only what fits.

`huggingface_hub` is imported when it is asked for, not before. With HF_HUB_OFFLINE=1 nothing leaves the machine and
only what was downloaded before is found.
"""

import io
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_core.checkpoint_error import CheckpointError, HubUnreachableError

FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
MAX_DOWNLOAD_BYTES = 20 * 2**30
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][\w.+/-]{0,99}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")


@dataclass(frozen=True)
class Progress:
    """How far a download is. Bytes count what was not there before; files count all of them."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int


def parse_repo(name: str) -> tuple[str, str | None]:
    """`owner/name@revision` -> (repo, revision or None). CheckpointError for anything else.

    >>> parse_repo("openai-community/gpt2@607a30d")
    ('openai-community/gpt2', '607a30d')
    """
    repo, _, revision = name.partition("@")
    good = REPO.fullmatch(repo) and ".." not in name and (REVISION.fullmatch(revision) or "@" not in name)
    if not good:
        sentence = f"{name!r} is not the name of a model on the hub: write owner/name or owner/name@revision"
        raise CheckpointError(sentence, "missing")
    return repo, revision or None


def download(
    name: str, max_bytes: int = MAX_DOWNLOAD_BYTES, on_progress: Callable[[Progress], None] | None = None
) -> Path:
    """The folder of `owner/name@revision` in the local cache, downloaded first if need be.

    A revision that is a commit id never changes: once it is here, the hub is not asked again. `on_progress` is called
    from several threads while bytes arrive.

    Raises CheckpointError for a bad or unknown name, a closed repository, or one with more than `max_bytes` to
    download; HubUnreachableError (a ConnectionError too) when the hub is away and the model is not in the cache.
    """
    repo, revision = parse_repo(name)
    here = _cached(repo, revision) if revision and COMMIT.fullmatch(revision) else None
    if here and (here / "tokenizer.json").is_file():  # which may be missing after a download cut short
        return here
    from huggingface_hub import HfApi, errors, snapshot_download

    patterns = [*FILES, *TOKENIZER_FILES]
    try:  # sizes before bytes
        if revision and COMMIT.fullmatch(revision):
            HfApi().model_info(repo, revision=revision, timeout=10)  # fails at once; listing a commit tries for 24 s
        plan = snapshot_download(
            repo, revision=revision, allow_patterns=patterns, dry_run=True, tqdm_class=_bar(lambda bar: None)
        )
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repo} has no revision {revision!r} on the hub", "missing") from None
    except Exception as error:  # no network, no such repository, a proxy's own exceptions: the cache may still help
        if folder := _cached(repo, revision):
            return folder
        known = isinstance(error, errors.RepositoryNotFoundError) or error.__cause__ is None
        raise _unreachable(repo, error if known else error.__cause__) from None
    size = sum(file.file_size or 0 for file in plan if file.will_download)
    if size > max_bytes:
        sentence = f"{name} has {size / 2**30:.1f} GiB to download; the limit is {max_bytes / 2**30:.1f} GiB"
        raise CheckpointError(sentence, "too_large")
    watch = _bar(_reporter(on_progress, size, len(plan)))
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, tqdm_class=watch))
    except Exception as error:
        raise _unreachable(repo, error) from None


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision in the local cache if its weights are all there, without asking anybody."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, OSError):
        return None
    shards = [SHARD.fullmatch(path.name) for path in folder.glob("model-*-of-*.safetensors")]
    numbers = [int(match[1]) for match in shards if match]
    whole = (folder / "model.safetensors").is_file() or (numbers and len(numbers) == numbers[0])
    return folder if whole and (folder / "config.json").is_file() else None


def _reporter(
    on_progress: Callable[[Progress], None] | None, total_bytes: int, total_files: int
) -> Callable[[Any], None]:
    """What the library's progress bars call: one counts files, two count bytes (received, and written to disk)."""
    counts: dict[str, int] = {}

    def report(bar: Any) -> None:
        if on_progress is not None:
            counts[bar.kind] = max(counts.get(bar.kind, 0), int(bar.n))
            done = min(counts.get("bytes", 0), total_bytes)
            on_progress(Progress(done, total_bytes, min(counts.get("files", 0), total_files), total_files))

    return report


def _bar(report: Callable[[Any], None]) -> Any:
    """A progress bar class for `huggingface_hub` that draws nothing and calls `report(bar)` instead."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # a part of huggingface_hub's own installation

    class SilentBar(tqdm):
        monitor_interval = 0  # no thread that watches over bars which nobody sees

        def __init__(self, *args: Any, **options: Any) -> None:
            self.kind = "bytes" if options.get("unit") == "B" else "files"
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False, "mininterval": 0.1})

        def display(self, *args: Any, **options: Any) -> bool:
            report(self)
            return True

    SilentBar.set_lock(threading.RLock())  # tqdm's own is shared between processes and starts one for that
    return SilentBar


def _unreachable(repo: str, cause: BaseException | None) -> CheckpointError:
    """Why a model cannot be had, as an exception to raise."""
    from huggingface_hub import errors

    if isinstance(cause, errors.GatedRepoError):  # before its parent, RepositoryNotFoundError
        return CheckpointError(f"{repo} is open only to those who accepted its terms on the hub", "missing")
    if isinstance(cause, errors.RepositoryNotFoundError):
        return CheckpointError(f"there is no open model {repo} on the hub", "missing")
    return HubUnreachableError(f"the hub cannot be reached now, and {repo} has not been downloaded before")
