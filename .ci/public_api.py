#!/usr/bin/env python3
"""The public items of the library, one a line: compared with the list that is kept, or written to it with --write.

Reads the JSON that rustdoc writes (an unstable form, so its number is checked). A change of the list is a change of what programs
may rely on: it is seen in review, and tells which version comes next.
"""

import json
import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
KEPT = os.path.join(ROOT, "runtime", "public-api.txt")
TARGET = os.path.join(ROOT, "target", "api")
CRATES = {"serin_scorers": ["-p", "serin-scorers"], "serin": ["-p", "serin", "--no-default-features"]}
ROOT_ITEMS_MAX, ITEMS_MAX = 25, 120


def documents():
    """What rustdoc says of each crate."""
    found = {}
    for name, flags in CRATES.items():
        command = ["cargo", "rustdoc", "--quiet", "--locked", "--lib", "--target-dir", TARGET, *flags]
        command += ["--", "-Z", "unstable-options", "--output-format", "json"]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
        with open(os.path.join(TARGET, "doc", f"{name}.json"), encoding="utf-8") as file:
            found[name] = json.load(file)
    return found


class Surface:
    """The items, by the paths by which programs name them."""

    def __init__(self, crates):
        self.crates = crates
        self.lines = []
        self.root = 0

    def item(self, crate, number):
        """An item, in the crate that has it."""
        document = self.crates[crate]
        item = document["index"].get(str(number))
        if item is not None:
            return crate, item
        path = document["paths"][str(number)]["path"]
        other = self.crates.get(path[0])
        if other is None:
            return crate, None
        # A type is known by its name: modules inside are private.
        for key, summary in other["paths"].items():
            if summary["path"][-1] == path[-1] and summary["crate_id"] == 0 and key in other["index"]:
                return path[0], other["index"][key]
        return crate, None

    def module(self, crate, module, path):
        """All that a module shows."""
        for number in module["inner"]["module"]["items"]:
            child = self.crates[crate]["index"][str(number)]
            if child["visibility"] != "public":
                continue
            if path.count("::") == 0:
                self.root += 1
            if "use" in child["inner"]:
                use = child["inner"]["use"]
                owner, item = self.item(crate, use["id"])
                self.one(owner, item, f"{path}::{use['name']}")
            elif "module" in child["inner"]:
                self.lines.append(f"mod {path}::{child['name']}")
                self.module(crate, child, f"{path}::{child['name']}")
            else:
                self.one(crate, child, f"{path}::{child['name']}")

    def one(self, crate, item, path):
        """An item, and what belongs to it."""
        if item is None:
            self.lines.append(f"use {path}")
            return
        kind, inner = next(iter(item["inner"].items()))
        self.lines.append(f"{kind} {path}")
        if kind == "struct":
            plain = inner["kind"].get("plain", {}) if isinstance(inner["kind"], dict) else {}
            self.members(crate, plain.get("fields", []), path, "field")
        if kind == "enum":
            self.members(crate, inner["variants"], path, "variant")
        if kind == "trait":
            self.members(crate, inner["items"], path, None)
        for number in inner.get("impls", []):
            implementation = self.crates[crate]["index"].get(str(number))
            if implementation and implementation["inner"]["impl"]["trait"] is None:
                self.members(crate, implementation["inner"]["impl"]["items"], path, "fn")

    def members(self, crate, numbers, path, kind):
        """Fields, variants and methods that are public."""
        for number in numbers:
            member = self.crates[crate]["index"].get(str(number))
            if member is None or member["visibility"] not in ("public", "default"):
                continue
            named = kind or next(iter(member["inner"]))
            self.lines.append(f"{named} {path}::{member['name']}")


def main():
    crates = documents()
    surface = Surface(crates)
    serin = crates["serin"]
    surface.module("serin", serin["index"][str(serin["root"])], "serin")
    lines = sorted(surface.lines)
    text = "\n".join(lines) + "\n"
    # A field or a variant belongs to its type; what programs call and name is counted.
    items = [line for line in lines if not line.startswith(("field ", "variant "))]
    print(f"{surface.root} items at the root, {len(items)} in all, {len(lines)} with fields and variants")
    if "--write" in sys.argv[1:]:
        with open(KEPT, "w", encoding="utf-8") as file:
            file.write(text)
        return 0
    with open(KEPT, encoding="utf-8") as file:
        kept = file.read()
    new, gone = set(lines) - set(kept.splitlines()), set(kept.splitlines()) - set(lines)
    for line in sorted(new):
        print(f"new: {line}")
    for line in sorted(gone):
        print(f"gone: {line}")
    if new or gone:
        print("the public surface has changed: when that is meant, run .ci/public_api.py --write")
        return 1
    if surface.root > ROOT_ITEMS_MAX or len(items) > ITEMS_MAX:
        print(f"expected at most {ROOT_ITEMS_MAX} items at the root and {ITEMS_MAX} in all")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
