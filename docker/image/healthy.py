"""The image's health check: exit status 0 when the server in this container can do its work."""

import http.client
import os
import sys

_TIMEOUT_SECONDS = 4


def main() -> int:
    port = int(os.environ.get("APEX_HTTP_PORT", "8765"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
    except OSError as error:
        sys.stderr.write(f"no answer: {type(error).__name__}\n")
        return 1
    finally:
        connection.close()
    sys.stderr.write(f"{answer.status}\n")
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
