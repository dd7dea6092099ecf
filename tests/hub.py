"""A stand-in for the Hugging Face hub: the part of its HTTP interface that downloads and commits use, in a thread."""
import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

Repositories = dict[str, dict[str, bytes]]  # Files by path, of each OWNER/NAME.


class Handler(BaseHTTPRequestHandler):
    """Answers from ``repositories`` of the server."""
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip('/').split('/')
        if parts[:2] == ['api', 'models']:
            files = self.files('/'.join(parts[2:4]))
            if files is None:
                self.answer(404, dict(error='Repository not found'), **{'X-Error-Code': 'RepoNotFound'})
            elif parts[4:5] == ['tree']:
                self.answer(200, [dict(type='file', path=path, size=len(content), oid=hashlib.sha1(content).hexdigest())
                                  for path, content in files.items()])
            else:
                name = '/'.join(parts[2:4])
                self.answer(200, dict(id=name, sha=self.sha(files), private=name in self.private,
                                      siblings=[dict(rfilename=path) for path in files]))
        else:
            files, path = self.files('/'.join(parts[:2])) or {}, '/'.join(parts[4:])
            if parts[2:3] == ['resolve'] and path in files:
                self.answer(200, files[path], ETag=f'"{hashlib.sha1(files[path]).hexdigest()}"',
                            **{'X-Repo-Commit': self.sha(files)})
            else:
                self.answer(404, dict(error='Entry not found'), **{'X-Error-Code': 'EntryNotFound'})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        parts = urlsplit(self.path).path.strip('/').split('/')
        if parts == ['api', 'repos', 'create']:
            given = json.loads(body)
            name = f'{given.get("organization") or "me"}/{given["name"]}'
            if name in self.repositories:
                self.answer(409, dict(error='You already created this model repo', url=name))
                return
            self.repositories[name] = {}
            if given.get('private') or given.get('visibility') == 'private':
                self.private.add(name)
            self.answer(200, dict(url=f'{self.address}/{name}', name=name, id=name))
        elif parts[1:] == ['validate-yaml']:
            self.answer(200, dict(errors=[], warnings=[]))
        elif parts[4] == 'preupload':
            self.answer(200, dict(files=[dict(path=each['path'], uploadMode='regular', shouldIgnore=False)
                                         for each in json.loads(body)['files']]))
        else:
            name = '/'.join(parts[2:4])
            files = self.repositories[name]
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    files[line['value']['path']] = base64.b64decode(line['value']['content'])
                elif line['key'] == 'deletedFile':
                    del files[line['value']['path']]
            self.answer(200, dict(commitUrl=f'{self.address}/{name}/commit/1', commitOid=self.sha(files), success=True))

    @property
    def address(self) -> str:
        return f'http://127.0.0.1:{self.server.server_port}'

    @property
    def repositories(self) -> Repositories:
        return self.server.repositories

    @property
    def private(self) -> set[str]:
        return self.server.private

    def files(self, name: str) -> dict[str, bytes] | None:
        return self.repositories.get(name)

    def sha(self, files: dict[str, bytes]) -> str:
        return hashlib.sha1(b''.join(hashlib.sha1(content).digest() for content in files.values())).hexdigest()

    def answer(self, status: int, content: object, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)


@contextmanager
def stand_in() -> Iterator[tuple[str, Repositories]]:
    """Start the hub; yields its address and its content, which can be changed."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.repositories, server.private = {}, set()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}', server.repositories
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
