"""Put pip into the virtual environment whose Python runs this, where there is no python3-venv, no pip and no root.

The wheel comes from the package index that PIP_INDEX_URL names, as pip reads it, and must have the digest written
here. A wheel of pip is a zip file that can install itself.
"""
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

WHEEL = "pip-24.0-py3-none-any.whl"
SHA256 = "ba0d021a166865d2265246961bec0152ff124de910c5cc39f1156ce3fa7c69dc"
PATIENCE = 60  # seconds


def fetch() -> bytes:
    index = os.environ.get("PIP_INDEX_URL")
    if not index:
        sys.exit("There is no pip here, and PIP_INDEX_URL does not say where to get it.")
    page = index.rstrip("/") + "/pip/"
    with urlopen(page, timeout=PATIENCE) as answer:
        links = re.findall(r'href="([^"#]*)', answer.read().decode())
    wheel = next((link for link in links if link.endswith(f"/{WHEEL}")), None)
    if wheel is None:
        sys.exit(f"{page} has no {WHEEL}.")
    with urlopen(urljoin(page, wheel), timeout=PATIENCE) as answer:
        content: bytes = answer.read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit(f"{WHEEL} from {page} has another digest than expected; it is not used.")
    return content


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        wheel = Path(directory, WHEEL)
        wheel.write_bytes(fetch())
        subprocess.run([sys.executable, f"{wheel}/pip", "install", "-q", "--no-index", str(wheel)], check=True)


main()
