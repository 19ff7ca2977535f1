"""Stand-in for the one call of SlapOS's web master that slapproxy lacks (lab only): POST …/Person_requestComputer.

usage: webmaster.py ADDRESS PORT FOLDER, where FOLDER/token holds the token that is accepted
"""

import http.server
import json
import pathlib
import subprocess
import sys
import urllib.parse

ADDRESS, PORT, FOLDER = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, "web master of the lab")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        title = urllib.parse.parse_qs(body).get("title", [""])[0]
        if not self.path.endswith("/Person_requestComputer"):
            return self.answer(404, "no")
        if self.headers.get("X-Access-Token") != (FOLDER / "token").read_text():
            return self.answer(403, "Forbidden")
        names = FOLDER / "computers.json"
        known = json.loads(names.read_text()) if names.exists() else {}
        if title in known:
            return self.answer(500, "ValueError: Certificate still active.")
        computer = known[title] = f"COMP-{len(known) + 1}"
        key, certificate = FOLDER / f"{computer}.key", FOLDER / f"{computer}.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-keyout", key, "-out", certificate,
             "-subj", f"/CN={computer}/emailAddress=lab@lab.test"], check=True, capture_output=True,
        )  # fmt: skip
        names.write_text(json.dumps(known))
        # slapos.core reads the computer's name out of the certificate's text form.
        text = f"Subject: CN={computer}/emailAddress=lab@lab.test\n" + certificate.read_text()
        return self.answer(200, json.dumps({"certificate": text, "key": key.read_text()}))

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer((ADDRESS, PORT), Handler).serve_forever()
