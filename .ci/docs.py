"""Checks the documents: every relative link leads somewhere, and every crate of control/ has its page."""

import pathlib
import re
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def main() -> None:
    problems = []
    pages = [pathlib.Path("README.md"), pathlib.Path("CONTRIBUTING.md"), *pathlib.Path("docs").rglob("*.md")]
    for page in pages:
        for target in LINK.findall(page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                problems.append(f"{page}: {target} leads nowhere")
    for crate in pathlib.Path("control").iterdir():
        if (crate / "Cargo.toml").exists() and not pathlib.Path(f"docs/contexts/{crate.name}.md").exists():
            problems.append(f"docs/contexts/{crate.name}.md is missing")
    for line in problems:
        print("docs:", line)
    print(f"docs: {len(pages)} pages, {len(problems)} problems")
    sys.exit(1 if problems else 0)


main()
