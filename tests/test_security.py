"""What strangers' files could be made to do, and is not done. The rest is where it belongs: checkpoints that would run
code in test_checkpoint.py, playlists in test_probe.py, planted links in test_segments.py and test_files.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rcan_video"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Calls that hand text to a shell or to an interpreter, or bytes to an unpickler.
FORBIDDEN = {
    "os.system", "os.popen", "os.execl", "os.execv", "os.execvp", "os.spawnl", "os.spawnv", "os.spawnvp", "pty.spawn",
    "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec", "compile", "pickle.load", "pickle.loads",
    "marshal.load", "marshal.loads", "shelve.open",
}  # fmt: skip


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def dangers(source: str) -> list[str]:
    found = []
    for name, call in calls(ast.parse(source)):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in FORBIDDEN or given.get("shell", "False") != "False":
            found.append(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(name)
        if given.get("allow_pickle", "False") != "False":
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_shell_and_no_pickle(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "pickle.load(file)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_the_rule_can_fail(source: str) -> None:
    assert dangers(source)
    assert not dangers("net.eval(); subprocess.run(['ls']); torch.load(file, weights_only=True)")
