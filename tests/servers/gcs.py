"""A server of the XML API of Google Cloud Storage, for tests: `gcs.py PORT FOLDER [attended]`.

No server that can be installed speaks all of that API, its multipart uploads in particular. Google
made it after the protocol of Amazon S3, down to the names of elements and parameters, so that a
server of that protocol, Moto, answers here, behind a front that

- takes Google's headers (`x-goog-`) for Amazon's, and no others;
- lets in whoever shows a token that the service account's key has signed, one that the metadata
  service below has given, or a signed address, all of which are verified; everybody may use
  buckets whose names begin with `open-`;
- does what Google's store does otherwise: deleting what is not there is an error, no part is copied
  from an object, and several objects are not deleted by one request.

It is the machine's metadata service, too, and writes `key.json`, the file of a service account,
into FOLDER. Where it is attended, it ends when its standard input does.
"""

import base64
import datetime
import hashlib
import json
import os
import secrets
import sys
import threading
import time
from urllib.parse import parse_qsl, quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ACCOUNT = "registry@tests.iam.gserviceaccount.com"
INSTANCE = "instance@tests.iam.gserviceaccount.com"
METADATA = "/computeMetadata/v1/instance/service-accounts/default/"
SCOPES = {
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/devstorage.full_control",
}
# What Moto wants to see of a caller; it does not verify it.
AMAZONS = "AWS4-HMAC-SHA256 Credential=t/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=t"


class Refused(Exception):
    def __init__(self, status, code, message):
        self.status, self.code, self.message = status, code, message


def unauthorized(message):
    return Refused("401 Unauthorized", "AuthenticationRequired", message)


def forbidden(message):
    return Refused("403 Forbidden", "SignatureDoesNotMatch", message)


class Front:
    def __init__(self, folder):
        self.store = DomainDispatcherApplication(create_backend_app)
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = private.public_key()
        self.tokens = set()
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": "the-key-of-the-tests",
            "private_key": pem.decode(),
            "client_email": ACCOUNT,
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        with open(os.path.join(folder, "key.json"), "w") as file:
            json.dump(account, file)

    def __call__(self, environ, start):
        try:
            if environ["PATH_INFO"].startswith(METADATA):
                return self.metadata(environ, start)
            return self.xml(environ, start)
        except Refused as refused:
            body = f"<Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>"
            start(refused.status, [("Content-Type", "application/xml")])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body.encode()]

    def metadata(self, environ, start):
        if environ.get("HTTP_METADATA_FLAVOR") != "Google":
            raise Refused("403 Forbidden", "Forbidden", "Metadata-Flavor is missing.")
        match environ["PATH_INFO"].removeprefix(METADATA):
            case "token":
                token = secrets.token_urlsafe()
                self.tokens.add(token)
                body = json.dumps({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})
            case "email":
                body = INSTANCE
            case _:
                raise Refused("404 Not Found", "NotFound", "There is no such thing.")
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body.encode()]

    def xml(self, environ, start):
        path, _, query = environ["RAW_URI"].partition("?")
        path = unquote(path)
        method = environ["REQUEST_METHOD"]
        parameters = parse_qsl(query, keep_blank_values=True)
        names = {name for name, _ in parameters}
        self.let_in(environ, path, parameters)

        if "delete" in names:
            raise Refused("400 Bad Request", "InvalidArgument", "Objects are deleted one by one.")
        if "uploadId" in names and "HTTP_X_GOOG_COPY_SOURCE" in environ:
            raise Refused("400 Bad Request", "InvalidArgument", "A part has its own bytes.")
        forwarded = {}
        for name, value in environ.items():
            if name.startswith("HTTP_X_GOOG_"):
                forwarded[name.replace("_GOOG_", "_AMZ_")] = value
            elif not name.startswith("HTTP_X_AMZ_"):
                forwarded[name] = value
        query = [(name, value) for name, value in parameters if not name.startswith("X-Goog-")]
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
        uri = quote(path) + (f"?{query}" if query else "")
        forwarded |= {"RAW_URI": uri, "REQUEST_URI": uri, "QUERY_STRING": query, "HTTP_AUTHORIZATION": AMAZONS}
        forwarded["PATH_INFO"] = path.encode().decode("latin-1")

        if method == "DELETE" and "uploadId" not in names and path.count("/") > 1:
            self.must_be_there(forwarded)

        def translated(status, headers, *rest):
            headers = [(name.lower().replace("x-amz-", "x-goog-"), value) for name, value in headers]
            return start(status, headers, *rest)

        return self.store(forwarded, translated)

    def must_be_there(self, environ):
        seen = []
        asked = environ | {"REQUEST_METHOD": "HEAD"}
        list(self.store(asked, lambda status, *_: seen.append(status)))
        if seen[0].startswith("404"):
            raise Refused("404 Not Found", "NoSuchKey", "The specified key does not exist.")

    def let_in(self, environ, path, parameters):
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        signed = dict(parameters)
        if authorization.startswith("Bearer "):
            self.token(authorization.removeprefix("Bearer "))
        elif "X-Goog-Signature" in signed:
            self.address(environ["REQUEST_METHOD"], path, signed)
        elif not path.startswith("/open-"):
            raise unauthorized("Nobody is known here without a token.")

    def token(self, token):
        if token in self.tokens:
            return
        try:
            head, claims, signature = token.split(".")
            self.verify(decoded(signature), f"{head}.{claims}".encode())
            claims = json.loads(decoded(claims))
        except (ValueError, InvalidSignature):
            raise unauthorized("The token is not one that was given.")
        if claims["iss"] != ACCOUNT or not claims["iat"] - 60 <= time.time() < claims["exp"]:
            raise unauthorized("The token is of another time, or of somebody else.")
        if not SCOPES & set(claims["scope"].split()):
            raise Refused("403 Forbidden", "AccessDenied", "The token is for something else.")

    def address(self, method, path, signed):
        """Version 4, with the host that a signed address always has there."""
        signature = bytes.fromhex(signed.pop("X-Goog-Signature"))
        date = signed["X-Goog-Date"]
        began = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        age = time.time() - began.timestamp()
        if not -60 <= age < int(signed["X-Goog-Expires"]):
            raise forbidden("The address is of another time.")
        scope = f"{date[:8]}/auto/storage/goog4_request"
        if signed["X-Goog-Credential"] != f"{ACCOUNT}/{scope}":
            raise forbidden("The address is of somebody else.")
        query = sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in signed.items())
        request = [method, quote(path), "&".join(query), "host:storage.googleapis.com", "", "host", "UNSIGNED-PAYLOAD"]
        digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
        text = "\n".join(["GOOG4-RSA-SHA256", date, scope, digest])
        try:
            self.verify(signature, text.encode())
        except InvalidSignature:
            raise forbidden("The address was not signed like that.")

    def verify(self, signature, message):
        self.public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    server = make_server("127.0.0.1", port, Front(folder), threaded=True, request_handler=MotoRequestHandler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    if sys.argv[3:] == ["attended"]:
        sys.stdin.read()
    else:
        serving.join()


main()
