"""A loopback Hub: folders to load from, repositories to push to, and faults at the moment a test wants them.

It speaks as much of the wire protocol as huggingface_hub, timm, transformers and datasets use. Xet is not
spoken: without `lfs` every file is a regular one, and a client that would use Xet needs none.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.support.hub_repository import NOW, File, Refusal, Repo, commit_of, row_of

__all__ = ["FINE", "READ", "WRITE", "commit_of", "serve"]

WRITE, READ, FINE = (f"hf_fake{name}0000000000000000" for name in ("Write", "Read", "Fine"))
SCOPE = {
    "entity": {"type": "model", "name": "me/allowed"},
    "permissions": ["repo.content.read", "repo.write"],
}
ROLES = {
    WRITE: {"role": "write"},
    READ: {"role": "read"},
    FINE: {"role": "fineGrained", "fineGrained": {"scoped": [SCOPE]}},
}
ORGS = [{"name": "lab", "roleInOrg": "write"}, {"name": "museum", "roleInOrg": "read"}]
SHARED = "org/shared"  # where the user is a collaborator
REPO = r"/api/(models|datasets|spaces)/([^/]+/[^/]+)"
FILES = r"/(datasets/|spaces/)?([^/]+/[^/]+)"
ROUTES = []


@contextmanager
def serve(root, fail_with=None, lfs=False):
    """Serve `root`/{models,datasets}/org/name and what is pushed, or answer everything with `fail_with`.

    Yields the hub, which unpacks to its endpoint and the list of (method, path) asked so far.
    """
    hub = Hub(Path(root), lfs)
    if fail_with:
        hub.fail_next("", "", fail_with, times=10**6)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Fault:
    method: str
    path: str
    times: int
    status: int | None
    headers: dict
    drop: str | None
    truncate: int | None
    action: object


class Hub:
    def __init__(self, root, lfs):
        self.root, self.lfs, self.endpoint = root, lfs, None
        self.asked, self.faults, self.repos, self.stored, self.lock = [], [], {}, {}, threading.RLock()

    def __iter__(self):
        return iter((self.endpoint, self.asked))

    def repo(self, repo_id, kind="models"):
        with self.lock:
            if (kind, repo_id) not in self.repos and (self.root / kind / repo_id).is_dir():
                self.repos[kind, repo_id] = Repo(self.root / kind / repo_id)
            if (kind, repo_id) not in self.repos:
                raise Refusal(404, "RepoNotFound")
            self.repos[kind, repo_id].read_folder()
            return self.repos[kind, repo_id]

    def fail_next(
        self, method, path, status=None, times=1, headers=None, drop=None, truncate=None, action=None
    ):
        """Spoil the next `times` requests whose method and path match these regular expressions.

        With `status` that is the answer; `drop` closes the connection "before" or "after" the request has had
        its effect; `truncate` ends the answer after so many bytes; `action` is called first.
        """
        self.faults.append(Fault(method, path, times, status, headers or {}, drop, truncate, action))

    def fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.times and re.fullmatch(fault.method or ".*", method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *arguments):
        pass

    def answer(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.read_body()
        self.hub.asked.append((self.command, unquote(url.path)))
        fault = self.hub.fault(self.command, unquote(url.path))
        if fault and fault.action:
            fault.action()
        if fault and fault.status:
            return self.send(fault.status, {"error": f"made to fail with {fault.status}"}, fault.headers)
        if fault and fault.drop == "before":
            return self.hang_up()
        try:
            with self.hub.lock:
                status, payload, *headers = self.route(url.path)
        except Refusal as refusal:
            status, payload, headers = refusal.status, {"error": refusal.message}, [refusal.headers]
        if fault and fault.drop == "after":
            return self.hang_up()
        return self.send(status, payload, *headers, cut=fault and fault.truncate)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def route(self, path):
        method = "GET" if self.command == "HEAD" else self.command
        for wanted, pattern, function in ROUTES:
            if wanted == method and (found := pattern.fullmatch(path)):
                return function(self, *(unquote(group or "") for group in found.groups()))
        raise Refusal(404, "EntryNotFound", f"no route for {method} {path}")

    def send(self, status, payload, headers=None, cut=None):
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.hang_up()

    def hang_up(self):
        self.close_connection = True

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def token(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if token and token not in ROLES:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return token

    def may_write(self, repo_id):
        if self.token is None:
            raise Refusal(401, "RepoNotFound")
        mine = repo_id.split("/")[0] in ("me", *(org["name"] for org in ORGS if org["roleInOrg"] == "write"))
        allowed = {WRITE: mine or repo_id == SHARED, READ: False, FINE: repo_id == SCOPE["entity"]["name"]}
        if not allowed[self.token]:
            raise Refusal(403, message="You have no right to write here")

    def repo(self, kind, repo_id):
        repo = self.hub.repo(repo_id, kind)
        if repo.private and self.token is None:
            raise Refusal(401, "RepoNotFound")
        return repo


def route(method, pattern):
    def add(function):
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return add


@route("GET", "/api/whoami-v2")
def whoami(request):
    if request.token is None:
        raise Refusal(401, message="Invalid username or password.")
    return 200, {"type": "user", "name": "me", "orgs": ORGS, "auth": {"accessToken": ROLES[request.token]}}


@route("POST", "/api/repos/create")
def create_repo(request):
    asked = request.json
    repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
    request.may_write(repo_id)
    kind = f"{asked.get('type', 'model')}s"
    url = {"url": f"{request.hub.endpoint}/{'' if kind == 'models' else f'{kind}/'}{repo_id}"}
    try:
        request.hub.repo(repo_id, kind)
        return 409, {**url, "error": "You already created this repo"}
    except Refusal:
        repo = Repo(request.hub.root / kind / repo_id, private=asked.get("visibility") == "private")
        repo.add("main", "initial commit", {".gitattributes": File(b"*.safetensors filter=lfs\n")})
        request.hub.repos[kind, repo_id] = repo
        return 200, url


@route("POST", "/api/validate-yaml")
def validate_yaml(request):
    text = request.json["content"]
    if not text.startswith("---\n"):
        return 200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    try:
        card = yaml.safe_load(text.split("---\n")[1])
        problem = None if isinstance(card, dict) else "metadata must be a mapping"
        if not problem and card.get("license") not in (None, "apache-2.0", "cc-by-nc-4.0", "mit", "other"):
            problem = '"license" must be one of [apache-2.0, mit, ...]'
    except yaml.YAMLError as error:
        problem = str(error)
    errors = [{"message": problem}] if problem else []
    return 400 if errors else 200, {"errors": errors, "warnings": []}


@route("GET", "/api/(models|datasets)")
def list_repos(request, kind):
    found = []
    on_disk = {
        str(path.relative_to(request.hub.root / kind)) for path in (request.hub.root / kind).glob("*/*")
    }
    for repo_id in sorted(on_disk | {name for of, name in request.hub.repos if of == kind}):
        about = request.hub.repo(repo_id, kind).about(repo_id, "main")
        visible = not about["private"] or request.token is not None
        tagged = set(request.query.get("filter", [])) <= set(about["tags"])
        named = request.query.get("search", [""])[0].lower() in repo_id.lower()
        if (
            visible
            and tagged
            and named
            and request.query.get("author", [about["author"]])[0] == about["author"]
        ):
            found.append(about)
    return 200, found


@route("GET", rf"{REPO}(?:/revision/([^/]+))?")
def repo_info(request, kind, repo_id, revision):
    return 200, request.repo(kind, repo_id).about(repo_id, revision or "main")


@route("GET", rf"{REPO}/auth-check(/write)?")
def auth_check(request, kind, repo_id, write):
    request.repo(kind, repo_id)
    request.may_write(repo_id) if write else request.token
    return 200, {}


@route("GET", rf"{REPO}/tree/([^/]+)(?:/(.+))?")
def tree(request, kind, repo_id, revision, below):
    files = request.repo(kind, repo_id).at(revision).files
    rows = [row_of(path, file) for path, file in files.items()]
    folders = sorted({str(up) for path in files for up in Path(path).parents} - {"."})
    rows += [{"type": "directory", "path": path, "oid": "0", "size": 0} for path in folders]
    rows = [row for row in rows if Path(below) in Path(row["path"]).parents]
    if request.query.get("recursive") != ["true"]:
        rows = [row for row in rows if Path(row["path"]).parent == Path(below)]
    if below and not rows:
        raise Refusal(404, "EntryNotFound")
    return 200, rows


@route("POST", rf"{REPO}/paths-info/([^/]+)")
def paths_info(request, kind, repo_id, revision):
    files = request.repo(kind, repo_id).at(revision).files
    wanted = parse_qs(request.body.decode()).get("paths", [])
    return 200, [row_of(path, files[path]) for path in wanted if path in files]


@route("POST", rf"{REPO}/preupload/([^/]+)")
def preupload(request, kind, repo_id, revision):
    request.may_write(repo_id) if not revision.startswith("refs/pr/") else request.token
    files = request.repo(kind, repo_id).at(revision).files
    answers = []
    for asked in request.json["files"]:
        mode = "lfs" if request.hub.lfs and asked["path"].endswith((".safetensors", ".png")) else "regular"
        oid = {"oid": files[asked["path"]].oid} if asked["path"] in files else {}
        answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    return 200, {"files": answers}


@route("POST", rf"{FILES}\.git/info/lfs/objects/batch")
def lfs_batch(request, *_):
    objects = []
    for asked in request.json["objects"]:
        place = f"{request.hub.endpoint}/lfs/{asked['oid']}"
        actions = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
        objects.append({**asked, **({} if asked["oid"] in request.hub.stored else {"actions": actions})})
    return 200, {"transfer": "basic", "objects": objects}


@route("PUT", "/lfs/([0-9a-f]{64})")
def lfs_put(request, oid):
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refusal(400, message="checksum mismatch")
    request.hub.stored[oid] = request.body
    return 200, b"", {"ETag": f'"{oid}"'}


@route("POST", "/lfs/([0-9a-f]{64})/verify")
def lfs_verify(request, oid):
    return (200, {}) if len(request.hub.stored.get(oid, b"")) == request.json["size"] else (404, {})


@route("POST", rf"{REPO}/commit/([^/]+)")
def commit(request, kind, repo_id, revision):
    repo = request.repo(kind, repo_id)
    request.may_write(repo_id) if not revision.startswith("refs/pr/") else request.token
    header, *lines = (json.loads(line) for line in request.body.splitlines())
    base = repo.at(revision)
    if header["value"].get("parentCommit", base.oid) != base.oid:
        raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
    files = dict(base.files)
    for line in lines:
        value, path = line["value"], line["value"]["path"]
        if line["key"] == "file":
            files[path] = File(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            files[path] = File(request.hub.stored[value["oid"]], lfs=True)
        else:
            files = {
                name: file for name, file in files.items() if name != path and not name.startswith(f"{path}/")
            }
    oid = repo.add(revision, header["value"]["summary"], files)
    return 200, {
        "success": True,
        "commitOid": oid,
        "commitUrl": f"{request.hub.endpoint}/{repo_id}/commit/{oid}",
    }


@route("POST", rf"{REPO}/(branch|tag)/([^/]+)")
def make_ref(request, kind, repo_id, what, name):
    request.may_write(repo_id)
    repo, asked = request.repo(kind, repo_id), json.loads(request.body or b"{}")
    refs = repo.branches if what == "branch" else repo.tags
    if what == "tag":
        name, start = asked["tag"], name
    else:
        start = asked.get("startingPoint", "main")
    if name in refs:
        raise Refusal(409, message="Reference already exists")
    refs[name] = repo.at(start).oid
    return 200, {}


@route("POST", rf"{REPO}/discussions")
def open_pull_request(request, kind, repo_id):
    repo = request.repo(kind, repo_id)
    if request.token is None:
        raise Refusal(401, "RepoNotFound")
    number = len(repo.pulls) + 1
    repo.pulls[number] = {"title": request.json["title"], "status": "draft"}
    repo.branches[f"refs/pr/{number}"] = repo.branches["main"]
    return 200, {"num": number}


@route("GET", rf"{REPO}/discussions/(\d+)")
def pull_request(request, kind, repo_id, number):
    about = {
        "num": int(number),
        "author": {"name": "me"},
        "createdAt": NOW,
        "isPullRequest": True,
        "events": [],
    }
    where = {
        "repo": {"name": repo_id, "type": kind[:-1]},
        "changes": {"base": "main"},
        "filesWithConflicts": [],
    }
    return 200, {**about, **where, **request.repo(kind, repo_id).pulls[int(number)]}


@route("POST", rf"{REPO}/discussions/(\d+)/status")
def pull_request_status(request, kind, repo_id, number):
    status = request.json["status"]
    request.repo(kind, repo_id).pulls[int(number)]["status"] = status
    event = {"id": "0" * 24, "type": "status-change", "createdAt": NOW, "author": {"name": "me"}}
    return 200, {"newStatus": {**event, "data": {"status": status}}}


@route("GET", rf"{REPO}/refs")
def refs(request, kind, repo_id):
    repo = request.repo(kind, repo_id)
    branches, pulls = [], []
    for name, oid in repo.branches.items():
        pull = name.startswith("refs/pr/")
        row = {"name": name, "ref": name if pull else f"refs/heads/{name}", "targetCommit": oid}
        (pulls if pull else branches).append(row)
    tags = [
        {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in repo.tags.items()
    ]
    return 200, {"branches": branches, "converts": [], "tags": tags, "pullRequests": pulls}


@route("GET", rf"{REPO}/commits/([^/]+)")
def commits(request, kind, repo_id, revision):
    log = request.repo(kind, repo_id).log(revision)
    about = {"authors": [{"user": "me"}], "date": NOW, "message": ""}
    return 200, [{"id": commit.oid, "title": commit.title, **about} for commit in log]


@route("GET", rf"{FILES}/resolve/([^/]+)/(.+)")
def resolve(request, kind, repo_id, revision, path):
    repo = request.repo(kind.strip("/") or "models", repo_id)
    if repo.gated:
        raise Refusal(403, "GatedRepo", "Access to this model is restricted")
    commit = repo.at(revision)
    headers = {"X-Repo-Commit": commit.oid}
    if path not in commit.files:
        raise Refusal(404, "EntryNotFound", headers=headers)
    file = commit.files[path]
    headers["ETag"] = f'"{file.oid}"'
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.data))}
    if found := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
        start, end = int(found[1]), min(int(found[2] or len(file.data)), len(file.data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(file.data)}"
        return 206, file.data[start : end + 1], headers
    return 200, file.data, headers
