"""Lists what the API document describes and no test ever saw: operation, status and problem code.

The tests note what they see in target/answers. Known gaps stand in answers_unseen.txt, which may only shrink; `*` there
means every operation, for what the shared gates answer and a few operations show for all.
"""

import json
import pathlib
import sys

METHODS = ("get", "post", "put", "patch", "delete")


def described(document: dict) -> set[str]:
    return {
        f"{operation['operationId']} {status} {code}"
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in METHODS
        for status, response in operation["responses"].items()
        for code in response.get("x-problem-codes", ["-"])
    }


def main() -> None:
    promised = described(json.loads(pathlib.Path("target/openapi.json").read_text()))
    notes = pathlib.Path("target/answers").glob("*")
    seen = {line for note in notes for line in note.read_text().splitlines()}
    allowed = set(pathlib.Path(__file__).with_name("answers_unseen.txt").read_text().splitlines())
    everywhere = {line.removeprefix("* ") for line in allowed if line.startswith("* ")}
    unseen = {line for line in promised - seen if line.split(" ", 1)[1] not in everywhere}
    for line in sorted(unseen - allowed):
        print("answers: described and never seen:", line)
    stale = {line for line in allowed - unseen if not line.startswith("* ")}
    for line in sorted(stale):
        print("answers: seen, or not described any more; take it off the list:", line)
    print(f"answers: {len(promised & seen)} of {len(promised)} described answers were seen, {len(unseen & allowed)} known gaps")
    sys.exit(1 if unseen - allowed or stale else 0)


main()
