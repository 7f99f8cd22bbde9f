# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which evidence leads to which finding, read from the analyzers' source and from recorded runs."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.catalogue import BY_ID
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.discovery import discover
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.evidence import EvidenceSet
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.findings import Context, parse_time
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.settings import from_variables
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.signatures import SIGNATURES
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.diagnosis import ANALYZERS

from tests.lab.settings import REPOSITORY

MODULE_UTILS = REPOSITORY / "plugins" / "module_utils"
RECORDS = REPOSITORY / "tests" / "evidence"
KIND = re.compile(r"(?:kubernetes|aws|probe)\.[a-z0-9_]+")
NOTED = {"cloud.py": "aws.", "cluster.py": "kubernetes."}
"""Collectors that leave the first word of their kinds to one function."""
NOTES = frozenset({"_note", "_items"})
LOG = "kubernetes.pod_log"
# These call every rule, or name kinds only to exclude them.
NOT_RULES = frozenset({"analyze", "rule_out"})


@dataclass(frozen=True)
class Function:
    """One function of an analyzer: its text constants and those of the module that it names, and what it uses.

    ``patterns`` are the ids that it puts together, ``uses`` the ``(module, name)`` of functions that it refers to.
    """

    module: str
    name: str
    texts: frozenset[str]
    patterns: frozenset[re.Pattern[str]]
    uses: frozenset[tuple[str, str]]

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of evidence that it names."""
        return frozenset(text for text in self.texts if KIND.fullmatch(text))


def _texts(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def _patterns(node: ast.AST) -> set[re.Pattern[str]]:
    """Formatted texts that begin with a section's name, as patterns."""
    found = set()
    for part in ast.walk(node):
        values = part.values if isinstance(part, ast.JoinedStr) else []
        if values and isinstance(values[0], ast.Constant) and str(values[0].value).partition(".")[0] in ANALYZERS:
            words = [re.escape(str(one.value)) if isinstance(one, ast.Constant) else "[a-z_]+" for one in values]
            found.add(re.compile("".join(words)))
    return found


def _origins(tree: ast.Module, module: str) -> dict[str, tuple[str, str]]:
    """Name in a module to the module and name that it stands for; an imported module stands for itself."""
    origins = {node.name: (module, node.name) for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                origins[alias.asname or alias.name] = (node.module or alias.name, alias.name)
    return origins


def functions(path: Path) -> Iterator[Function]:
    """The functions of one source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    origins = _origins(tree, path.stem)
    constants = {
        target.id: _texts(node)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            of_modules = {
                (origins[part.value.id][0], part.attr)
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in origins
            }
            texts = _texts(node).union(*(constants.get(name, set()) for name in names))
            uses = {origins[name] for name in names if name in origins} | of_modules
            yield Function(path.stem, node.name, frozenset(texts), frozenset(_patterns(node)), frozenset(uses))


@cache
def written() -> dict[str, frozenset[str]]:
    """Finding to kinds of evidence by the source: those named where it is built, by callees there and by callers."""
    paths = sorted((MODULE_UTILS / "sections").glob("*.py"))
    known = {(one.module, one.name): one for path in paths for one in functions(path) if one.name not in NOT_RULES}
    found: dict[str, set[str]] = defaultdict(set)
    for key, one in known.items():
        kinds = set(one.kinds).union(*(known[used].kinds for used in one.uses if used in known))
        kinds = kinds.union(*(other.kinds for other in known.values() if key in other.uses))
        for identifier in BY_ID:
            if identifier in one.texts or any(pattern.fullmatch(identifier) for pattern in one.patterns):
                found[identifier] |= kinds
    for signature in SIGNATURES:
        if signature.finding:
            found[signature.finding].add(LOG)
    return {identifier: frozenset(kinds) for identifier, kinds in found.items() if kinds}


@cache
def recorded() -> dict[str, frozenset[str]]:
    """Finding to kinds of evidence that it named as its proof, over all recorded runs."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(RECORDS.glob("*.json")):
        evidence = EvidenceSet.from_json(json.dumps(json.loads(path.read_text(encoding="utf-8"))["evidence"]))
        namespace = next(item.subject for item in evidence if item.what == "kubernetes.namespace")
        target = discover(evidence, from_variables({"mlflow_namespace": namespace})).target
        if target is None:
            continue
        context = Context(target, evidence, max(parse_time(item.at) for item in evidence))
        for analyze in ANALYZERS.values():
            for finding in analyze(context).findings:
                found[finding.id] |= {key.partition("@")[0] for key in finding.evidence}
    return {identifier: frozenset(kinds) for identifier, kinds in found.items() if kinds}


def proofs(identifier: str) -> frozenset[str]:
    """Kinds of evidence that prove a finding: as recorded runs showed, else as the source says."""
    return recorded().get(identifier) or written().get(identifier) or frozenset()


@cache
def collected() -> frozenset[str]:
    """Every kind of evidence that collectors and probes make, by their source."""
    found: set[str] = set()
    for path in [*(MODULE_UTILS / "collect").glob("*.py"), *(MODULE_UTILS / "probes").glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {text for text in _texts(tree) if KIND.fullmatch(text)}
        prefix = NOTED.get(path.name)
        if prefix:
            found |= {prefix + text for text in _noted(tree)}
    return frozenset(found)


def _noted(tree: ast.Module) -> set[str]:
    """First arguments of the functions that note evidence, and the first words of the table of lists."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NOTES:
            found |= _texts(node.args[0])
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "NAMESPACED"
        ):
            found |= {text for text in _texts(node) if not text.startswith("/")}
    return found
