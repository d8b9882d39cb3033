"""copyright.py LICENSE SITE-PACKAGES: prints the file debian/copyright, ours and that of each package that comes along."""

import sys
from importlib.metadata import distributions
from pathlib import Path

ours, packages = Path(sys.argv[1]).read_text(), sys.argv[2]
lines = "\n".join(f" {line}" if line.strip() else " ." for line in ours.strip().splitlines())
print("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: mta\n")
print(f"Files: *\nCopyright: {ours.strip().splitlines()[2].removeprefix('Copyright (c) ')}\nLicense: Expat\n{lines}")
for each in sorted(distributions(path=[packages]), key=lambda each: each.name.lower()):
    if each.name == "mta":
        continue
    about = each.metadata
    tops = sorted({file.parts[0] for file in each.files or [] if file.parts[0] != ".."})
    where = "\n ".join(f"usr/lib/mta/lib/python3.*/site-packages/{top}{'' if '.' in top else '/*'}" for top in tops)
    licence = about.get("License-Expression") or (about.get("License") or "see its METADATA").splitlines()[0]
    who = about.get("Author") or about.get("Author-email") or about.get("Maintainer-email") or "its authors"
    print(
        f"\nFiles: {where}\nCopyright: {who}\nLicense: {licence}\n As in the licence file of {each.name} {each.version} beside its code."
    )
