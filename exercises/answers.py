"""What a learner has written: the functions to check out of a notebook or a script, of which nothing else is run."""

import __future__

import ast
import json
import re
import symtable


class Answers:
    """A learner's file, read but not run. Raises ValueError for one that cannot be read.

    define(name) runs what the function of that name needs and nothing else: its definition, and the imports, constants,
    functions and classes whose names it uses.
    """

    def __init__(self, path):
        self.path, self.statements, self.broken, self.flags = path, [], [], 0
        self.place = "of its cell" if path.suffix == ".ipynb" else "of the file"
        for cell in code_cells(path):
            # What a notebook hands to the shell is no Python; the line stays, so that line numbers do.
            code = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in cell.split("\n"))
            try:
                self.statements += map(Statement, ast.parse(code).body)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                self.broken.append((cell, error))

        if any(isinstance(each.node, ast.ImportFrom) and each.node.module == "__future__" for each in self.statements):
            self.flags = __future__.annotations.compiler_flag  # the only one that is left

    def has(self, name):
        """Whether the file has a function of that name, be it one that cannot be read."""
        return self.is_broken(name) is not None or any(name in statement.binds for statement in self.statements)

    def is_broken(self, name):
        """The error in the cell that would define the name, or None."""
        for cell, error in self.broken:
            if re.search(rf"^\s*(def\s+{name}\b|{name}\s*=)", cell, re.MULTILINE):
                return error
        return None

    def define(self, name):
        """The function of that name, None if there is none. Raises ValueError, with the line, where it cannot be."""
        if error := self.is_broken(name):
            raise ValueError(broken(error, self.place))
        namespace = {"__name__": "answer"}
        for statement in self.needed(name):
            try:
                code = compile(ast.Module([statement.node], []), str(self.path), "exec", self.flags, dont_inherit=True)
                exec(code, namespace)
            except (Exception, SystemExit) as error:
                line = statement.node.lineno
                what = f"it cannot be defined, in line {line} {self.place}"
                if name not in statement.binds:
                    what = (
                        f"it needs {' and '.join(sorted(statement.binds))}, which line {line} {self.place} cannot make"
                    )
                raise ValueError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from None
        return namespace.get(name)

    def needed(self, name):
        """The statements that bind the name, or what they use, in the order of the file."""
        wanted, found = {name, "*"}, set()
        while new := {i for i, each in enumerate(self.statements) if each.binds & wanted} - found:
            found |= new
            wanted |= set().union(*(self.statements[i].uses for i in new))
        return [self.statements[i] for i in sorted(found)]

    def uses(self, name, other):
        """Whether the function of that name needs the other one."""
        return any(other in statement.binds for statement in self.needed(name))


class Statement:
    """One statement at the top level of a cell: the global names that it binds, and those that it uses."""

    def __init__(self, node):
        self.node, self.binds, self.uses = node, set(), set()
        if isinstance(node, ast.Expr):  # a print or a plot defines nothing
            return
        table = symtable.symtable(ast.unparse(node), "answer", "exec")
        self.binds = {each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()}
        self.uses = {each.get_name() for each in table.get_symbols() if each.is_referenced()}
        for child in descendants(table):
            self.uses |= {each.get_name() for each in child.get_symbols() if each.is_global()}
            self.binds |= {
                each.get_name() for each in child.get_symbols() if each.is_declared_global() and each.is_assigned()
            }
        for target in ast.walk(node):  # `table[0] = 1` changes what table is
            if isinstance(target, (ast.Subscript, ast.Attribute)) and isinstance(target.ctx, ast.Store):
                self.binds |= {each.id for each in ast.walk(target.value) if isinstance(each, ast.Name)}
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":  # it may bind anything
            self.binds |= {"*"}


def descendants(table):
    for child in table.get_children():
        yield child
        yield from descendants(child)


def broken(error, place):
    if isinstance(error, SyntaxError):
        return f"{error.msg}, in line {error.lineno} {place}: {(error.text or '').strip()}"
    return f"what stands there cannot be read: {error}"


def code_cells(path):
    """The code of a notebook cell by cell, or a script as one cell. Raises ValueError for a damaged file."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark in front of UTF-8
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x} in line {line}): save it as UTF-8"
        ) from None
    if path.suffix == ".py":
        return [text]
    try:
        cells = json.loads(text)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a notebook ({type(error).__name__}): `reset` makes a new one") from None
