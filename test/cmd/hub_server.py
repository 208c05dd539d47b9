#!/usr/bin/env python3
"""The Hugging Face Hub as far as downloads go, on this machine, with faults on request. Python's library only.

    hub_server.py ROOT [CERTIFICATE KEY]

ROOT/ORG/NAME/COMMIT/...   the files of a model at a commit (40 hex digits)
ROOT/ORG/NAME/refs.json    {"main": COMMIT, ...}
ROOT/faults.json           what shall go wrong; read again whenever it changes (see `Faults`)
ROOT/ports                 written by the server: "HUB CDN"
ROOT/log                   written by the server: a JSON object a request

Two servers run: the Hub at 127.0.0.1:HUB, and the host of large files, to which the Hub redirects, at
localhost:CDN. Files of weights are large (git LFS: named by SHA-256), others small (git: SHA-1 of a blob).
With a certificate the Hub speaks https, the other host does not. Requests made through a proxy are answered too.
"""
import hashlib
import http.server
import json
import os
import re
import ssl
import sys
import threading
import time
import urllib.parse

ROOT = sys.argv[1]
LARGE = (".safetensors", ".bin", ".model")
SECRET = "Signature=do-not-log-me"
lock = threading.Lock()
large_files = {}  # sha256 -> path


class Faults:
    """faults.json, all keys optional; counts are used up by the requests they spoil.

    status:  [[path regex, status, count, {header: value}], ...]   instead of an answer
    cut:     [[path regex, bytes, count], ...]     the connection ends after so many bytes of the body
    wrong:   [[path regex, count], ...]            one byte of the body is another
    slow:    seconds between pieces of 64 KiB
    no_range: true                                 Range is ignored
    token:   {"org/name": "hf_..."}                who asks without it gets 401
    page:    files a page of the listing
    extra:   [entry, ...]                          added to every listing
    """

    def __init__(self):
        self.seen, self.data = None, {}

    def get(self, key, default=None):
        path = os.path.join(ROOT, "faults.json")
        with lock:
            text = open(path).read() if os.path.exists(path) else "{}"
            if text != self.seen:
                self.seen, self.data = text, json.loads(text)
            return self.data.get(key, default)

    def take(self, key, path):
        """The first row of `key` whose regex is in `path` and whose count (third or second last) is not used up."""
        for row in self.get(key, []):
            place = 1 if key == "wrong" else 2
            with lock:
                if re.search(row[0], path) and row[place] > 0:
                    row[place] -= 1
                    return row
        return None


faults = Faults()


def digests(path):
    data = open(path, "rb").read()
    sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return len(data), sha1, hashlib.sha256(data).hexdigest()


