"""Models from the Hugging Face Hub: only weights in safetensors, JSON, and only what fits.

`huggingface_hub` is imported when it is asked for, not before. With HF_HUB_OFFLINE=1 nothing leaves the machine and
only what was downloaded before is found.
"""

import re
from pathlib import Path

from lm_core.checkpoint_error import CheckpointError, HubUnreachableError

FILES = ("config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
MAX_DOWNLOAD_BYTES = 20 * 2**30
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][\w.+/-]{0,99}")


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


def download(name: str, max_bytes: int = MAX_DOWNLOAD_BYTES) -> Path:
    """The folder of `owner/name@revision` in the local cache, downloaded first if need be.

    Raises CheckpointError for a bad or unknown name, a closed repository, or one with more than `max_bytes` to
    download; HubUnreachableError (a ConnectionError too) when the hub is away and the model is not in the cache.
    """
    repo, revision = parse_repo(name)
    from huggingface_hub import errors, snapshot_download

    patterns = [*FILES, *TOKENIZER_FILES]
    try:  # sizes before bytes
        plan = snapshot_download(repo, revision=revision, allow_patterns=patterns, dry_run=True)
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repo} has no revision {revision!r} on the hub", "missing") from None
    except Exception as error:  # no network, no such repository, a proxy's own exceptions: the cache may still help
        try:
            return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True))
        except errors.LocalEntryNotFoundError:
            raise _unreachable(repo, error.__cause__ or error) from None
    size = sum(file.file_size or 0 for file in plan if file.will_download)
    if size > max_bytes:
        sentence = f"{name} has {size / 2**30:.1f} GiB to download; the limit is {max_bytes / 2**30:.1f} GiB"
        raise CheckpointError(sentence, "too_large")
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise _unreachable(repo, error) from None


def _unreachable(repo: str, cause: BaseException) -> CheckpointError:
    """Why a model cannot be had, as an exception to raise."""
    from huggingface_hub import errors

    if isinstance(cause, errors.GatedRepoError):  # before its parent, RepositoryNotFoundError
        return CheckpointError(f"{repo} is open only to those who accepted its terms on the hub", "missing")
    if isinstance(cause, errors.RepositoryNotFoundError):
        return CheckpointError(f"there is no open model {repo} on the hub", "missing")
    return HubUnreachableError(f"the hub cannot be reached now, and {repo} has not been downloaded before")
