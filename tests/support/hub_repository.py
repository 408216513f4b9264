"""The repositories of the loopback Hub: files, commits, branches, and the tags that a card is found by."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

NOW = "2026-11-01T12:00:00.000Z"


class File:
    def __init__(self, data, lfs=False):
        self.data, self.lfs = data, lfs

    @cached_property
    def blob(self):
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @cached_property
    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self):
        return self.sha256 if self.lfs else self.blob


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict


class Refusal(Exception):
    def __init__(self, status, code=None, message="refused", headers=None):
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message, **(headers or {})}
        if code:
            self.headers["X-Error-Code"] = code


@dataclass
class Repo:
    """Every commit that ever was stays readable, as on the Hub."""

    folder: Path
    private: bool = False
    gated: bool = False
    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    pulls: dict = field(default_factory=dict)
    seen: object = None

    def read_folder(self):
        """A folder that was changed by hand has a new commit on main."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        seen = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
        if seen and seen != self.seen:
            self.seen = seen
            files = {str(path.relative_to(self.folder)): File(path.read_bytes()) for path in paths}
            self.add("main", "by hand", files, digest(files))

    def add(self, branch, title, files, oid=None):
        parent = self.branches.get(branch)
        oid = oid or hashlib.sha1(f"{parent} {title} {digest(files)}".encode()).hexdigest()
        self.commits.setdefault(oid, Commit(oid, parent, title, files))
        self.branches[branch] = oid
        return oid

    def at(self, revision):
        oid = self.branches.get(revision) or self.tags.get(revision, revision)
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound")
        return self.commits[oid]

    def log(self, revision="main"):
        """Commits, the newest first."""
        found, oid = [], self.at(revision).oid
        while oid:
            found.append(self.commits[oid])
            oid = found[-1].parent
        return found

    def card(self, files):
        text = files["README.md"].data.decode() if "README.md" in files else ""
        return yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}

    def about(self, repo_id, revision):
        """What the Hub says of a model, with the tags it derives from the card."""
        commit = self.at(revision)
        card = self.card(commit.files)
        kinds = {"dataset": "datasets", "base_model": "base_model", "license": "license"}
        tags = [tag for key in ("tags", "library_name", "pipeline_tag") for tag in as_list(card.get(key))]
        tags += [f"{kind}:{name}" for kind, key in kinds.items() for name in as_list(card.get(key))]
        tags += [f"base_model:finetune:{name}" for name in as_list(card.get("base_model"))]
        tags += ["safetensors"] * any(path.endswith(".safetensors") for path in commit.files)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        known = {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
        access = {"private": self.private, "gated": "manual" if self.gated else False}
        about = {"id": repo_id, "author": repo_id.split("/")[0], "sha": commit.oid, "lastModified": NOW}
        known |= {"siblings": siblings, "cardData": card, "tags": list(dict.fromkeys(tags))}
        return {**about, **access, **known}


def row_of(path, file):
    row = {"type": "file", "path": path, "size": len(file.data), "oid": file.blob}
    pointer = {"oid": file.sha256, "size": row["size"], "pointerSize": 134}
    return {**row, "lfs": pointer} if file.lfs else row


def as_list(value):
    return [] if value is None else [str(item) for item in (value if isinstance(value, list) else [value])]


def digest(files):
    named = [f"{path} {file.blob}" for path, file in sorted(files.items())]
    return hashlib.sha1("\n".join(named).encode()).hexdigest()


def commit_of(folder):
    """The commit of a folder as it is now."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return digest({str(path.relative_to(folder)): File(path.read_bytes()) for path in paths})