def is_large(path):
    return path.endswith(LARGE)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, status):
        with lock, open(os.path.join(ROOT, "log"), "a") as log:
            entry = {"server": self.server.name, "method": self.command, "path": self.path, "status": status}
            for header in ("Authorization", "Range", "If-Range", "User-Agent"):
                if header in self.headers:
                    entry[header] = self.headers[header]
            log.write(json.dumps(entry) + "\n")

    def answer(self, status, body=b"", headers=None):
        self.note(status)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value, headers=None):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def refuse(self, status, code):
        self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def send_file(self, path, headers):
        data = open(path, "rb").read()
        begin, end, status = 0, len(data), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
        if asked and same and not faults.get("no_range"):
            begin = int(asked[1])
            end = min(int(asked[2]) + 1, len(data)) if asked[2] else len(data)
            status = 206
            if begin >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
        body = bytearray(data[begin:end])
        if self.command != "HEAD" and faults.take("wrong", self.path + path):
            body[len(body) // 2] ^= 1
        self.note(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = faults.take("cut", self.path + path)
        if cut:
            self.wfile.write(body[: cut[1]])
            self.wfile.flush()
            self.close_connection = True
            return
        pause = faults.get("slow", 0)
        for at in range(0, len(body), 1 << 16):
            self.wfile.write(body[at : at + (1 << 16)])
            time.sleep(pause)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        row = faults.take("status", self.path)
        if row:
            return self.answer(row[1], b"{}", row[3] if len(row) > 3 else {})
        try:
            self.server.serve(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def serve_cdn(request):
    digest = urllib.parse.urlsplit(request.path).path.split("/")[-1]
    if SECRET not in request.path or digest not in large_files:
        return request.answer(403)
    if "Authorization" in request.headers:  # as signed addresses do
        return request.answer(400)
    request.send_file(large_files[digest], {"ETag": f'"cdn-{digest[:8]}"', "Accept-Ranges": "bytes"})


def serve_hub(request):
    url = urllib.parse.urlsplit(request.path)
    api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", url.path)
    resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url.path)
    if not api and not resolve:
        return request.refuse(404, "EntryNotFound")
    name = (api or resolve)[1]
    folder = os.path.join(ROOT, name)
    token = faults.get("token", {}).get(name)
    if token and request.headers.get("Authorization") != "Bearer " + token:
        return request.refuse(401, "GatedRepo" if name.startswith("gated/") else "RepoNotFound")
    if not os.path.isdir(folder):
        return request.refuse(404, "RepoNotFound")
    refs = json.load(open(os.path.join(folder, "refs.json")))
    revision = urllib.parse.unquote(api[3] if api else resolve[2])
    commit = refs.get(revision, revision)
    if not os.path.isdir(os.path.join(folder, commit)):
        return request.refuse(404, "RevisionNotFound")
    if api and api[2] == "revision":
        return request.send_json({"id": name, "modelId": name, "sha": commit, "siblings": [], "tags": [],
                                  "private": False, "downloads": 0, "likes": 0})
    if api:
        return tree(request, url, name, commit)
    path = urllib.parse.unquote(resolve[3])
    file = os.path.join(folder, commit, path)
    if not os.path.isfile(file):
        return request.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
    size, sha1, sha256 = digests(file)
    headers = {"X-Repo-Commit": commit, "ETag": f'"{sha1}"', "Accept-Ranges": "bytes"}
    if not is_large(path):
        return request.send_file(file, headers)
    large_files[sha256] = file
    headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(size),
                "Location": f"http://localhost:{cdn.server_port}/lfs/{sha256}?{SECRET}"}
    return request.answer(302, b"Found", headers)


def tree(request, url, name, commit):
    base = os.path.join(ROOT, name, commit)
    entries = []
    for folder, _, names in sorted(os.walk(base)):
        relative = os.path.relpath(folder, base)
        if relative != ".":
            entries.append({"type": "directory", "path": relative, "size": 0, "oid": "0" * 40})
        for file in sorted(names):
            path = os.path.normpath(os.path.join(relative, file))
            size, sha1, sha256 = digests(os.path.join(folder, file))
            entry = {"type": "file", "path": path, "size": size, "oid": sha1}
            if is_large(path):
                entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 134}
            entries.append(entry)
    entries += faults.get("extra", [])
    page = faults.get("page", 1000)
    begin = int(urllib.parse.parse_qs(url.query).get("cursor", ["0"])[0])
    headers = {}
    if begin + page < len(entries):
        here = f"http://127.0.0.1:{hub.server_port}{url.path}?recursive=true&cursor={begin + page}"
        headers["Link"] = f'<{here}>; rel="next"'
    request.send_json(entries[begin : begin + page], headers)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name, host, serve):
        super().__init__((host, 0), Handler)
        self.name, self.serve = name, serve
        if name == "hub" and len(sys.argv) > 3:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[2], sys.argv[3])
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


cdn = Server("cdn", "localhost", serve_cdn)
hub = Server("hub", "127.0.0.1", serve_hub)
with open(os.path.join(ROOT, "ports.tmp"), "w") as ports:
    ports.write(f"{hub.server_port} {cdn.server_port}\n")
os.rename(os.path.join(ROOT, "ports.tmp"), os.path.join(ROOT, "ports"))
threading.Event().wait()
