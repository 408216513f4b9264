"""A loopback Hub that serves folders: enough of the wire protocol for every library here to load from it."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


@contextmanager
def serve(root, fail_with=None):
    """Serve `root`/{models,datasets}/org/name, or answer everything with the status `fail_with`.

    Yields the endpoint and the list of (method, path) asked so far.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer()

        def do_HEAD(self):
            self.answer()

        def do_POST(self):
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self.answer()

        def log_message(self, *arguments):
            pass

        def answer(self):
            path = unquote(urlsplit(self.path).path)
            asked.append((self.command, path))
            if fail_with:
                return self.send(fail_with, b"{}")
            if path.startswith("/api/"):
                return self.api(*path.removeprefix("/api/").split("/"))
            return self.file(path)

        def api(self, kind, org, name, *rest):
            folder = root / kind / org / name
            if not folder.is_dir():
                return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            rows = [row_of(path, folder) for path in sorted(folder.rglob("*"))]
            if not rest or rest[0] == "revision":
                if rest and rest[1] not in ("main", commit_of(folder)):
                    return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                siblings = [{"rfilename": row["path"]} for row in rows]
                about = {
                    "id": f"{org}/{name}",
                    "sha": commit_of(folder),
                    "private": False,
                    "siblings": siblings,
                }
                return self.send(200, json.dumps(about).encode())
            if rest[0] == "tree":
                below = Path(*rest[2:])
                found = [row for row in rows if below in Path(row["path"]).parents]
                if parse_qs(urlsplit(self.path).query).get("recursive") != ["true"]:
                    found = [row for row in found if Path(row["path"]).parent == below]
                elsewhere = {"X-Error-Code": "EntryNotFound"}
                return self.send(200, json.dumps(found).encode()) if found else self.send(404, b"", elsewhere)
            if rest[0] == "paths-info":
                wanted = parse_qs(self.body).get("paths", [])
                return self.send(200, json.dumps([row for row in rows if row["path"] in wanted]).encode())
            return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

        def file(self, path):
            repo, _, rest = path.strip("/").partition("/resolve/")
            kind, repo = (
                ("datasets", repo.removeprefix("datasets/")) if "datasets/" in repo else ("models", repo)
            )
            folder, (_, _, name) = root / kind / repo, rest.partition("/")
            file = folder / name
            if not folder.is_dir():
                return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
            headers = {"X-Repo-Commit": commit_of(folder)}
            if not file.is_file():
                return self.send(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
            return self.send(200, file.read_bytes(), {**headers, "ETag": f'"{blob_id(file)}"'})

        def send(self, status, body, headers=None):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    root = Path(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def row_of(path, folder):
    row = {"type": "file" if path.is_file() else "directory", "path": str(path.relative_to(folder))}
    return (
        {**row, "size": path.stat().st_size, "oid": blob_id(path)} if path.is_file() else {**row, "oid": "0"}
    )


def blob_id(file):
    return hashlib.sha1(b"blob %d\0" % file.stat().st_size + file.read_bytes()).hexdigest()


def commit_of(folder):
    """A commit that changes with the files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha1()
    for file in files:
        digest.update(f"{file.relative_to(folder)} {blob_id(file)}".encode())
    return digest.hexdigest()
