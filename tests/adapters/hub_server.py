"""A small Hugging Face Hub on this machine, with a log of what was asked of it."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Hub:
    """Repositories by id and revision: {"org/name": {"main": {file: bytes}}}."""

    def __init__(self):
        self.repositories = {}
        self.answers = {}  # (status, X-Error-Code) by repository, in place of what it holds
        self.cut = {}  # bytes after which the next answer with a file ends
        self.log = []
        self.page = 1000

    def add(self, repository, files, revision="main"):
        self.repositories.setdefault(repository, {})[revision] = files

    def files(self, method="GET"):
        """The files that were sent, as repository:file."""
        found = [re.fullmatch(rf"{method} /(\S+?)/resolve/[^/]+/(\S+)", line) for line in self.log]
        return [f"{m[1]}:{m[2]}" for m in found if m]


def commit(files):
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub, url = self.server.hub, urlsplit(self.path)
        hub.log.append(f"{self.command} {unquote(self.path)}")
        path = unquote(url.path)
        if path == "/api/models":
            return self.listing(parse_qs(url.query))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            files = self.revision(found[1], found[2] or "main")
            if files is not None:
                siblings = [{"rfilename": name} for name in files]
                self.json({"id": found[1], "sha": commit(files), "siblings": siblings})
            return None
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+?)/([^/]+)", path)
        if not found:  # the library asks for more than models
            return self.refuse(404)
        files = self.revision(found[1], found[2])
        if files is None:
            return None
        if found[3] not in files:
            return self.refuse(404, "EntryNotFound")
        return self.file(found[3], files)

    def revision(self, repository, revision):
        hub = self.server.hub
        if repository in hub.answers:
            return self.refuse(*hub.answers[repository])
        if repository not in hub.repositories:
            return self.refuse(401, "RepoNotFound")
        revisions = hub.repositories[repository]
        by_commit = {commit(files): files for files in revisions.values()}
        files = revisions.get(revision, by_commit.get(revision))
        return self.refuse(404, "RevisionNotFound") if files is None else files

    def listing(self, query):
        hub = self.server.hub
        start = int(query.get("start", ["0"])[0])
        author = query["author"][0]
        ids = [one for one in hub.repositories if one.startswith(f"{author}/")]
        end = start + hub.page
        links = {}
        if end < len(ids):
            host = self.headers["Host"]
            links["Link"] = f'<http://{host}/api/models?author={author}&start={end}>; rel="next"'
        self.json([{"id": one} for one in ids[start:end]], links)

    def file(self, name, files):
        content = files[name]
        start = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            self.server.hub.log.append(f"RANGE {name} {start}")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit(files))
        self.end_headers()
        if self.command == "GET":
            end = self.server.hub.cut.pop(name, len(content))
            self.wfile.write(content[start:end])
            self.close_connection |= end < len(content)

    def json(self, value, headers=()):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(200)
        for name, text in dict(headers).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, code=""):
        if status == 200:  # what is no Hub: a page to log in to a network
            return self.json(code.encode())
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None


@contextmanager
def serve():
    """A running hub, and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hub = hub
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
