#!/usr/bin/env bash
# botocore parses its CA bundle again for every new connection
#
# Seen with botocore 1.44.8, urllib3 2.8.0.
# One would guess: a client has one SSL context, which reads the CA bundle once.
# What happens: the context is one, but its `load_verify_locations` is called for each connection that is opened. Ten
# threads that make a client's first ten requests parse the bundle ten times, and the bundle of certifi is large. The
# cause is in urllib3, which loads `ca_certs` at each handshake; with a ready `ssl_context` it does not. Known as
# urllib3/urllib3#3623.
#
# Output:
#   botocore, 10 first requests: 10 loads, 1 context
#   botocore, 10 more on the same connections: 0 loads
#   urllib3 with ca_certs, 10 requests: 10 loads
#   urllib3 with ssl_context, 10 requests: 0 loads

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq botocore==1.44.8 urllib3==2.8.0 trustme==1.2.1 || exit 2

env -i HOME="$work" venv/bin/python - <<'EOF'
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session
import trustme
import urllib3
from botocore.config import Config

REQUESTS = 10
together = threading.Barrier(REQUESTS)  # so that each request needs a connection of its own


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        together.wait(30)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args):
        pass


authority = trustme.CA()
authority.cert_pem.write_to_path("ca.pem")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("127.0.0.1").configure_cert(context)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"https://127.0.0.1:{server.server_port}"

loads = []
original = ssl.SSLContext.load_verify_locations


def counted(self, *args, **kwargs):
    loads.append(self)
    return original(self, *args, **kwargs)


ssl.SSLContext.load_verify_locations = counted


def run(request):
    loads.clear()
    with ThreadPoolExecutor(REQUESTS) as threads:
        list(threads.map(lambda _: request(), range(REQUESTS)))
    return len(loads)


sqs = botocore.session.Session().create_client(
    "sqs",
    region_name="eu-west-1",
    endpoint_url=url,
    verify="ca.pem",
    aws_access_key_id="test",
    aws_secret_access_key="test",
    config=Config(retries={"total_max_attempts": 1}),
)
first, contexts = run(sqs.list_queues), len(set(map(id, loads)))
second = run(sqs.list_queues)
print(f"botocore, {REQUESTS} first requests: {first} loads, {contexts} context")
print(f"botocore, {REQUESTS} more on the same connections: {second} loads")
named = urllib3.PoolManager(maxsize=REQUESTS, ca_certs="ca.pem")
ready = urllib3.PoolManager(maxsize=REQUESTS, ssl_context=ssl.create_default_context(cafile="ca.pem"))
by_name = run(lambda: named.request("POST", url, body=b"{}"))
by_context = run(lambda: ready.request("POST", url, body=b"{}"))
print(f"urllib3 with ca_certs, {REQUESTS} requests: {by_name} loads")
print(f"urllib3 with ssl_context, {REQUESTS} requests: {by_context} loads")
assert (first, contexts, second, by_name, by_context) == (REQUESTS, 1, 0, REQUESTS, 0)
EOF
