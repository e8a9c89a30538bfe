#!/usr/bin/env python3
"""Writes text stubs of the frameworks that a link for macOS asks for.

usage: macos_stubs.py FOLDER [LINKER-OUTPUT]

The symbols are those that the linker reported as undefined (`undefined symbol: _…`).
"""

import pathlib
import re
import sys

folder = pathlib.Path(sys.argv[1])
found = set()
for log in sys.argv[2:]:
    found |= set(re.findall(r"undefined symbol: (_\S+)", pathlib.Path(log).read_text()))
frameworks = {
    "IOKit": {"_IOObjectRelease"},
    "CoreFoundation": {"_CFRelease"},
    "Security": {"_SecTrustCreateWithCertificates"},
}
for symbol in found:
    if symbol.startswith(("_IO", "_kIO")):
        name = "IOKit"
    elif symbol.startswith(("_Sec", "_kSec")):
        name = "Security"
    else:
        name = "CoreFoundation"
    frameworks[name].add(symbol)
for name, symbols in frameworks.items():
    stub = folder / f"{name}.framework" / f"{name}.tbd"
    stub.parent.mkdir(parents=True, exist_ok=True)
    library = f"/System/Library/Frameworks/{name}.framework/Versions/A/{name}"
    stub.write_text(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ x86_64-macos, arm64-macos ]\n"
        f"install-name: '{library}'\nexports:\n"
        f"  - targets: [ x86_64-macos, arm64-macos ]\n    symbols: [ {', '.join(sorted(symbols))} ]\n...\n"
    )
